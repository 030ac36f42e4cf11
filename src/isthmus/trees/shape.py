"""What is known of a party's columns where trees are made: how many bins each has, and its cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]

_CELLS = 1 << 18
"""Rows times columns to work on at a time."""


@dataclass(frozen=True)
class Cut:
    """A split of rows by one column."""

    column: int
    """Which of its owner's columns, by the order in which it told of them."""
    bin: int
    """Rows of bins up to this one go left."""
    missing_left: bool
    """Whether rows without a value do."""


@dataclass(frozen=True)
class BinShape:
    """Columns with their bins side by side: those of values in order, then that of missing ones.

    A cut is named by its direction (0: missing rows go right, 1: left) and the last bin on the
    left, and has a place in arrays `[2, total]`.
    """

    values: tuple[int, ...]
    """Bins of values of each column."""
    missing: tuple[bool, ...]
    """Whether it has a bin of missing values."""

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Bins of each column."""
        return tuple(v + m for v, m in zip(self.values, self.missing, strict=True))

    @cached_property
    def total(self) -> int:
        """Bins of all columns."""
        return sum(self.widths)

    @cached_property
    def starts(self) -> Longs:
        """Each column's first bin, int64 `[columns]`."""
        return np.cumsum([0, *self.widths[:-1]]).astype(np.int64)

    @cached_property
    def column(self) -> Longs:
        """The column of each bin, int64 `[total]`."""
        return np.repeat(np.arange(len(self.widths)), self.widths)

    @cached_property
    def cuts(self) -> Bools:
        """Which cuts there are, bool `[2, total]`."""
        place = np.arange(self.total) - self.starts[self.column]
        last = np.array(self.values)[self.column] - 1
        gaps = np.array(self.missing)[self.column]
        # With all values on the left, missing rows are the right side, or there is none.
        return np.stack([(place < last) | ((place == last) & gaps), (place < last) & gaps])

    def picked(self, columns: Sequence[int]) -> BinShape:
        """Some of the columns, in this order."""
        return BinShape(
            tuple(self.values[column] for column in columns),
            tuple(self.missing[column] for column in columns),
        )

    def left(self, sums: Longs) -> Longs:
        """Of sums by bin `[total]`, the sum on the left of each cut, int64 `[2, total]`."""
        running = np.cumsum(sums)
        before = (running - sums)[self.starts]
        without = running - before[self.column]
        gaps = np.where(self.missing, sums[self.starts + self.widths - 1], 0)
        return np.stack([without, without + gaps[self.column]])

    def allowed(self, counts: Longs, least: int, ends: Bools | None = None) -> Bools:
        """The cuts that leave `least` rows on both sides, bool `[2, total]`.

        Args:
            counts: rows by bin, int64 `[total]`.
            least: at least 1.
            ends: the last bins of groups, bool `[total]`: cuts are between these.
        """
        left = self.left(counts)
        rows = int(counts[: self.widths[0]].sum())
        found: Bools = self.cuts & (left >= least) & (rows - left >= least)
        return found if ends is None else found & self.between(ends)

    def between(self, ends: Bools) -> Bools:
        """The cuts whose sums are of whole groups, bool `[2, total]`.

        Args:
            ends: the last bins of groups, bool `[total]`.
        """
        apart = ends[self.starts + np.array(self.values) - 1]
        return np.stack([ends, ends & apart[self.column]])

    def ends(self, counts: Sequence[Longs], before: Bools, least: int) -> Bools:
        """Groups of neighbouring bins with enough rows in each of several nodes.

        Args:
            counts: rows by bin of each node, int64 `[total]`.
            before: the last bins of the groups to put together, bool `[total]`.
            least: rows of a group, unless all of the column are fewer.

        Returns:
            The last bins of the groups, bool `[total]`.
        """
        rows = [each.tolist() for each in counts]
        found = np.zeros(self.total, dtype=np.bool_)
        for start, width in zip(self.starts.tolist(), self.widths, strict=True):
            held, last = [0] * len(rows), start + width - 1
            end = -1
            for place in range(start, last + 1):
                held = [some + each[place] for some, each in zip(held, rows, strict=True)]
                if before[place] and min(held) >= least:
                    found[place], end, held = True, place, [0] * len(rows)
            if start <= end < last:
                found[end] = False  # what is left over joins the group before
            found[last] = True
        return found

    def grouped(self, sums: npt.NDArray[np.uint64], ends: Bools) -> npt.NDArray[np.uint64]:
        """Sums by bin `[total, 2]` with those of a group all at its last bin."""
        places = np.flatnonzero(ends)
        running = np.cumsum(sums, axis=0)[places]  # modulo 2^64
        out = np.zeros_like(sums)
        out[places] = running
        out[places[1:]] -= running[:-1]
        return out

    def cut(self, direction: int, place: int) -> Cut:
        """The cut at a place of arrays `[2, total]`."""
        column = int(self.column[place])
        return Cut(column, place - int(self.starts[column]), bool(direction))

    def place(self, cut: Cut) -> tuple[int, int] | None:
        """Where a cut lies in arrays `[2, total]`; None where there is no such cut."""
        if not 0 <= cut.column < len(self.widths) or not 0 <= cut.bin < self.widths[cut.column]:
            return None
        place = int(self.starts[cut.column]) + cut.bin
        # Where no row was missing, the direction is for later rows, and any will do.
        direction = int(cut.missing_left and self.missing[cut.column])
        return (direction, place) if self.cuts[direction, place] else None


class Coded:
    """A party's own columns in bins, of the tree that is being made.

    Args:
        codes: the bin of each row in each column, int16 `[rows, columns]`; `values` for missing.
        shape: of the columns.
    """

    def __init__(self, codes: npt.NDArray[np.int16], shape: BinShape) -> None:
        self.codes = codes
        self.shape = shape

    def counts(self, rows: Longs) -> Longs:
        """Rows by bin, int64 `[total]`."""
        out = np.zeros(self.shape.total, dtype=np.int64)
        for _, bins in self._pieces(rows):
            out += np.bincount(bins.ravel(), minlength=self.shape.total)
        return out

    def sums(self, rows: Longs, numbers: npt.NDArray[np.float64]) -> Longs:
        """Sums by bin, int64 `[total, 2]`.

        Args:
            rows: int64 `[n]`.
            numbers: whole numbers `[rows, 2]`, such that no sum reaches 2^53: so all are exact.
        """
        out = np.zeros((self.shape.total, 2), dtype=np.float64)
        for some, bins in self._pieces(rows):
            for lane in range(2):
                weights = np.repeat(numbers[some, lane], bins.shape[1])
                out[:, lane] += np.bincount(bins.ravel(), weights, self.shape.total)
        return out.astype(np.int64)

    def _pieces(self, rows: Longs) -> Iterator[tuple[Longs, Longs]]:
        """Some rows at a time, with their bins among all columns', int64 `[n, columns]`."""
        size = max(1, _CELLS // self.codes.shape[1])
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield some, self.codes[some] + self.shape.starts

    def goes_left(self, cut: Cut, rows: Longs) -> Bools:
        """The side of each row of `rows` at a cut of ours, bool `[n]`."""
        return goes_left(self.codes[rows, cut.column], cut, self.shape.values[cut.column])


def goes_left(codes: npt.NDArray[np.int16], cut: Cut, values: int) -> Bools:
    """Whether rows of these bins go left, where the bin `values` is that of missing ones."""
    found: Bools = np.where(codes == values, cut.missing_left, codes <= cut.bin)
    return found
