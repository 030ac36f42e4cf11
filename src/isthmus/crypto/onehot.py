r"""Additive shares of sums by category, where one party has the categories and another the numbers.

Party B has, for each row i and each column f, a category (bin) k_if. Party A has a pair of 64-bit
numbers x_i. For each set of rows R that both know, and for each bin b of each column, they want

    sum over i in R with k_if = b of x_i   (modulo 2^64)

as A's to know, with A not learning the bins nor B the numbers. This module makes shares of the
one-hot vector of k_if times x_i; sums of shares are shares of the sums.

- **Set-up, once.** For each row and column A has a tree of keys (`isthmus.crypto.ggm`), a leaf for
  each bin; B gets all leaves but that of its own bin, by 1-of-2 oblivious transfers
  (`isthmus.crypto.ot_extension`) that do not tell A which.
- **Numbers, any number of times**, each under a number t of its own. A leaf s gives a mask
  v_ifb = pi(s + t) + s, pi being AES under a fixed public key: two words, for the two numbers of
  the pair. A sends c_if = x_i + sum over b of v_ifb. B, who lacks one v, gets in its place
  c_if - (sum of the others) = x_i + v_ifk. What B has less what A has is x_i at k_if, elsewhere 0.

**Security model: semi-honest.** A's view is that of the oblivious transfers. B sees each x_i under
masks that are new for each t: pi(s + t) + s is the cipher of Even and Mansour with s as its key,
and s is known to A alone. With D masks seen in all and T evaluations of pi, what tells them from
random is at most about (D^2 + 2 D T) / 2^128 (Mouha and Luykx, "Multi-Key Security: The
Even-Mansour Construction Revisited", CRYPTO 2015), for 2^30 masks 2^97 evaluations. To use t twice
with other numbers would show their difference.

Trees for one-hot vectors are well known from distributed point functions (Boyle, Gilboa and Ishai,
"Function Secret Sharing", EUROCRYPT 2015); this composition, keys once and masks by one block of
AES for each number, is our own.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from isthmus.crypto import ggm
from isthmus.crypto.blocks import BLOCK_WORDS, KEY_BYTES, Bytes, Words, encrypt
from isthmus.crypto.ot import Choices

Codes = npt.NDArray[np.int64]

KEPT_BYTES = 1 << 30
"""Of leaves that one party keeps; those of further rows are made again each time."""
_WORKED_BYTES = 1 << 19
"""Of masks at a time: as many as stay in the cache of a core."""
# More digits of pi, following those of `ggm`.
_MASK_KEY = bytes.fromhex("c0ac29b7c97c50dd3f84d5b5b5470917")


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
    def groups(self) -> tuple[tuple[int, Codes], ...]:
        """Columns of the same width, with that width. Inside, columns lie in this order."""
        widths = np.array(self.widths)
        return tuple((int(width), np.flatnonzero(widths == width)) for width in np.unique(widths))

    @cached_property
    def inside(self) -> Codes:
        """Where each bin, column by column as given, lies inside, int64 `[total]`."""
        starts = np.zeros(self.columns, dtype=np.int64)
        begin = 0
        for width, columns in self.groups:
            starts[columns] = begin + width * np.arange(len(columns))
            begin += width * len(columns)
        return np.concatenate(
            [start + np.arange(w) for start, w in zip(starts, self.widths, strict=True)]
        )

    @cached_property
    def starts(self) -> Codes:
        """Where each column's first bin lies inside, int64 `[columns]`."""
        firsts = np.cumsum([0, *self.widths[:-1]])
        found: Codes = self.inside[firsts]
        return found

    def parts(self) -> Iterator[tuple[int, Codes, slice]]:
        """Each group's width, columns, and place among the bins inside."""
        begin = 0
        for width, columns in self.groups:
            end = begin + width * len(columns)
            yield width, columns, slice(begin, end)
            begin = end

    def outside(self, sums: Words) -> Words:
        """Sums by bin `[total, 2]` in the columns' own order."""
        return sums[self.inside]

    def totals(self, masks: Words) -> Words:
        """The sum over each column's bins, uint64 `[n, columns, 2]` of `[n, total, 2]` inside."""
        out = np.empty((len(masks), self.columns, BLOCK_WORDS), dtype=np.uint64)
        for width, columns, place in self.parts():
            part = masks[:, place].reshape(len(masks), len(columns), width, BLOCK_WORDS)
            out[:, columns] = _folded(part)
        return out

    def piece(self) -> int:
        """Rows to work on at a time."""
        return max(1, _WORKED_BYTES // (KEY_BYTES * self.total))


class _Leaves:
    """Leaves of all rows, inside order: kept where there is room, else made again."""

    def __init__(self, layout: Layout, rows: int, keep: int) -> None:
        self.layout = layout
        self.rows = rows
        kept = min(rows, keep // (KEY_BYTES * layout.total))
        self._kept = np.empty((kept, layout.total, BLOCK_WORDS), dtype=np.uint64)
        self._ready = 0

    def _advance(self, rows: slice) -> None:
        """Rows are set up once, in their order: without leaves a mask would hide nothing."""
        if rows.start != self._ready or not rows.start <= rows.stop <= self.rows:
            raise ValueError(f"rows from {rows.start} are set up after {self._ready}")
        self._ready = rows.stop

    def _store(self, rows: slice, leaves: Words) -> None:
        end = min(rows.stop, len(self._kept))
        if end > rows.start:
            self._kept[rows.start : end] = leaves[: end - rows.start]

    def _made(self, rows: Codes) -> Words:
        """The leaves of rows of which none are kept, uint64 `[n, total, 2]`."""
        raise NotImplementedError

    def _masks(self, rows: Codes, number: int, bins: Codes | None) -> Words:
        if self._ready < self.rows:
            raise ValueError(f"{self._ready} of {self.rows} rows are set up")
        split = int(np.searchsorted(rows, len(self._kept)))
        leaves = self._kept.take(rows[:split], axis=0)
        if split < len(rows):
            leaves = np.concatenate([leaves, self._made(rows[split:])])
        if bins is not None:
            leaves = leaves[:, bins]
        flat = leaves.reshape(len(rows), -1)
        tweak = np.zeros(flat.shape[1], dtype=np.uint64)
        tweak[::BLOCK_WORDS] = number
        masks = encrypt(_MASK_KEY, flat ^ tweak)
        masks ^= flat
        return masks.reshape(leaves.shape)


@dataclass(frozen=True)
class Round:
    """One vector of numbers, of some of the columns."""

    number: int
    """t: never used twice."""
    columns: tuple[int, ...] | None = None
    """Which, rising; None for all."""


class Dealer(_Leaves):
    """Party A's side, which has the numbers.

    Args:
        layout: of B's columns.
        rows: how many.
        keep: bytes of leaves to keep.
    """

    def __init__(self, layout: Layout, rows: int, keep: int = KEPT_BYTES) -> None:
        super().__init__(layout, rows, keep)
        self._key = secrets.token_bytes(KEY_BYTES)
        self._given: dict[int, int] = {}

    def messages(self, rows: slice) -> Bytes:
        """Both messages of each transfer of these rows, uint8 `[n * choices, 2, 16]`."""
        self._advance(rows)
        roots, leaves = self._roots(np.arange(rows.start, rows.stop))
        sums = []
        for width, columns, place in self.layout.parts():
            found, sides = ggm.expanded(roots[:, columns].reshape(-1, BLOCK_WORDS), width)
            leaves[:, place] = found.reshape(len(roots), -1, BLOCK_WORDS)
            sums.append(sides.reshape(len(roots), -1, 2, BLOCK_WORDS))
        self._store(rows, leaves)
        return np.concatenate(sums, axis=1).reshape(-1, 2, BLOCK_WORDS).view(np.uint8)

    def masked(self, which: Round, rows: Codes, numbers: Words) -> Words:
        """The numbers under their masks, for B.

        Args:
            which: the round.
            rows: int64 `[n]`, rising.
            numbers: uint64 `[n, 2]`, x of these rows.

        Returns:
            uint64 `[n, columns, 2]`.
        """
        if len(rows) and rows[0] <= self._given.get(which.number, -1):
            raise ValueError("masks are used a second time, which would show a difference")
        if len(rows):
            self._given[which.number] = int(rows[-1])
        layout, bins = _picked(self.layout, which)
        out = np.empty((len(rows), layout.columns, BLOCK_WORDS), dtype=np.uint64)
        for part in _pieces(len(rows), self.layout.piece()):
            out[part] = layout.totals(self._masks(rows[part], which.number, bins))
        out += numbers[:, None]
        return out

    def sums(self, which: Round, rows: Codes) -> Words:
        """A's share of the sums by bin over `rows`, rising, uint64 `[total, 2]`."""
        layout, bins = _picked(self.layout, which)
        out = np.zeros((layout.total, BLOCK_WORDS), dtype=np.uint64)
        for part in _pieces(len(rows), self.layout.piece()):
            out += self._masks(rows[part], which.number, bins).sum(axis=0)
        return layout.outside(out)

    def _made(self, rows: Codes) -> Words:
        roots, leaves = self._roots(rows)
        for width, columns, place in self.layout.parts():
            found = ggm.all_leaves(roots[:, columns].reshape(-1, BLOCK_WORDS), width)
            leaves[:, place] = found.reshape(len(rows), -1, BLOCK_WORDS)
        return leaves

    def _roots(self, rows: Codes) -> tuple[Words, Words]:
        """The roots, uint64 `[n, columns, 2]`, and room for the leaves, `[n, total, 2]`."""
        layout = self.layout
        counters = np.zeros((len(rows), layout.columns, BLOCK_WORDS), dtype=np.uint64)
        counters[..., 0] = rows[:, None] * layout.columns + np.arange(layout.columns)
        room = np.empty((len(rows), layout.total, BLOCK_WORDS), dtype=np.uint64)
        return encrypt(self._key, counters), room


class Holder(_Leaves):
    """Party B's side, which has the bins.

    Args:
        layout: of the columns.
        codes: the bin of each row in each column, integers `[rows, columns]`.
        keep: bytes of leaves to keep.
    """

    def __init__(
        self, layout: Layout, codes: npt.NDArray[np.integer], keep: int = KEPT_BYTES
    ) -> None:
        if (
            codes.shape[1:] != (layout.columns,)
            or (codes < 0).any()
            or (codes >= layout.widths).any()
        ):
            raise ValueError("there are bins that the layout does not have")
        super().__init__(layout, len(codes), keep)
        self._codes = codes
        # The nodes beside the paths, for rows whose leaves are not kept.
        self._seeds = np.empty(
            (len(codes) - len(self._kept), layout.choices, BLOCK_WORDS), dtype=np.uint64
        )
        self._own = np.empty((0, 0, BLOCK_WORDS), dtype=np.uint64)
        self._place = np.empty(0, dtype=np.int64)

    def choices(self, rows: slice) -> Choices:
        """Which message to choose in each transfer of these rows, bool `[n * choices]`."""
        codes = self._codes[rows].astype(np.int64)
        paths = [
            ggm.path(codes[:, columns].reshape(-1), width).reshape(len(codes), -1)
            for width, columns, _ in self.layout.parts()
        ]
        return ~np.concatenate(paths, axis=1).reshape(-1)

    def learn(self, rows: slice, chosen: Bytes) -> None:
        """Take the chosen messages, uint8 `[n * choices, 16]`, of these rows."""
        self._advance(rows)
        sums = np.ascontiguousarray(chosen).view(np.uint64)
        sums = sums.reshape(-1, self.layout.choices, BLOCK_WORDS)
        codes = self._codes[rows].astype(np.int64)
        leaves = np.empty((len(codes), self.layout.total, BLOCK_WORDS), dtype=np.uint64)
        seeds = np.empty_like(sums)
        for width, columns, place, some in self._parts():
            part = sums[:, some].reshape(-1, ggm.levels(width), BLOCK_WORDS)
            found, beside = ggm.punctured(codes[:, columns].reshape(-1), part, width)
            leaves[:, place] = found.reshape(len(codes), -1, BLOCK_WORDS)
            seeds[:, some] = beside.reshape(len(codes), -1, BLOCK_WORDS)
        self._store(rows, leaves)
        kept = len(self._kept)
        if rows.stop > kept:
            first = max(rows.start, kept)
            self._seeds[first - kept : rows.stop - kept] = seeds[first - rows.start :]

    def begin(self, which: Round) -> None:
        """Make room for the numbers of a round; those of the round before are forgotten."""
        layout, _ = _picked(self.layout, which)
        self._own = np.empty((self.rows, layout.columns, BLOCK_WORDS), dtype=np.uint64)

    def take(self, which: Round, rows: Codes, masked: Words) -> None:
        """Take numbers under their masks, uint64 `[n, columns, 2]`, of `rows`, rising."""
        layout, bins = _picked(self.layout, which)
        for part in _pieces(len(rows), self.layout.piece()):
            masks = self._masks(rows[part], which.number, bins)
            at = self._at(layout, which, rows[part])
            masks[np.arange(len(at))[:, None], at] = 0
            self._own[rows[part]] = masked[part] - layout.totals(masks)

    def sums(self, which: Round, rows: Codes) -> Words:
        """B's share of the sums by bin over `rows`, rising, uint64 `[total, 2]`."""
        layout, bins = _picked(self.layout, which)
        out = np.zeros((layout.total, BLOCK_WORDS), dtype=np.uint64)
        for part in _pieces(len(rows), self.layout.piece()):
            masks = self._masks(rows[part], which.number, bins)
            at = self._at(layout, which, rows[part])
            masks[np.arange(len(at))[:, None], at] = self._own[rows[part]]
            out += masks.sum(axis=0)
        return layout.outside(out)

    def _at(self, layout: Layout, which: Round, rows: Codes) -> Codes:
        """Where the own bins lie inside, int64 `[n, columns]`."""
        codes = self._codes[rows]
        if which.columns is not None:
            codes = codes[:, list(which.columns)]
        at: Codes = codes + layout.starts
        return at

    def _made(self, rows: Codes) -> Words:
        codes, seeds = self._codes[rows].astype(np.int64), self._seeds[rows - len(self._kept)]
        leaves = np.empty((len(rows), self.layout.total, BLOCK_WORDS), dtype=np.uint64)
        for width, columns, place, some in self._parts():
            part = seeds[:, some].reshape(-1, ggm.levels(width), BLOCK_WORDS)
            found = ggm.around(codes[:, columns].reshape(-1), part, width)
            leaves[:, place] = found.reshape(len(rows), -1, BLOCK_WORDS)
        return leaves

    def _parts(self) -> Iterator[tuple[int, Codes, slice, slice]]:
        """Each group's width, columns, place among the bins inside, and among the choices."""
        begin = 0
        for width, columns, place in self.layout.parts():
            end = begin + ggm.levels(width) * len(columns)
            yield width, columns, place, slice(begin, end)
            begin = end


def _picked(layout: Layout, which: Round) -> tuple[Layout, Codes | None]:
    """The layout of a round's columns, and their bins inside `layout` in the inner order."""
    if which.columns is None:
        return layout, None
    picked = Layout(tuple(layout.widths[column] for column in which.columns))
    bins = np.empty(picked.total, dtype=np.int64)
    for place, column in enumerate(which.columns):
        span = np.arange(picked.widths[place])
        bins[picked.starts[place] + span] = layout.starts[column] + span
    return picked, bins


def _folded(part: Words) -> Words:
    """The sum over the second last axis, by halves: long runs are what NumPy is quick at."""
    while (width := part.shape[-2]) > 1:
        half = width // 2
        sums = part[..., :half, :] + part[..., half : 2 * half, :]
        if width % 2:
            sums[..., 0, :] += part[..., -1, :]
        part = sums
    return part[..., 0, :]


def _pieces(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
