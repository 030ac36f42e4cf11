"""What the bottoms and tops of several networks have in common: fields, towers, sums over parties.

A bottom has a vector and a linear term for each of its party's fields, and a lower tower over the
vectors, which gives `deep`. Most tops have an upper tower over all parties' `deep`. What a network
adds to these, in its cut and in its logit, stands in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.inputs import field_vectors
from isthmus.models.mlp import Mlp

Cuts = Mapping[str, Mapping[str, Tensor]]
"""Each party's cut: its tensors by name."""


@dataclass(frozen=True)
class BottomOptions:
    """What the bottom of every network is told."""

    dim: int = 16
    """Width of the embeddings, the same at all parties."""
    hidden: Sequence[int] = (64, 32)
    """Widths of the lower tower; the last is the width of `deep`."""
    dropout: float = 0.0
    """Rate after each layer."""
    embedding_std: float = 0.01
    """Standard deviation of the initial embeddings."""
    seed: int = 0
    """Of the initial values and dropout masks; the party's own."""


@dataclass(frozen=True)
class TopOptions:
    """What the top of every network is told."""

    hidden: Sequence[int] = (64, 32)
    """Widths of the upper tower."""
    dropout: float = 0.0
    """Rate after each layer."""
    seed: int = 0
    """Of the initial values and dropout masks."""


class FieldsBottom(nn.Module):
    """Embeddings and linear terms of a party's fields in one table, and a lower tower.

    Args:
        layout: the party's encoded fields.
        options: sizes and rates.
        rng: draws the initial values, the table's before the tower's.
    """

    def __init__(self, layout: Layout, options: BottomOptions, rng: np.random.Generator) -> None:
        super().__init__()
        self.inputs = layout.gives * options.dim
        """Width of all vectors side by side."""
        self.table = field_vectors(layout, options.dim + 1, std=options.embedding_std, rng=rng)
        self.tower = Mlp(self.inputs, options.hidden, dropout=options.dropout, rng=rng)


class TowerTop(nn.Module):
    """An upper tower over all parties' `deep`.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        beside: the other tensors of a cut, and their shapes for one sample.
        options: sizes and rates.
        rng: draws the initial values.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        beside: Mapping[str, tuple[int, ...]],
        options: TopOptions,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.parties = tuple(widths)
        self.expects = expected(widths, beside)
        inputs = sum(widths.values())
        self.tower = Mlp(inputs, options.hidden, outputs=1, dropout=options.dropout, rng=rng)


def expected(
    widths: Mapping[str, int], beside: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of each party's cut for one sample: its own width of `deep`, the same beside."""
    return {party: {"deep": (width,), **beside} for party, width in widths.items()}


def vectors_and_first(fields: Tensor) -> tuple[Tensor, Tensor]:
    """From fields [batch, fields, dim + 1] to vectors [batch, fields, dim] and the sum of the
    linear terms [batch, 1].
    """
    return fields[..., :-1], fields[..., -1:].sum(1)


def joined(cuts: Cuts, parties: Sequence[str], name: str) -> Tensor:
    """The parties' tensors `name` side by side: [batch, sum of widths, ...]."""
    return torch.cat([cuts[party][name] for party in parties], 1)


def summed(cuts: Cuts, parties: Sequence[str], name: str) -> Tensor:
    """The sum over parties of the tensors `name`."""
    first, *others = (cuts[party][name] for party in parties)
    return sum(others, start=first)
