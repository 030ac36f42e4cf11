"""One embedding table for all fields of a party, whose cost follows the batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch, RowPlan, plan_rows


class _Lookup(torch.autograd.Function):
    """`weight[index]`, whose gradient holds the touched rows only.

    The sum over equal rows is an `embedding_bag` over the gradient itself: on CPU several times
    faster than an uncoalesced sparse gradient, and with a fixed order of summation.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, index: Tensor, rows: Tensor, order: Tensor, offsets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(rows, order, offsets)
        ctx.size = weight.shape
        return F.embedding(index, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        rows, order, offsets = ctx.saved_tensors
        flat = gradients[0].reshape(-1, ctx.size[1])
        values = F.embedding_bag(order, flat, offsets, mode="sum")
        gradient = torch.sparse_coo_tensor(
            rows.unsqueeze(0), values, ctx.size, is_coalesced=True, check_invariants=False
        )
        return gradient, None, None, None, None


class EmbeddingTable(nn.Module):
    """Rows of embeddings whose sparse gradient holds each touched row once.

    Row 0 is padding: it is zero and never trained.

    Args:
        rows: number of rows, padding included.
        width: numbers a row.
        std: standard deviation of the initial values.
        generator: draws the initial values.
    """

    def __init__(self, rows: int, width: int, *, std: float, generator: torch.Generator) -> None:
        super().__init__()
        weight = torch.empty(rows, width).normal_(0.0, std, generator=generator)
        weight[0] = 0.0
        self.weight = nn.Parameter(weight)

    def forward(self, index: Tensor, plan: RowPlan | None = None) -> Tensor:
        """Look up `index` (int32 [batch, columns]); float32 [batch, columns, width]."""
        if not torch.is_grad_enabled():
            return F.embedding(index, self.weight)
        if plan is None:
            plan = plan_rows(index.cpu().numpy())
        output: Tensor = _Lookup.apply(self.weight, index, plan.rows, plan.order, plan.offsets)  # type: ignore[no-untyped-call]
        return output


class FieldEmbedding(nn.Module):
    """A vector a field: a category's row, a number times its row, the mean of a set's rows.

    Args:
        layout: the party's fields and where they lie in the table.
        width: numbers a row of the table.
        std: standard deviation of the initial values.
        generator: draws the initial values.
    """

    def __init__(
        self, layout: Layout, width: int, *, std: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.table = EmbeddingTable(layout.table_rows, width, std=std, generator=generator)
        self.fields = len(layout.fields)
        self._runs = _runs(layout)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """The fields' vectors, float32 [batch, fields, width]."""
        looked_up = self.table(batch.index, batch.plan)
        parts = [
            part if single else part.sum(1, keepdim=True)
            for single, part in (
                (single, looked_up[:, start:stop]) for single, start, stop in self._runs
            )
        ]
        fields = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return fields if batch.scale is None else fields * batch.scale.unsqueeze(-1)


def _runs(layout: Layout) -> list[tuple[bool, int, int]]:
    """Columns as (one column a field?, start, stop), neighbouring single columns joined."""
    runs: list[tuple[bool, int, int]] = []
    for field in layout.fields:
        single = field.width == 1
        stop = field.start + field.width
        if single and runs and runs[-1][0]:
            runs[-1] = (True, runs[-1][1], stop)
        else:
            runs.append((single, field.start, stop))
    return runs
