"""Sums of products of two parties' numbers, X' r, without either seeing the other's.

One party, the key holder, has r, the other, the owner, has X. r goes up encrypted, the owner
multiplies slot by slot with its columns, adds the ciphertexts of one column together, and adds a
mask to every slot before they go back. So the key holder, who can decrypt, sees uniform numbers;
their sum over the slots of a column is the result plus the sum of its masks. Who gets the result is
the owner's choice of masks: if those of a column add up to zero, the key holder (`masked` with
`to_key=True`), else the owner, who takes the masks' sum off what the key holder tells it.

Semi-honest. The one whom the result is for learns the sums and nothing else (but see `he` on
noise); the other learns nothing. All is exact whole numbers: fixed point is the caller's affair,
and so is that no sum passes `he.HALF` (`fits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto.he import HALF, SLOTS, Cipher, HeKey, HePublic, centred, masks
from isthmus.crypto.he_sums import Sums

Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """How r [rows] and X [rows, columns] lie in slots: both parties work it out alike.

    Where the rows leave room, r is repeated and several columns share a ciphertext.
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"{self.rows} rows and {self.columns} columns")

    @property
    def together(self) -> int:
        """Columns in a ciphertext."""
        return max(1, SLOTS // self.rows)

    @property
    def asked(self) -> int:
        """Ciphertexts of r."""
        return -(-self.rows // SLOTS)

    @property
    def answered(self) -> int:
        """Ciphertexts that come back."""
        return -(-self.columns // self.together)


def fits(rows: int, largest_r: int, largest_x: int) -> bool:
    """Whether no sum over `rows` products can leave the range of whole numbers."""
    return rows * largest_r * largest_x <= HALF


def encrypted(key: HeKey | HePublic, shape: Shape, values: Longs) -> list[Cipher]:
    """The key holder's part: r, int64 [rows], as `shape.asked` ciphertexts."""
    if values.shape != (shape.rows,):
        raise ValueError(f"{values.shape} numbers where there are {shape.rows} rows")
    if shape.asked == 1:
        return [key.encrypt(np.tile(values, min(shape.together, shape.columns)))]
    return [key.encrypt(values[at : at + SLOTS]) for at in range(0, shape.rows, SLOTS)]


def masked(
    public: HePublic, shape: Shape, asked: Sequence[Cipher], x: Longs, *, to_key: bool = False
) -> tuple[list[Cipher], Longs]:
    """The owner's part: the masked products, and what is to be taken off the opened sums.

    Args:
        public: the key holder's key.
        shape: as agreed.
        asked: `shape.asked` ciphertexts of r.
        x: int64 [rows, columns].
        to_key: whether the key holder is to get the sums, and not the owner.

    Returns:
        `shape.answered` ciphertexts, and int64 [columns], zeros with `to_key`.
    """
    if x.shape != (shape.rows, shape.columns) or len(asked) != shape.asked:
        raise ValueError(f"{x.shape} with {len(asked)} ciphertexts do not fit {shape}")
    answers, off = [], np.zeros(shape.columns, np.int64)
    makes = Sums(public)
    turned = [makes.turned(one) for one in asked]
    for number in range(shape.answered):
        first = number * shape.together
        mine = x[:, first : first + shape.together]
        mask, sums = _masks(shape, mine.shape[1], to_key)
        off[first : first + shape.together] = sums
        flat = mine.T.ravel() if shape.asked == 1 else mine.ravel()
        total = makes.sum()
        for chunk, one in enumerate(turned):
            total.add(one, makes.factor(flat[chunk * SLOTS : (chunk + 1) * SLOTS]))
        # Noise that drowns what the products leave in the ciphertext's own; it also carries columns
        # that are all 0.
        zero = public.encrypt(np.zeros(0, np.int64))
        drowned = zero.times(masks(SLOTS)).times(masks(SLOTS)) + zero
        answers.append(total.added_to(drowned).plus(mask))
    return answers, off


def opened(key: HeKey, shape: Shape, answers: Sequence[Cipher]) -> Longs:
    """The key holder's last part: the sums with their masks, int64 [columns] within `he.HALF`."""
    out = np.zeros(shape.answered * shape.together, np.int64)
    for number, answer in enumerate(answers):
        slots = key.decrypt(answer)
        if shape.asked == 1:
            used = slots[: shape.together * shape.rows].reshape(shape.together, shape.rows)
            found = used.sum(axis=1)
        else:
            found = slots.sum(keepdims=True)
        out[number * shape.together : (number + 1) * shape.together] = found
    return centred(out[: shape.columns])


def unmasked(found: Longs, off: Longs) -> Longs:
    """The sums: what the key holder opened less what the owner had added."""
    return centred(found - off)


def _masks(shape: Shape, columns: int, to_key: bool) -> tuple[Longs, Longs]:
    """A mask for all slots, and its sum over each column's slots."""
    mask = masks(SLOTS)
    used = columns * shape.rows if shape.asked == 1 else SLOTS
    blocks = mask[:used].reshape(columns, -1)
    if to_key:
        blocks[:, -1] = centred(-blocks[:, :-1].sum(axis=1))
    return mask, centred(blocks.sum(axis=1))
