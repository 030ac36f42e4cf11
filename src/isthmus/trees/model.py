"""What a party holds after trees were fitted: its own part of the model, and that as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isthmus.errors import JobError, StorageError
from isthmus.files import write_json
from isthmus.trees.binning import ColumnBins
from isthmus.trees.options import TreeOptions
from isthmus.trees.shape import Cut, goes_left

_FORMAT = "isthmus.trees/1"
_MOST_BYTES = 1 << 28
_Whole = Annotated[int, Field(ge=0, lt=1 << 31)]


@dataclass(frozen=True)
class Node:
    """One node of a tree, as the label party has it."""

    party: int
    """Whose cut it is: 0 the label party's, then partners in their order; -1 for a leaf."""
    cut: int
    """Which of that party's cuts; 0 for a leaf."""
    column: int
    """Which of that party's columns, by its own order; 0 for a leaf."""
    left: int
    """The left child, followed by the right one; 0 for a leaf."""
    gain: float
    """What the split gained; 0 for a leaf."""
    value: float
    """What a leaf adds to the score."""


@dataclass(frozen=True)
class Importance:
    """What one column did."""

    party: str
    column: str
    """Its name, or for a partner's column its number."""
    splits: int
    gain: float


@dataclass(frozen=True, kw_only=True)
class TreeModel:
    """One party's part of a model."""

    options: TreeOptions
    """As agreed."""
    parties: tuple[str, ...]
    """At the label party: itself and its partners. At a partner: itself."""
    bins: tuple[ColumnBins, ...] = field(repr=False)
    """Of the own columns."""
    cuts: tuple[Cut, ...] = field(repr=False)
    """The own cuts of all trees."""
    trees: tuple[tuple[Node, ...], ...] = field(default=(), repr=False)
    """At the label party, round by round, the classes' trees in order."""
    start: tuple[float, ...] = ()
    """At the label party: the score before the first tree, for each class."""
    losses: tuple[float, ...] = field(default=(), repr=False)
    """At the label party: the mean loss of the rows learnt from after each round that was made."""
    valid_losses: tuple[float, ...] = field(default=(), repr=False)
    """The same of the rows `valid`, if there were any."""
    rho: float = 0.0
    """Of all noisy sums that this party showed, or at the label party the most of a partner: their
    zero-concentrated differential privacy (`noise`). 0 without noise, where there is none."""

    @property
    def rounds(self) -> int:
        """Rounds of boosting that are kept, at the label party."""
        return len(self.trees) // self.options.trees_a_round

    def sides(self, table: pl.DataFrame | None) -> NDArray[np.bool_]:
        """The side of each row at each of the own cuts, True for left, bool `[cuts, rows]`.

        Args:
            table: with the columns that the own cuts are of; None where there are none.

        Raises:
            DataError: it lacks a column, or one is of another kind.
        """
        out = np.empty((len(self.cuts), 0 if table is None else table.height), dtype=np.bool_)
        if table is None:
            return out
        codes = {
            column: self.bins[column].codes(table) for column in {cut.column for cut in self.cuts}
        }
        for number, cut in enumerate(self.cuts):
            out[number] = goes_left(codes[cut.column], cut, self.bins[cut.column].values)
        return out

    def importance(self) -> tuple[Importance, ...]:
        """Splits and gain by column, the greatest gain first; gains at the label party alone."""
        found: dict[tuple[int, int], list[float]] = {}
        for node in (node for tree in self.trees for node in tree if node.party >= 0):
            found.setdefault((node.party, node.column), []).append(node.gain)
        if not self.trees:
            for cut in self.cuts:
                found.setdefault((0, cut.column), []).append(0.0)
        rows = [
            Importance(self.parties[party], self._name(party, column), len(gains), sum(gains))
            for (party, column), gains in found.items()
        ]
        return tuple(sorted(rows, key=lambda row: (-row.gain, row.party, row.column)))

    def _name(self, party: int, column: int) -> str:
        return f"#{column}" if party else self.bins[column].column

    def save(self, path: str | Path) -> None:
        """Write this part as JSON, whole or not at all; numbers come back bit for bit.

        It is for this party alone: its cuts are what other parties do not learn.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        content = {"format": _FORMAT, **asdict(self), "options": self.options.agreed()}
        try:
            write_json(Path(path), content)
        except ValueError as error:
            raise StorageError("a model of NaN or infinity is not for a file") from error

    @classmethod
    def load(cls, path: str | Path) -> TreeModel:
        """What `save` wrote.

        Raises:
            StorageError: there is no such file, or it is no part of a model of trees.
        """
        try:
            # Read no further than it can be: what is there may be any file.
            with Path(path).open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise StorageError(f"{path} is too long for a model of trees")
            return _Saved.model_validate_json(text, strict=True).model()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValidationError, JobError) as error:
            raise StorageError(
                f"{path} is no part of a model of trees, or of another version",
                mend="Fit the model again.",
            ) from error


_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _SavedBins(BaseModel):
    model_config = _STRICT

    column: Annotated[str, Field(max_length=10_000)]
    edges: Annotated[list[float], Field(max_length=1024)]
    categories: Annotated[list[str], Field(max_length=1024)] | None
    missing: _Whole
    has_missing: bool

    def bins(self) -> ColumnBins:
        kept = None if self.categories is None else tuple(self.categories)
        return ColumnBins(self.column, tuple(self.edges), kept, self.missing, self.has_missing)

    @model_validator(mode="after")
    def _check(self) -> _SavedBins:
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        both = self.edges and self.categories is not None
        if not rising or both or self.missing > self.bins().values:
            raise ValueError("bins that cannot be")
        return self


class _SavedCut(BaseModel):
    model_config = _STRICT

    column: _Whole
    bin: _Whole
    missing_left: bool


class _SavedNode(BaseModel):
    model_config = _STRICT

    party: Annotated[int, Field(ge=-1, lt=1 << 16)]
    cut: _Whole
    column: _Whole
    left: _Whole
    gain: float
    value: float


class _Saved(BaseModel):
    """The file."""

    model_config = _STRICT

    format: Literal["isthmus.trees/1"]
    options: TreeOptions
    parties: Annotated[list[str], Field(min_length=1, max_length=1 << 16)]
    bins: list[_SavedBins]
    cuts: list[_SavedCut]
    trees: list[Annotated[list[_SavedNode], Field(min_length=1)]]
    start: list[float]
    losses: list[float]
    valid_losses: list[float]
    rho: Annotated[float, Field(ge=0.0)]

    @model_validator(mode="after")
    def _check(self) -> _Saved:
        for cut in self.cuts:
            if cut.column >= len(self.bins) or cut.bin >= self.bins[cut.column].bins().values:
                raise ValueError("a cut of no column")
        cuts = [len(self.cuts)] + [0] * (len(self.parties) - 1)
        for node in (node for tree in self.trees for node in tree):
            if 0 < node.party < len(cuts):
                cuts[node.party] += 1
        for tree in self.trees:
            _check_tree(tree, cuts)
        if self.trees and len(self.start) != self.options.trees_a_round:
            raise ValueError("a start of another number of classes")
        if len(self.trees) % self.options.trees_a_round:
            raise ValueError("a round of fewer trees than classes")
        return self

    def model(self) -> TreeModel:
        return TreeModel(
            options=self.options,
            parties=tuple(self.parties),
            bins=tuple(one.bins() for one in self.bins),
            cuts=tuple(Cut(one.column, one.bin, one.missing_left) for one in self.cuts),
            trees=tuple(tuple(Node(**one.model_dump()) for one in tree) for tree in self.trees),
            start=tuple(self.start),
            losses=tuple(self.losses),
            valid_losses=tuple(self.valid_losses),
            rho=self.rho,
        )


def _check_tree(tree: Sequence[_SavedNode], cuts: Sequence[int]) -> None:
    """See that it is a tree, of cuts that the parties have, `[parties]`.

    Children come after their parent, each once: so a walk ends.
    """
    expected = 1
    for node in sorted((one for one in tree if one.party >= 0), key=lambda one: one.left):
        if node.party >= len(cuts) or node.cut >= cuts[node.party]:
            raise ValueError("a node of no party's cut")
        if node.left != expected:
            raise ValueError("nodes that make no tree")
        expected += 2
    if expected != len(tree):
        raise ValueError("nodes that make no tree")
    for number, node in enumerate(tree):
        if node.party >= 0 and node.left <= number:
            raise ValueError("a node before its parent")
