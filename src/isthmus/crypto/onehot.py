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
  v_ifb = pi(s + t) + s + t, pi being AES under a fixed public key: two words, for the two numbers
  of the pair. A sends c_if = x_i + sum over b of v_ifb. B, who lacks one v, gets in its place
  c_if - (sum of the others) = x_i + v_ifk. What B has less what A has is x_i at k_if, elsewhere 0.

**Security model: semi-honest.** A's view is that of the oblivious transfers. B sees each x_i under
masks that are new for each t: pi(s + t) + s + t is the cipher of Even and Mansour with s as its
key, and s is known to A alone. With D masks seen in all and T evaluations of pi, what tells them
from random is at most about (D^2 + 2 D T) / 2^128 (Mouha and Luykx, "Multi-Key Security: The
Even-Mansour Construction Revisited", CRYPTO 2015), for 2^30 masks 2^97 evaluations. To use t twice
with other numbers would show their difference.

Trees for one-hot vectors are well known from distributed point functions (Boyle, Gilboa and Ishai,
"Function Secret Sharing", EUROCRYPT 2015); this composition, keys once and masks by one block of
AES for each number, is our own.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from isthmus.crypto import ggm
from isthmus.crypto.blocks import BLOCK_WORDS, KEY_BYTES, Bytes, Words
from isthmus.crypto.onehot_layout import Codes, Group, Layout, Part, Round, parts_of
from isthmus.crypto.ot import Choices

__all__ = ["KEPT_BYTES", "Dealer", "Holder", "Layout", "Round"]

KEPT_BYTES = 1 << 30
"""Of leaves that one party keeps; those of further rows are made again each time."""
_WORKED_BYTES = 1 << 21
"""Of masks at a time: few enough to stay in the cache, many enough for NumPy to be quick."""
# More digits of pi, following those of `ggm`.
_MASK_KEY = bytes.fromhex("c0ac29b7c97c50dd3f84d5b5b5470917")


class _Leaves(ABC):
    """Leaves of all rows: kept where there is room, else made again."""

    def __init__(self, layout: Layout, rows: int, keep: int) -> None:
        self.layout = layout
        self.rows = rows
        self._keeps = min(rows, keep // (KEY_BYTES * layout.total))
        self._kept = [
            np.empty((self._keeps, one.width, len(one.columns), BLOCK_WORDS), dtype=np.uint64)
            for one in layout.groups
        ]
        self._room = ggm.Room()
        self._masking = ggm.cipher(_MASK_KEY)
        self._ready = 0

    @property
    def kept_bytes(self) -> int:
        """Of leaves that are kept."""
        return sum(one.nbytes for one in self._kept)

    def _advance(self, rows: slice) -> None:
        """Rows are set up once, in their order: without leaves a mask would hide nothing."""
        if rows.start != self._ready or not rows.start <= rows.stop <= self.rows:
            raise ValueError(f"rows from {rows.start} are set up after {self._ready}")
        self._ready = rows.stop

    def _store(self, number: int, rows: slice, leaves: Words) -> None:
        """Keep what there is room for of a group's leaves, `[width, c, n, 2]`."""
        end = min(rows.stop, self._keeps)
        if end > rows.start:
            some = leaves[:, :, : end - rows.start]
            self._kept[number][rows.start : end] = some.transpose(2, 0, 1, 3)

    @abstractmethod
    def _made(self, part: Part, rows: Codes) -> Words:
        """The leaves of rows of which none are kept, uint64 `[width, c * n, 2]`, in the room."""

    def _masks(self, which: Round, part: Part, rows: Codes) -> Iterator[tuple[slice, Words]]:
        """Masks of some rows at a time, uint64 `[n, width, c, 2]`: a view, to be used at once."""
        if self._ready < self.rows:
            raise ValueError(f"{self._ready} of {self.rows} rows are set up")
        split = int(np.searchsorted(rows, self._keeps))
        size = max(1, _WORKED_BYTES // (KEY_BYTES * part.bins.size))
        for some in _pieces(0, split, size):
            yield some, self._masked(self._taken(part, rows[some]), which)
        for some in _pieces(split, len(rows), size):
            masks = self._masked(self._made(part, rows[some]), which)
            shape = (*part.bins.shape, some.stop - some.start, BLOCK_WORDS)
            yield some, masks.reshape(shape).transpose(2, 0, 1, 3)

    def _taken(self, part: Part, rows: Codes) -> Words:
        kept = self._kept[part.number]
        if not part.is_whole:
            return kept[rows][:, :, part.chosen]
        return kept.take(
            rows, axis=0, out=self._room.empty((len(rows), *kept.shape[1:])), mode="clip"
        )

    def _masked(self, leaves: Words, which: Round) -> Words:
        """The masks of leaves, which are lost."""
        flat = leaves.reshape(-1)
        flat[::BLOCK_WORDS] ^= np.uint64(which.number)
        masks = self._room.encrypted(self._masking, flat)
        masks ^= flat
        return masks.reshape(leaves.shape)


class Dealer(_Leaves):
    """Party A's side, which has the numbers.

    Args:
        layout: of B's columns.
        rows: how many.
        keep: bytes of leaves to keep.
    """

    def __init__(self, layout: Layout, rows: int, keep: int = KEPT_BYTES) -> None:
        super().__init__(layout, rows, keep)
        self._key = ggm.cipher(secrets.token_bytes(KEY_BYTES))
        self._given: dict[int, int] = {}
        self._dealt: tuple[int, Words] = (-1, np.empty((0, BLOCK_WORDS), dtype=np.uint64))

    def messages(self, rows: slice) -> Bytes:
        """Both messages of each transfer of these rows, uint8 `[n * choices, 2, 16]`."""
        self._advance(rows)
        count = rows.stop - rows.start
        out = np.empty((count, self.layout.choices, 2, BLOCK_WORDS), dtype=np.uint64)
        for number, group in enumerate(self.layout.groups):
            for some in _pieces(0, count, _at_once(group)):
                here = slice(rows.start + some.start, rows.start + some.stop)
                roots = self._roots(group.columns, np.arange(here.start, here.stop))
                leaves, sums = ggm.expanded(roots, group.width, self._room)
                trees = (len(group.columns), some.stop - some.start)
                self._store(number, here, leaves.reshape(group.width, *trees, BLOCK_WORDS))
                by_row = sums.reshape(group.levels, 2, *trees, BLOCK_WORDS).transpose(3, 2, 0, 1, 4)
                out[some, group.choices] = by_row.reshape(trees[1], -1, 2, BLOCK_WORDS)
        return out.reshape(-1, 2, BLOCK_WORDS).view(np.uint8)

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
        parts = parts_of(self.layout, which)
        if self._dealt[0] != which.number:
            self._dealt = (which.number, _zeros(parts))
        out = np.empty((len(rows), _columns(parts), BLOCK_WORDS), dtype=np.uint64)
        for part in parts:
            for some, masks in self._masks(which, part, rows):
                out[some, part.places] = _over_bins(masks)
                self._dealt[1][part.bins] += _over_rows(masks)
        out += numbers[:, None]
        return out

    def dealt(self, which: Round) -> Words:
        """A's share of the sums by bin over all rows that have been `masked` in this round."""
        number, sums = self._dealt
        if number != which.number:
            raise ValueError("the last numbers were of another round")
        return sums

    def sums(self, which: Round, rows: Codes) -> Words:
        """A's share of the sums by bin over `rows`, rising, uint64 `[total, 2]`."""
        parts = parts_of(self.layout, which)
        out = _zeros(parts)
        for part in parts:
            for _, masks in self._masks(which, part, rows):
                out[part.bins] += _over_rows(masks)
        return out

    def _made(self, part: Part, rows: Codes) -> Words:
        return ggm.all_leaves(self._roots(part.columns, rows), part.group.width, self._room)

    def _roots(self, columns: Codes, rows: Codes) -> Words:
        """Of these columns' trees, uint64 `[c * n, 2]`, in the room."""
        counters = np.zeros((len(columns), len(rows), BLOCK_WORDS), dtype=np.uint64)
        counters[..., 0] = rows * self.layout.columns + columns[:, None]
        return self._room.encrypted(self._key, counters.reshape(-1, BLOCK_WORDS))


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
        further = len(codes) - self._keeps
        self._seeds = [
            np.empty((one.levels, len(one.columns), further), dtype=np.complex128)
            for one in layout.groups
        ]
        self._own = np.empty((0, 0, BLOCK_WORDS), dtype=np.uint64)
        self._taken_sums = np.empty((0, BLOCK_WORDS), dtype=np.uint64)

    def choices(self, rows: slice) -> Choices:
        """Which message to choose in each transfer of these rows, bool `[n * choices]`."""
        codes = self._codes[rows].astype(np.int64)
        out = np.empty((len(codes), self.layout.choices), dtype=np.bool_)
        for group in self.layout.groups:
            paths = ggm.path(codes[:, group.columns].reshape(-1), group.width)
            out[:, group.choices] = ~paths.T.reshape(len(codes), -1)
        return out.reshape(-1)

    def learn(self, rows: slice, chosen: Bytes) -> None:
        """Take the chosen messages, uint8 `[n * choices, 16]`, of these rows."""
        self._advance(rows)
        sums = np.ascontiguousarray(chosen).view(np.uint64)
        sums = sums.reshape(-1, self.layout.choices, BLOCK_WORDS)
        for number, group in enumerate(self.layout.groups):
            for some in _pieces(0, len(sums), _at_once(group)):
                here = slice(rows.start + some.start, rows.start + some.stop)
                codes = self._bins(group.columns, np.arange(here.start, here.stop))
                given = _by_level(sums[some, group.choices], group)
                leaves, beside = ggm.punctured(codes, given, group.width, self._room)
                shape = (group.width, len(group.columns), -1, BLOCK_WORDS)
                self._store(number, here, leaves.reshape(shape))
                first = max(here.start, self._keeps)
                if here.stop > first:
                    items = _items(beside).reshape(group.levels, len(group.columns), -1)
                    place = slice(first - self._keeps, here.stop - self._keeps)
                    self._seeds[number][:, :, place] = items[:, :, first - here.start :]

    def begin(self, which: Round) -> None:
        """Make room for the numbers of a round; those of the round before are forgotten."""
        parts = parts_of(self.layout, which)
        self._own = np.empty((self.rows, _columns(parts), BLOCK_WORDS), dtype=np.uint64)
        self._taken_sums = _zeros(parts)

    def take(self, which: Round, rows: Codes, masked: Words) -> None:
        """Take numbers under their masks, uint64 `[n, columns, 2]`, of `rows`, rising."""
        for part in parts_of(self.layout, which):
            for some, masks in self._masks(which, part, rows):
                at = self._at(part, rows[some])
                own = masked[some, part.places] - _over_bins(masks)
                own += _items(masks)[at].view(np.uint64).reshape(own.shape)
                self._own[rows[some][:, None], part.places] = own
                _items(masks)[at] = _items(own)
                self._taken_sums[part.bins] += _over_rows(masks)

    def taken(self) -> Words:
        """B's share of the sums by bin over all rows of which numbers were taken in this round."""
        return self._taken_sums

    def sums(self, which: Round, rows: Codes) -> Words:
        """B's share of the sums by bin over `rows`, rising, uint64 `[total, 2]`."""
        parts = parts_of(self.layout, which)
        out = _zeros(parts)
        for part in parts:
            for some, masks in self._masks(which, part, rows):
                own = _items(self._own)[rows[some][:, None], part.places]
                _items(masks)[self._at(part, rows[some])] = own
                out[part.bins] += _over_rows(masks)
        return out

    def _at(self, part: Part, rows: Codes) -> tuple[Codes, Codes, Codes]:
        """Where the own bins lie among masks, each `[n, c]`."""
        codes = self._codes[rows[:, None], part.columns].astype(np.int64)
        return np.arange(len(rows))[:, None], codes, np.arange(len(part.columns))

    def _bins(self, columns: Codes, rows: Codes) -> Codes:
        """Of these columns' trees, int64 `[c * n]`."""
        return self._codes[rows, columns[:, None]].astype(np.int64).reshape(-1)

    def _made(self, part: Part, rows: Codes) -> Words:
        group, seeds = part.group, self._seeds[part.number]
        if not part.is_whole:
            seeds = seeds[:, part.chosen]
        some = seeds.take(rows - self._keeps, axis=2).view(np.uint64)
        some = some.reshape(group.levels, -1, BLOCK_WORDS)
        return ggm.around(self._bins(part.columns, rows), some, group.width, self._room)


def _by_level(words: Words, group: Group) -> Words:
    """Of what is by row, `[n, c * levels, 2]`, the same by level, `[levels, c * n, 2]`."""
    items = words.reshape(len(words), len(group.columns), group.levels, BLOCK_WORDS)
    return np.ascontiguousarray(items.transpose(2, 1, 0, 3)).reshape(group.levels, -1, BLOCK_WORDS)


def _at_once(group: Group) -> int:
    """Rows to work on at a time."""
    return max(1, _WORKED_BYTES // (KEY_BYTES * group.bins))


def _columns(parts: list[Part]) -> int:
    return sum(len(part.places) for part in parts)


def _zeros(parts: list[Part]) -> Words:
    return np.zeros((sum(part.bins.size for part in parts), BLOCK_WORDS), dtype=np.uint64)


def _over_rows(masks: Words) -> Words:
    """The sum over the rows, uint64 `[width, c, 2]`."""
    found: Words = masks.sum(axis=0) if masks.flags.c_contiguous else _folded(masks, 0)
    return found


def _over_bins(masks: Words) -> Words:
    """The sum over the bins, uint64 `[n, c, 2]`."""
    found: Words = _folded(masks, 1) if masks.flags.c_contiguous else masks.sum(axis=1)
    return found


def _folded(masks: Words, axis: int) -> Words:
    """The sum over an axis, by halves: long runs are what NumPy is quick at."""
    part = np.moveaxis(masks, axis, 0)
    while (width := len(part)) > 1:
        half = width // 2
        sums = part[:half] + part[half : 2 * half]
        if width % 2:
            sums[0] += part[-1]
        part = sums
    found: Words = part[0]
    return found


def _items(words: Words) -> npt.NDArray[np.complex128]:
    """Blocks of 16 bytes as one item each, which moves faster than two words."""
    return words.view(np.complex128)[..., 0]


def _pieces(first: int, last: int, size: int) -> Iterator[slice]:
    for start in range(first, last, size):
        yield slice(start, min(start + size, last))
