"""The columns and bins of `isthmus.crypto.onehot`: those of the same width go together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from isthmus.crypto import ggm

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Columns of the same width, which are worked on together."""

    width: int
    columns: Codes
    """Which, rising."""
    choices: slice
    """Of a row's oblivious transfers."""

    @property
    def levels(self) -> int:
        """Of each column's tree."""
        return ggm.levels(self.width)

    @property
    def bins(self) -> int:
        """Of all its columns."""
        return self.width * len(self.columns)


@dataclass(frozen=True)
class Layout:
    """The bins of each column, at least 2, as both parties know them."""

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 2:
            raise ValueError("a column has fewer than two bins")

    @property
    def columns(self) -> int:
        """Columns."""
        return len(self.widths)

    @cached_property
    def total(self) -> int:
        """Bins of all columns together."""
        return sum(self.widths)

    @cached_property
    def choices(self) -> int:
        """Oblivious transfers for each row."""
        return sum(ggm.levels(width) for width in self.widths)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All columns, by their width."""
        widths, found, begin = np.array(self.widths), [], 0
        for width in np.unique(widths).tolist():
            columns = np.flatnonzero(widths == width)
            end = begin + ggm.levels(width) * len(columns)
            found.append(Group(width, columns, slice(begin, end)))
            begin = end
        return tuple(found)


@dataclass(frozen=True)
class Round:
    """One vector of numbers, of some of the columns."""

    number: int
    """t: never used twice."""
    columns: tuple[int, ...] | None = None
    """Which, rising; None for all."""


@dataclass(frozen=True)
class Part:
    """The columns of a group that a round is of."""

    number: int
    """Of the group."""
    group: Group
    chosen: Codes
    """Which of the group's columns, int64 `[c]`."""
    places: Codes
    """Their places among the round's columns, int64 `[c]`."""
    bins: Codes
    """The places of their bins among the round's, int64 `[width, c]`."""

    @property
    def columns(self) -> Codes:
        """By the layout's numbers."""
        return self.group.columns[self.chosen]

    @property
    def is_whole(self) -> bool:
        """Whether it is all columns of the group."""
        return len(self.chosen) == len(self.group.columns)


def parts_of(layout: Layout, which: Round) -> list[Part]:
    """The columns of a round, by their width."""
    columns = np.arange(layout.columns) if which.columns is None else which.columns
    wanted = np.asarray(columns, dtype=np.int64)
    widths = np.array(layout.widths)[wanted]
    starts = np.cumsum([0, *widths[:-1]])
    parts = []
    for number, group in enumerate(layout.groups):
        places = np.flatnonzero(widths == group.width)
        if len(places):
            chosen = np.searchsorted(group.columns, wanted[places])
            bins = starts[places] + np.arange(group.width)[:, None]
            parts.append(Part(number, group, chosen, places, bins))
    return parts
