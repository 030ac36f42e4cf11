"""The optimiser of one party: Adam for dense parameters, row-wise Adam for embedding tables.

Not built on `torch.optim.Optimizer`: constructing one imports torch's compiler (seconds and a
hundred megabytes a process), and its hooks cost a tenth of a small step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from isthmus.models import EmbeddingTable
from isthmus.split.options import TrainOptions

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class DenseAdam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) with the fused kernel of `torch.optim.Adam`.

    Args:
        parameters: dense parameters.
        lr: step size.
        weight_decay: L2 penalty, added to the gradient.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float = 0.0
    ) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self._decay = weight_decay
        self._mean = [torch.zeros_like(p) for p in self.parameters]
        self._square = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Update the parameters that have a gradient, then drop the gradients."""
        used = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        adam(
            [self.parameters[i] for i in used],
            [cast(Tensor, self.parameters[i].grad) for i in used],
            [self._mean[i] for i in used],
            [self._square[i] for i in used],
            [],
            [self._steps[i] for i in used],
            fused=True,
            amsgrad=False,
            beta1=_BETA1,
            beta2=_BETA2,
            lr=self.lr * factor,
            weight_decay=self._decay,
            eps=_EPS,
            maximize=False,
        )
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The state, by name."""
        groups = {"mean": self._mean, "square": self._square, "step": self._steps}
        return {f"{name}.{i}": t for name, group in groups.items() for i, t in enumerate(group)}


class RowAdam:
    """Adam that updates, and keeps moments of, only the rows a batch touches.

    Moments of other rows stand still ("lazy" Adam). The steps are those of
    `torch.optim.SparseAdam`, made faster and with weight decay. Gradients must be sparse over the
    first dimension.

    Args:
        parameters: two-dimensional tables.
        lr: step size.
        weight_decay: L2 penalty on the touched rows.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float = 0.0
    ) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self._decay = weight_decay
        self._mean = [torch.zeros_like(p) for p in self.parameters]
        self._square = [torch.zeros_like(p) for p in self.parameters]
        self._step = torch.zeros(len(self.parameters), dtype=torch.int64)

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Update the rows that have a gradient, then drop the gradients."""
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                self._update(i, parameter, self.lr * factor)
                parameter.grad = None

    def _update(self, i: int, parameter: Tensor, lr: float) -> None:
        rows, values = _row_gradient(parameter)
        self._step[i] += 1
        step = int(self._step[i])
        if self._decay:
            values = values.add(parameter.index_select(0, rows), alpha=self._decay)
        mean = self._mean[i].index_select(0, rows).lerp_(values, 1.0 - _BETA1)
        square = self._square[i].index_select(0, rows)
        square.mul_(_BETA2).addcmul_(values, values, value=1.0 - _BETA2)
        self._mean[i].index_copy_(0, rows, mean)
        self._square[i].index_copy_(0, rows, square)
        # The form at the end of the paper's section 2: both corrections in the rate.
        rate = lr * (1.0 - _BETA2**step) ** 0.5 / (1.0 - _BETA1**step)
        parameter.index_add_(0, rows, mean.div_(square.sqrt_().add_(_EPS)), alpha=-rate)

    def tensors(self) -> dict[str, Tensor]:
        """The state, by name."""
        groups = {"mean": self._mean, "square": self._square}
        flat = {f"{name}.{i}": t for name, group in groups.items() for i, t in enumerate(group)}
        return flat | {"step": self._step}


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
        sparse = list(sparse_parameters(module))
        known = {id(parameter) for parameter in sparse}
        dense = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
        self._parts: dict[str, RowAdam | DenseAdam] = {}
        if sparse:
            rate = options.embedding_learning_rate or options.learning_rate
            self._parts["rows"] = RowAdam(sparse, lr=rate, weight_decay=options.embedding_decay)
        if dense:
            self._parts["dense"] = DenseAdam(
                dense, lr=options.learning_rate, weight_decay=options.weight_decay
            )

    def step(self, factor: float = 1.0) -> None:
        """Apply the gradients with the rates multiplied by `factor`, then drop them."""
        for part in self._parts.values():
            part.step(factor)

    def tensors(self) -> dict[str, Tensor]:
        """The state as flat named tensors, for a checkpoint."""
        return {
            f"{name}.{key}": tensor
            for name, part in self._parts.items()
            for key, tensor in part.tensors().items()
        }

    def load_tensors(self, saved: Mapping[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        for key, tensor in self.tensors().items():
            tensor.copy_(saved[key])


def sparse_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The embedding tables in `module`, whose gradients hold touched rows only."""
    for part in module.modules():
        if isinstance(part, EmbeddingTable) or (isinstance(part, nn.Embedding) and part.sparse):
            yield cast(nn.Parameter, part.weight)
