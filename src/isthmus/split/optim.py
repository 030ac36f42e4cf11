"""The optimiser of one party: Adam for dense parameters, row-wise Adam for embedding tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from isthmus.models import EmbeddingTable
from isthmus.split.options import TrainOptions


class RowAdam(torch.optim.Optimizer):
    """Adam that updates, and keeps moments of, only the rows a batch touches.

    Kingma and Ba, "Adam", ICLR 2015, algorithm 1, applied to rows with a gradient; moments of other
    rows stand still. The steps are those of `torch.optim.SparseAdam`, made faster and with weight
    decay. Gradients must be sparse over the first dimension.

    Args:
        parameters: two-dimensional tables.
        lr: step size.
        weight_decay: L2 penalty on the touched rows.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        rows, values = _row_gradient(parameter)
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64)
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        step = int(state["step"])
        beta1, beta2 = group["betas"]
        if group["weight_decay"]:
            values = values.add(parameter.index_select(0, rows), alpha=group["weight_decay"])
        mean = state["mean"].index_select(0, rows).lerp_(values, 1.0 - beta1)
        square = state["square"].index_select(0, rows)
        square.mul_(beta2).addcmul_(values, values, value=1.0 - beta2)
        state["mean"].index_copy_(0, rows, mean)
        state["square"].index_copy_(0, rows, square)
        # The form at the end of the paper's section 2: both corrections in the rate.
        denominator = square.sqrt_().add_(group["eps"])
        rate = group["lr"] * (1.0 - beta2**step) ** 0.5 / (1.0 - beta1**step)
        parameter.index_add_(0, rows, mean.div_(denominator), alpha=-rate)


def _row_gradient(parameter: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of a sparse gradient, int64 [touched], and their values [touched, ...]."""
    gradient = parameter.grad
    assert gradient is not None
    rows = gradient._indices()[0]
    # Autograd's accumulation drops the flag that says so, but one lookup's rows are ascending.
    if bool((rows[1:] > rows[:-1]).all()):
        return rows, gradient._values()
    gradient = gradient.coalesce()
    return gradient._indices()[0], gradient._values()


class PartyOptimizer:
    """Both optimisers of a module, stepped together.

    Args:
        module: a bottom or top model; the weights of `EmbeddingTable` and of `nn.Embedding` with
            `sparse=True` are updated row-wise, all else densely.
        options: rates and decays.
    """

    def __init__(self, module: nn.Module, options: TrainOptions) -> None:
        sparse = list(_sparse_parameters(module))
        known = {id(parameter) for parameter in sparse}
        dense = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
        embedding_rate = options.embedding_learning_rate or options.learning_rate
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if sparse:
            rows = RowAdam(sparse, lr=embedding_rate, weight_decay=options.embedding_decay)
            self._parts.append((rows, embedding_rate))
        if dense:
            adam = torch.optim.Adam(
                dense, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
            )
            self._parts.append((adam, options.learning_rate))

    def step(self, factor: float = 1.0) -> None:
        """Apply the gradients with the rates multiplied by `factor`, then drop them."""
        for optimizer, rate in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state as flat named tensors, for a checkpoint."""
        flat: dict[str, Tensor] = {}
        for part, (optimizer, _) in enumerate(self._parts):
            for index, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    flat[f"{part}.{index}.{name}"] = torch.as_tensor(value)
        return flat

    def load_tensors(self, flat: dict[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        for part, (optimizer, _) in enumerate(self._parts):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in flat.items():
                owner, index, name = key.split(".", 2)
                if int(owner) == part:
                    state.setdefault(int(index), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})


def _sparse_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    for part in module.modules():
        if isinstance(part, EmbeddingTable) or (isinstance(part, nn.Embedding) and part.sparse):
            yield cast(nn.Parameter, part.weight)
