"""Sums of products of all pairs of two parties' columns, with columns side by side in ciphertexts.

One party, the key holder, has R, the other, the owner, has X, and one of them, or a third, is to
get X' R and nothing else (`products` has the idea, for one column r). Here a ciphertext has
a block of rows of each of the key holder's columns::

    | rows 0..b of column 0 | rows 0..b of column 1 | ... |      the next: rows b..2b of each, ...

The owner multiplies with the same rows of one of its columns, once for each block, and adds the
ciphertexts up. So one ciphertext goes back for each of its columns, and not for each pair. It adds
a mask to every slot; masks of a block add up to zero if the key holder is to get the sums, and else
to a number that the owner keeps. Where rows are few, several of the owner's columns share one too.
Where they are many, fewer of the key holder's columns lie side by side, and there are several
groups of them: the owner's numbers are then made ready for fewer ciphertexts, and as that is most
of its work (`he_sums`), it is worth the answers that there are more of.

Each number is of one word or two, h and l: the answers are sums of h h', and of h l' + l h'.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.he_sums import Sum, Sums

Longs = npt.NDArray[np.int64]
_MOST_SIDE = 1024
"""Columns side by side."""
_TOGETHER = 16
"""Ciphertexts in a message, about."""
_ANSWER = 55
"""What an answer costs, its way over a line of 100 Mbit/s included, in times of making SLOTS of the
owner's numbers ready."""
_HELD = 1024
"""Answers that are added up at a time, about: half a megabyte each."""


@dataclass(frozen=True)
class Layout:
    """How columns lie in slots; all parties work it out alike."""

    rows: int
    asked: int
    """Columns of the key holder."""
    owned: int
    """Columns of the owner."""
    words: int
    most: int
    """Columns of the party that has the most: what owners are asked must not depend on them."""

    @property
    def side(self) -> int:
        """Columns of the key holder in a ciphertext."""
        cheapest = math.sqrt(_ANSWER * self.asked / -(-self.rows // he.SLOTS))
        groups = max(1, _HELD // (self.most * self.words))
        return min(self.asked, _MOST_SIDE, max(math.ceil(cheapest), -(-self.asked // groups)))

    @property
    def block(self) -> int:
        """Rows of each in it."""
        return min(self.rows, he.SLOTS // self.side)

    @property
    def copies(self) -> int:
        """How often they are in it: so many of the owner's columns share an answer."""
        return min(self.owned, he.SLOTS // (self.side * self.block))

    @property
    def groups(self) -> int:
        """Ciphertexts for the columns of the key holder."""
        return -(-self.asked // self.side)

    @property
    def chunks(self) -> int:
        """Ciphertexts for the rows of each group."""
        return -(-self.rows // self.block)

    @property
    def batches(self) -> int:
        """Answers for each group and word."""
        return -(-self.owned // self.copies)

    def rows_of(self, chunk: int) -> slice:
        """The rows in a chunk."""
        return slice(chunk * self.block, (chunk + 1) * self.block)

    def columns_of(self, group: int) -> slice:
        """The key holder's columns in a group."""
        return slice(group * self.side, (group + 1) * self.side)

    def owned_in(self, batch: int) -> slice:
        """The owner's columns in a batch."""
        return slice(batch * self.copies, (batch + 1) * self.copies)


def questions(key: he.HeKey, layout: Layout, words: Sequence[Longs]) -> Iterator[list[he.Cipher]]:
    """The key holder's columns, chunk by chunk and in it group by group: a ciphertext a word.

    Args:
        key: its own.
        layout: as agreed.
        words: int64 `[rows, asked]` each.
    """
    for chunk in range(layout.chunks):
        for group in range(layout.groups):
            yield [key.encrypt(_asked(layout, word, group, chunk)) for word in words]


@dataclass(eq=False)
class Answers:
    """The owner's products with the key holder's columns, as they are added up."""

    public: he.HePublic
    layout: Layout
    words: Sequence[Longs]
    """The own columns, int64 `[rows, owned]` each."""
    _sums: Sums = field(init=False)
    _totals: list[list[list[Sum]]] = field(init=False)
    """By group, batch and word."""

    def __post_init__(self) -> None:
        self._sums = Sums(self.public)
        groups, batches, words = self.layout.groups, self.layout.batches, self.layout.words
        self._totals = [
            [[self._sums.sum() for _ in range(words)] for _ in range(batches)]
            for _ in range(groups)
        ]

    def add(self, chunk: int, asked: Sequence[Sequence[he.Cipher]]) -> None:
        """Take in what was asked of the rows of a chunk: by group, a ciphertext for each word."""
        turned = [[self._sums.turned(one) for one in group] for group in asked]
        for batch in range(self.layout.batches):
            plain = [
                self._sums.factor(_owned(self.layout, word, batch, chunk)) for word in self.words
            ]
            for group, totals in zip(turned, self._totals, strict=True):
                for first, one in enumerate(group):
                    # What both second words make is left out.
                    for second in range(self.layout.words - first):
                        totals[batch][first + second].add(one, plain[second])

    def masked(self, group: int, *, to_key: bool) -> tuple[list[list[he.Cipher]], Longs]:
        """The answers of a group by batch and word, and what is to be taken off the opened sums.

        Args:
            group: which; each once.
            to_key: whether the key holder is to get the sums: then nothing is to be taken off.

        Returns:
            Ciphertexts, and int64 `[words, owned, side]`.
        """
        off, out = [], []
        for totals in self._totals[group]:
            masks, sums = zip(*(_masks(self.layout, to_key=to_key) for _ in totals), strict=True)
            out.append(
                [
                    one.added_to(_drowned(self.public)).plus(mask)
                    for one, mask in zip(totals, masks, strict=True)
                ]
            )
            off.append(np.stack(sums))
        return out, np.concatenate(off, axis=1)[:, : self.layout.owned]


def in_messages(layout: Layout) -> list[int]:
    """Ciphertexts in each message of the answers of a group."""
    whole = layout.batches * layout.words
    return [min(_TOGETHER, whole - at) for at in range(0, whole, _TOGETHER)]


def opened(key: he.HeKey, layout: Layout, answers: Sequence[Sequence[he.Cipher]]) -> Longs:
    """The key holder's last part, int64 `[words, owned, side]`: sums, with masks but for `to_key`.

    Args:
        key: its own.
        layout: as agreed.
        answers: of one group, by batch and word.
    """
    found = [np.stack([_blocks(layout, key.decrypt(one)) for one in batch]) for batch in answers]
    return np.concatenate(found, axis=1)[:, : layout.owned]


def _asked(layout: Layout, word: Longs, group: int, chunk: int) -> Longs:
    part = word[layout.rows_of(chunk), layout.columns_of(group)]
    blocks = np.zeros((layout.side, layout.block), np.int64)
    blocks[: part.shape[1], : part.shape[0]] = part.T
    return np.tile(blocks.ravel(), layout.copies)


def _owned(layout: Layout, word: Longs, batch: int, chunk: int) -> Longs:
    part = word[layout.rows_of(chunk), layout.owned_in(batch)]
    blocks = np.zeros((layout.copies, layout.side, layout.block), np.int64)
    blocks[: part.shape[1], :, : part.shape[0]] = part.T[:, None, :]
    return blocks.ravel()


def _masks(layout: Layout, *, to_key: bool) -> tuple[Longs, Longs]:
    """A mask for all slots, and its sums over blocks, int64 `[copies, side]`."""
    mask = he.masks(he.SLOTS)
    used = layout.copies * layout.side * layout.block
    # A view: what is set in it is set in the mask.
    blocks = mask[:used].reshape(-1, layout.block)
    if to_key:
        blocks[:, -1] = he.centred(-blocks[:, :-1].sum(axis=1))
    return mask, _blocks(layout, mask)


def _blocks(layout: Layout, slots: Longs) -> Longs:
    used = slots[: layout.copies * layout.side * layout.block]
    return he.centred(used.reshape(layout.copies, layout.side, layout.block).sum(axis=2))


def _drowned(public: he.HePublic) -> he.Cipher:
    """An encryption of zero whose noise drowns that of the products, as in `products`."""
    zero = public.encrypt(np.zeros(0, np.int64))
    return zero.times(he.masks(he.SLOTS)).times(he.masks(he.SLOTS)) + zero
