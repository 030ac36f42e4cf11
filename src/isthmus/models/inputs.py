"""The vectors of a party's fields: from the fused table, and from vectors computed elsewhere."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.batch import FeatureBatch
from isthmus.models.layers import normal, seeded_linear
from isthmus.models.table import EmbeddingTable


class FieldVectors(nn.Module):
    """The table's vectors, then a linear function of each pre-computed vector.

    Args:
        layout: the party's fields; it has pre-computed vectors.
        width: numbers a vector.
        std: standard deviation of the table's initial values, and about that of the rest for
            inputs of mean square 1.
        rng: draws the initial values.
    """

    def __init__(self, layout: Layout, width: int, *, std: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.table = EmbeddingTable(layout, width, std=std, rng=rng) if layout.slots else None
        self.widths = [vector.width for vector in layout.vectors]
        self.linear = nn.ModuleList(_small_linear(n, width, std, rng) for n in self.widths)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """The vectors, float32 [batch, layout.gives, width]."""
        assert batch.dense is not None
        given = torch.split(batch.dense, self.widths, 1)
        made = [linear(one) for linear, one in zip(self.linear, given, strict=True)]
        vectors = torch.stack(made, 1)
        return vectors if self.table is None else torch.cat((self.table(batch), vectors), 1)


def field_vectors(
    layout: Layout, width: int, *, std: float, rng: np.random.Generator
) -> EmbeddingTable | FieldVectors:
    """The table alone where there are no pre-computed vectors: it has a backward pass by hand.

    Args:
        layout: the party's fields.
        width: numbers a vector.
        std: standard deviation of the initial vectors.
        rng: draws the initial values.
    """
    kind = FieldVectors if layout.vectors else EmbeddingTable
    return kind(layout, width, std=std, rng=rng)


def _small_linear(inputs: int, outputs: int, std: float, rng: np.random.Generator) -> nn.Linear:
    """As small at the start as the table's vectors, for the sums that both go into."""
    layer = seeded_linear(inputs, outputs, rng)
    with torch.no_grad():
        layer.weight.copy_(normal(outputs, inputs, std / math.sqrt(inputs), rng))
        layer.bias.zero_()
    return layer
