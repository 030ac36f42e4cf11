"""A batch of encoded features, with all that can be prepared before the weights are known.

In lock-step training a party waits for its partner once a batch. What depends on the rows alone,
not on the weights, is done in that time: grouping the lookups by embedding row for the backward
pass, and the weight of each lookup.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from isthmus.data.features import Layout


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Which rows of the embedding table a batch touches, and where each one's gradient comes from.

    Padding (row 0) is left out: it has no gradient.
    """

    rows: Tensor
    """int64 [touched]: the distinct rows, ascending."""
    sources: Tensor
    """int64 [lookups]: positions in the fields' gradient [batch * slots], grouped by row."""
    offsets: Tensor
    """int64 [touched]: where each row's group starts in `sources`."""
    weights: Tensor | None
    """float32 [lookups]: the weight of each lookup in `sources`; None where all are 1."""

    def to(self, device: torch.device) -> RowPlan:
        """The plan on another device."""
        moved = (_move(getattr(self, field.name), device) for field in fields(self))
        return RowPlan(*moved)  # type: ignore[arg-type]


class RowReader(Protocol):
    """A table that batches are looked up in."""

    def fetch(self, rows: Tensor) -> None:
        """Bring the rows `rows` int64 [touched] into the processor's caches."""


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """What a bottom model takes."""

    index: Tensor
    """int32 [batch, columns]: rows of the fused embedding table, 0 = padding."""
    weights: Tensor | None
    """float32 [batch, columns], what each lookup is multiplied by: 1 for a category, the z-score
    for a number, 1/tokens for a token of a set; None where all are 1."""
    plan: RowPlan | None = None
    """Set where a backward pass will follow."""
    readers: WeakSet[RowReader] | None = None
    """Of the data set that made the batch: tables that look it up enter themselves."""
    dense: Tensor | None = None
    """float32 [batch, sum of widths]: the pre-computed vectors; None where there are none."""

    def __len__(self) -> int:
        return self.index.shape[0]

    def to(self, device: torch.device) -> FeatureBatch:
        """The batch on another device."""
        plan = None if self.plan is None else self.plan.to(device)
        weights = _move(self.weights, device)
        dense = _move(self.dense, device)
        return FeatureBatch(self.index.to(device), weights, plan, self.readers, dense)


def make_batch(
    layout: Layout,
    index: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    *,
    backward: bool,
    readers: WeakSet[RowReader] | None = None,
) -> FeatureBatch:
    """A batch from gathered features.

    Args:
        layout: where each field's columns lie.
        index: int32 [batch, columns].
        values: float32 [batch, values], the z-scores of the numeric fields, then the vectors.
        backward: whether a backward pass will follow, which needs the row plan.
        readers: the tables that looked earlier batches up: they fetch the rows of this one.
    """
    weights = _weights(layout, index, values)
    plan = plan_rows(layout, index, weights) if backward else None
    if plan is not None:
        for reader in readers or ():
            reader.fetch(plan.rows)
    packed = None if weights is None else torch.from_numpy(weights)
    dense = torch.from_numpy(values[:, layout.vectors[0].start :]) if layout.vectors else None
    return FeatureBatch(torch.from_numpy(index), packed, plan, readers, dense)


def plan_rows(
    layout: Layout, index: npt.NDArray[np.int32], weights: npt.NDArray[np.float32] | None
) -> RowPlan:
    """Group the lookups of `index` (int32 [batch, columns]) by the table row that they touch."""
    flat = index.reshape(-1)
    order = np.argsort(flat)
    ordered = flat[order]
    padding = int(np.searchsorted(ordered, 1))
    order, ordered = order[padding:], ordered[padding:]
    first = np.empty(len(ordered), dtype=bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    offsets = np.flatnonzero(first)
    return RowPlan(
        rows=torch.from_numpy(ordered[offsets].astype(np.int64)),
        sources=torch.from_numpy(_sources(layout, order)),
        offsets=torch.from_numpy(offsets),
        weights=None if weights is None else torch.from_numpy(weights.reshape(-1)[order]),
    )


def _sources(layout: Layout, lookups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if layout.columns == layout.slots:
        return lookups
    widths = [field.width // field.slots for field in layout.fields for _ in range(field.slots)]
    slot_of_column = np.repeat(np.arange(layout.slots), widths)
    sample, column = np.divmod(lookups, layout.columns)
    return sample * layout.slots + slot_of_column[column]


def _weights(
    layout: Layout, index: npt.NDArray[np.int32], values: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32] | None:
    if all(f.value_column is None and f.width == f.slots for f in layout.fields):
        return None
    weights = np.ones(index.shape, dtype=np.float32)
    for field in layout.fields:
        if field.value_column is not None:
            weights[:, field.start] = values[:, field.value_column]
        elif field.width > field.slots:
            tokens = index[:, field.columns]
            counts = np.maximum((tokens != 0).sum(1, keepdims=True), 1)
            weights[:, field.columns] = np.float32(1.0) / counts
    return weights


def _move(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
