"""A batch of encoded features, with all that can be prepared before the weights are known.

In lock-step training a party waits for its partner once a batch. What depends on the rows alone,
not on the weights, is done in that time: sorting the embedding rows for the backward pass, and the
scale of each field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from isthmus.data.features import Layout


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Which rows of the embedding table a batch touches, and which lookups fall on each.

    Padding (row 0) is left out: it has no gradient.
    """

    rows: Tensor
    """int64 [touched]: the distinct rows, ascending."""
    order: Tensor
    """int64 [lookups]: flat positions in the batch's index, grouped by row."""
    offsets: Tensor
    """int64 [touched]: where each row's group starts in `order`."""


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """What a bottom model takes."""

    index: Tensor
    """int32 [batch, columns]: rows of the fused embedding table, 0 = padding."""
    scale: Tensor | None
    """float32 [batch, fields]: 1 for a category, the z-score for a number, 1/tokens for a
    multi-hot field; None where every field is a category."""
    plan: RowPlan | None = None
    """Set where a backward pass will follow."""

    def __len__(self) -> int:
        return self.index.shape[0]

    def to(self, device: torch.device) -> FeatureBatch:
        """The batch on another device."""
        plan = self.plan
        return FeatureBatch(
            self.index.to(device),
            None if self.scale is None else self.scale.to(device),
            None
            if plan is None
            else RowPlan(plan.rows.to(device), plan.order.to(device), plan.offsets.to(device)),
        )


def plan_rows(index: npt.NDArray[np.int32]) -> RowPlan:
    """Group the lookups of `index` (int32, any shape) by the table row that they touch."""
    flat = index.reshape(-1)
    order = np.argsort(flat)
    ordered = flat[order]
    order = order[np.searchsorted(ordered, 1) :]
    ordered = flat[order]
    first = np.empty(len(ordered), dtype=bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    offsets = np.flatnonzero(first)
    return RowPlan(
        torch.from_numpy(ordered[offsets].astype(np.int64)),
        torch.from_numpy(order),
        torch.from_numpy(offsets),
    )


def make_batch(
    layout: Layout,
    index: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    *,
    backward: bool,
) -> FeatureBatch:
    """A batch from gathered features.

    Args:
        layout: where each field's columns lie.
        index: int32 [batch, columns].
        values: float32 [batch, values], the z-scores of the numeric fields.
        backward: whether a backward pass will follow, which needs the row plan.
    """
    scale = _scale(layout, index, values)
    return FeatureBatch(
        torch.from_numpy(index),
        None if scale is None else torch.from_numpy(scale),
        plan_rows(index) if backward else None,
    )


def _scale(
    layout: Layout, index: npt.NDArray[np.int32], values: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32] | None:
    if all(field.kind == "categorical" for field in layout.fields):
        return None
    scale = np.ones((len(index), len(layout.fields)), dtype=np.float32)
    for position, field in enumerate(layout.fields):
        if field.value_column is not None:
            scale[:, position] = values[:, field.value_column]
        elif field.width > 1:
            tokens = index[:, field.start : field.start + field.width]
            scale[:, position] = 1.0 / np.maximum((tokens != 0).sum(1), 1)
    return scale
