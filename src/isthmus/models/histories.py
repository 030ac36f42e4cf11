"""Bottoms and tops that read histories item by item, beside DeepFM's three tensors.

What DIN and BST share. The backbone is DeepFM over all fields, with each history as one pooled
field, the mean of its items; what a model adds to it is its *reading* of each history: 2 * dim
numbers that depend on the history and on the candidate, the item that the sample is about. They
enter the upper tower. Where the reading is computed depends on where the candidate is:

- at the history's party: in that party's bottom; only the reading crosses (`readings`);
- at the label party, `interests` (the default): the history's party sends a few mixtures of its
  items, made without the candidate, and the top reads those (`interests`). Not the function of the
  pooled model in its textbook form: a handful of vectors stand for the items;
- at the label party, `sent`: every item's vector crosses and the top reads the history itself
  (`history`, `mask`). Exact: the same function as with both in one place.

The candidate's vector never leaves the label party (`candidate` is part of its own, local cut).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data.features import Layout
from isthmus.models.attention import TargetAttention, mask_of
from isthmus.models.batch import FeatureBatch
from isthmus.models.inputs import field_vectors
from isthmus.models.mlp import Mlp


@dataclass(frozen=True)
class History:
    """A sequence of a party, and the field of the same party that holds the candidate."""

    name: str
    length: int
    candidate: str | None = None
    """None: the candidate is at the label party."""


@dataclass(frozen=True)
class Side:
    """What a party's bottom gives beside DeepFM's three tensors; known to bottom and top."""

    histories: tuple[History, ...] = ()
    offers: str | None = None
    """At the label party: the field whose vector the top takes for the candidate."""

    @property
    def here(self) -> tuple[History, ...]:
        """The histories whose candidate is at the same party."""
        return tuple(history for history in self.histories if history.candidate is not None)

    @property
    def apart(self) -> tuple[History, ...]:
        """The others."""
        return tuple(history for history in self.histories if history.candidate is None)


class Style(Protocol):
    """How a model reads; `Din` and `Bst` are two."""

    @property
    def dim(self) -> int:
        """Width of the embeddings."""

    @property
    def tokens(self) -> int:
        """Interests a history."""

    @property
    def sent(self) -> bool:
        """Whether histories without their candidate are sent whole."""

    @property
    def hidden(self) -> int:
        """Width inside the candidate's attention."""

    def reader(self, length: int, rng: np.random.Generator) -> nn.Module:
        """From candidate [batch, dim], items [batch, length, dim] and mask to [batch, 2 * dim]."""

    def digest(self, length: int, rng: np.random.Generator) -> nn.Module:
        """From items [batch, length, dim] and mask to interests [batch, tokens, dim]."""


class TargetReader(nn.Module):
    """The candidate's attention over items or interests, and its product with the candidate.

    Args:
        width: of items and candidate.
        hidden: width inside the attention.
        rng: draws the initial values.
    """

    def __init__(self, width: int, hidden: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.attention = TargetAttention(width, rng, hidden)

    def forward(self, candidate: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """From [batch, width], [batch, n, width] and bool [batch, n] to [batch, 2 * width]."""
        interest = self.attention(candidate, items, mask)
        return torch.cat((interest, interest * candidate), 1)


class HistoryBottom(nn.Module):
    """A party's half: DeepFM's bottom over fields and pooled histories, and what `side` says.

    Args:
        layout: the party's encoded fields, its histories kept position by position.
        side: which histories it has and what it gives of them.
        style: how they are read.
        hidden: widths of the lower tower; the last is the width of `deep`.
        dropout: rate after each layer of the tower.
        embedding_std: standard deviation of the initial embeddings.
        seed: of the initial values and dropout masks; the party's own.

    Raises:
        KeyError: the layout lacks a field that `side` names.
        ValueError: a history's length is not the layout's, or its candidate has several vectors.
    """

    def __init__(
        self,
        layout: Layout,
        side: Side,
        style: Style,
        *,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        embedding_std: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.layout, self.side, self.sent = layout, side, style.sent
        self._check()
        self._histories = [layout.slots_of(history.name) for history in side.histories]
        self._plain = _between(self._histories, layout.gives)
        self.table = field_vectors(layout, style.dim + 1, std=embedding_std, rng=rng)
        plain = sum(place.stop - place.start for place in self._plain)
        fields = plain + len(side.histories)
        self.tower = Mlp(fields * style.dim, hidden, dropout=dropout, rng=rng)
        self.readers = nn.ModuleList(style.reader(h.length, rng) for h in side.here)
        digested = () if style.sent else side.apart
        self.digests = nn.ModuleList(style.digest(h.length, rng) for h in digested)

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """The cut: `deep`, `sum`, `first` as DeepFM's, and what `cut_of` lists; all float32."""
        vectors = self.table(batch)
        masks = {h.name: mask_of(batch, self.layout, h.name) for h in self.side.histories}
        items = {
            h.name: vectors[:, place]
            for h, place in zip(self.side.histories, self._histories, strict=True)
        }
        pooled = [_mean(items[name], mask) for name, mask in masks.items()]
        plain = (vectors[:, place] for place in self._plain)
        fields = torch.cat([*plain, *(p.unsqueeze(1) for p in pooled)], 1)
        flat = fields[..., :-1].flatten(1)
        cut = {
            "deep": self.tower(flat),
            "sum": fields[..., :-1].sum(1),
            "first": fields[..., -1].sum(1, keepdim=True) - 0.5 * flat.square().sum(1, True),
        }
        return cut | self._read(vectors[..., :-1], items, masks)

    def _read(
        self, vectors: Tensor, items: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        cut, side = {}, self.side
        if side.here:
            readings = [
                reader(self._one(vectors, h.candidate), items[h.name][..., :-1], masks[h.name])
                for reader, h in zip(self.readers, side.here, strict=True)
            ]
            cut["readings"] = torch.cat(readings, 1)
        if side.apart and self.sent:
            cut["history"] = torch.cat([items[h.name][..., :-1] for h in side.apart], 1)
            cut["mask"] = torch.cat([masks[h.name] for h in side.apart], 1).to(vectors.dtype)
        elif side.apart:
            interests = [
                digest(items[h.name][..., :-1], masks[h.name])
                for digest, h in zip(self.digests, side.apart, strict=True)
            ]
            cut["interests"] = torch.cat(interests, 1)
        if side.offers is not None:
            cut["candidate"] = self._one(vectors, side.offers)
        return cut

    def _one(self, vectors: Tensor, name: str | None) -> Tensor:
        assert name is not None
        return vectors[:, self.layout.slots_of(name).start]

    def _check(self) -> None:
        for history in self.side.histories:
            field = self.layout.field(history.name)
            if not field.slots == field.width == history.length:
                raise ValueError(
                    f"{history.name!r} has {field.slots} vectors of {field.width} columns, "
                    f"wanted {history.length}"
                )
        for name in (*(h.candidate for h in self.side.here), self.side.offers):
            if name is not None and self.layout.field(name).slots != 1:
                raise ValueError(f"the candidate {name!r} has several vectors")


def cut_of(side: Side, style: Style) -> dict[str, tuple[int, ...]]:
    """The tensors that a bottom gives beside DeepFM's, and their shapes for one sample."""
    given: dict[str, tuple[int, ...]] = {}
    if side.here:
        given["readings"] = (2 * style.dim * len(side.here),)
    if side.apart and style.sent:
        positions = sum(history.length for history in side.apart)
        given |= {"history": (positions, style.dim), "mask": (positions,)}
    elif side.apart:
        given["interests"] = (style.tokens * len(side.apart), style.dim)
    if side.offers is not None:
        given["candidate"] = (style.dim,)
    return given


class HistoryTop(nn.Module):
    """The label party's half: DeepFM's top, whose upper tower also takes all readings.

    Args:
        widths: width of each party's `deep`, in the agreed order of the parties.
        sides: what each of them gives, in the same order.
        style: how histories are read.
        hidden: widths of the upper tower.
        dropout: rate after each layer of the tower.
        seed: of the initial values and dropout masks.

    Raises:
        ValueError: histories need a candidate, and not exactly one party offers it.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        sides: Mapping[str, Side],
        style: Style,
        *,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.sides, self.sent = dict(sides), style.sent
        self.expects = {
            party: {"deep": (width,), "sum": (style.dim,), "first": (1,)}
            | cut_of(self.sides[party], style)
            for party, width in widths.items()
        }
        offering = [party for party in widths if self.sides[party].offers is not None]
        apart = [(party, h) for party in widths for h in self.sides[party].apart]
        if apart and len(offering) != 1:
            raise ValueError(f"{len(offering)} parties offer the candidate, wanted one")
        self._offering = offering[0] if offering else None
        self._sizes = [h.length if style.sent else style.tokens for _, h in apart]
        self.readers = nn.ModuleList(
            style.reader(h.length, rng)
            if style.sent
            else TargetReader(style.dim, style.hidden, rng)
            for _, h in apart
        )
        readings = 2 * style.dim * sum(len(self.sides[party].histories) for party in widths)
        inputs = sum(widths.values()) + readings
        self.tower = Mlp(inputs, hidden, outputs=1, dropout=dropout, rng=rng)

    def forward(self, cuts: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The logits, float32 [batch], from each party's cut."""
        given = [cuts[party] for party in self.expects]
        local = [cut["readings"] for cut in given if "readings" in cut]
        total = torch.stack([cut["sum"] for cut in given]).sum(0)
        first = torch.cat([cut["first"] for cut in given], 1).sum(1)
        deep = torch.cat([*(cut["deep"] for cut in given), *local, *self._readings(cuts)], 1)
        tower: Tensor = self.tower(deep)
        return tower.squeeze(1) + first + 0.5 * total.square().sum(1)

    def _readings(self, cuts: Mapping[str, Mapping[str, Tensor]]) -> list[Tensor]:
        if self._offering is None or not self._sizes:
            return []
        name = "history" if self.sent else "interests"
        having = [cuts[party] for party in self.expects if name in self.expects[party]]
        items = torch.cat([cut[name] for cut in having], 1)
        if self.sent:
            # A float crosses; a guard may have moved it a little.
            mask = torch.cat([cut["mask"] for cut in having], 1) > 0.5
        else:
            mask = torch.ones(items.shape[:2], dtype=torch.bool, device=items.device)
        parts = zip(
            self.readers,
            torch.split(items, self._sizes, 1),
            torch.split(mask, self._sizes, 1),
            strict=True,
        )
        candidate = cuts[self._offering]["candidate"]
        return [cast(Tensor, reader(candidate, part, there)) for reader, part, there in parts]


def _between(taken: Sequence[slice], end: int) -> list[slice]:
    """What `taken` leaves of 0 to `end`, in order."""
    edges = [0, *(edge for place in sorted(taken, key=_start) for edge in _ends(place)), end]
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _start(place: slice) -> int:
    return cast(int, place.start)


def _ends(place: slice) -> tuple[int, int]:
    return place.start, place.stop


def _mean(items: Tensor, mask: Tensor) -> Tensor:
    """The mean of the items that are there, [batch, width]; zeros where there are none."""
    weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.bmm(weights.to(items.dtype).unsqueeze(1), items).squeeze(1)
