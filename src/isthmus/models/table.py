"""One embedding table for all fields of a party, whose cost follows the batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch, RowPlan, plan_rows
from isthmus.models.layers import normal
from isthmus.models.rows import fetch_rows

_SUM = 0
"""Torch's number of the mode of an embedding bag."""


class RowKeeper(Protocol):
    """What updates a table's rows, some of them perhaps later."""

    def fetch(self, rows: Tensor) -> None:
        """Make ready for a batch that touches `rows`, int64 [touched], distinct and ascending."""

    def look_up(self, rows: Tensor) -> None:
        """Have `rows` up to date."""

    def settle(self) -> None:
        """Have all rows up to date."""


class EmbeddingTable(nn.Module):
    """Rows of embeddings whose sparse gradient holds each touched row once.

    A field's vector is the weighted sum of its rows: a category's row, a number times its row, the
    mean of a set's rows. A sequence that is kept position by position gives a vector a position.
    Row 0 is padding: it is zero and never trained.

    Args:
        layout: the party's fields and where they lie in the table.
        width: numbers a row.
        std: standard deviation of the initial values.
        rng: draws the initial values.
    """

    def __init__(self, layout: Layout, width: int, *, std: float, rng: np.random.Generator) -> None:
        super().__init__()
        weight = normal(layout.table_rows, width, std, rng)
        weight[0] = 0.0
        self.weight = nn.Parameter(weight)
        self.layout = layout
        self.around: Callable[[Tensor], AbstractContextManager[None]] | None = None
        """Made for the rows of each lookup that a backward pass will follow, and entered for it."""
        self._keeper: weakref.ref[RowKeeper] | None = None
        self._starts = torch.tensor(_starts(layout), dtype=torch.int32)
        self._bags = torch.empty(0, dtype=torch.int32)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """The fields' vectors, float32 [batch, layout.slots, width]."""
        bags = self._bags_of(len(batch), batch.index.device)
        if not torch.is_grad_enabled():
            return _look_up(self.weight, batch, bags)
        plan = batch.plan or self._plan(batch)
        if batch.readers is not None:
            batch.readers.add(self)
        weight = self._ready(plan.rows)
        with nullcontext() if self.around is None else self.around(plan.rows):
            vectors: Tensor = _Lookup.apply(weight, batch, bags, plan)  # type: ignore[no-untyped-call]
        return vectors

    def run(self, batch: FeatureBatch) -> tuple[Tensor, Callable[[Tensor], None]]:
        """The vectors without autograd, and the way back, which adds to the weight's `grad`."""
        plan = batch.plan or self._plan(batch)
        if batch.readers is not None:
            batch.readers.add(self)
        bags = self._bags_of(len(batch), batch.index.device)
        weight = self._ready(plan.rows)
        with nullcontext() if self.around is None else self.around(plan.rows):
            vectors = _look_up(weight, batch, bags)

        def back(gradient: Tensor) -> None:
            if weight.requires_grad:
                slope = _row_gradient(plan, weight.shape, gradient)
                weight.grad = slope if weight.grad is None else weight.grad + slope

        return vectors, back

    def fetch(self, rows: Tensor) -> None:
        """See `RowReader.fetch`."""
        keeper = self._kept()
        if keeper is None:
            fetch_rows(self.weight, rows)
        else:
            keeper.fetch(rows)

    def keep(self, keeper: RowKeeper) -> None:
        """Let an optimiser put updates of rows off, while it is there.

        The weight, the state and lookups are as if it did not. Who reads the weight by way of
        `parameters()` in the middle of a step sees some rows as they were before the last update.
        """
        self._keeper = weakref.ref(keeper)

    def __getattr__(self, name: str) -> Any:
        """The weight as it is once all updates have been made."""
        if name == "weight":
            self._settle()
        return super().__getattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this table's training alone."""
        self._settle()
        return {**self.__dict__, "_keeper": None, "around": None}

    def _save_to_state_dict(self, *args: Any) -> None:
        self._settle()
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._settle()
        super()._load_from_state_dict(*args)

    def _kept(self) -> RowKeeper | None:
        keeper = self.__dict__.get("_keeper")
        return None if keeper is None else keeper()

    def _settle(self) -> None:
        if (keeper := self._kept()) is not None:
            keeper.settle()

    def _ready(self, rows: Tensor) -> Tensor:
        """The weight, of which `rows` are up to date."""
        if (keeper := self._kept()) is not None:
            keeper.look_up(rows)
        return cast(Tensor, self._parameters["weight"])

    def _bags_of(self, batch: int, device: torch.device) -> Tensor | None:
        """int32 [batch * slots]: where the columns of each vector start in the flat index.

        None where each vector has one column.
        """
        slots, columns = self.layout.slots, self.layout.columns
        if slots == columns:
            return None
        if len(self._bags) < batch * slots or self._bags.device != device:
            samples = torch.arange(batch, dtype=torch.int32).unsqueeze(1)
            self._bags = (samples * columns + self._starts).reshape(-1).to(device)
        return self._bags[: batch * slots]

    def _plan(self, batch: FeatureBatch) -> RowPlan:
        weights = None if batch.weights is None else batch.weights.cpu().numpy()
        index = batch.index.cpu().numpy().astype(np.int32, copy=False)
        return plan_rows(self.layout, index, weights).to(batch.index.device)


def _starts(layout: Layout) -> list[int]:
    return [field.start + i for field in layout.fields for i in range(field.slots)]


def _look_up(weight: Tensor, batch: FeatureBatch, bags: Tensor | None) -> Tensor:
    if bags is None:
        vectors = F.embedding(batch.index, weight)
        return vectors if batch.weights is None else vectors * batch.weights.unsqueeze(-1)
    weights = None if batch.weights is None else batch.weights.reshape(-1)
    # Not by way of `nn.functional`, whose checks take as long as the lookup of a small batch.
    flat = torch.embedding_bag(
        weight, batch.index.reshape(-1), bags, mode=_SUM, per_sample_weights=weights
    )[0]
    return flat.reshape(len(batch), -1, weight.shape[1])


class _Lookup(torch.autograd.Function):
    """The fields' vectors, with a gradient of the touched rows only.

    The sum over equal rows is an `embedding_bag` over the gradient itself: on CPU several times
    faster than coalescing a sparse gradient, and with a fixed order of summation.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, batch: FeatureBatch, bags: Tensor | None, plan: RowPlan
    ) -> Tensor:
        ctx.plan, ctx.size = plan, weight.shape
        return _look_up(weight, batch, bags)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _row_gradient(ctx.plan, ctx.size, gradients[0]), None, None, None


def _row_gradient(plan: RowPlan, size: torch.Size, of_vectors: Tensor) -> Tensor:
    flat = of_vectors.reshape(-1, size[1])
    values = torch.embedding_bag(
        flat, plan.sources, plan.offsets, mode=_SUM, per_sample_weights=plan.weights
    )[0]
    return torch.sparse_coo_tensor(
        plan.rows.unsqueeze(0), values, size, is_coalesced=True, check_invariants=False
    )
