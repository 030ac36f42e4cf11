"""Counts of several bins in one encrypted sum, as the digits of a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.products import Shape
from isthmus.stats.columns import Codes

Longs = npt.NDArray[np.int64]
_TOGETHER = 16
"""Sums in a message, about."""


@dataclass(frozen=True)
class Packing:
    """How bins share sums: both parties work it out alike."""

    rows: int
    most: int = 0
    """What no sum passes; 0 for the number of rows."""

    @property
    def base(self) -> int:
        """Of the digits: no sum passes what is the most."""
        return (self.most or self.rows) + 1

    @property
    def together(self) -> int:
        """Bins in a sum: the greatest number whose digits cannot pass `he.HALF`."""
        number = 1
        while self.base ** (number + 1) <= he.HALF:
            number += 1
        return number

    def sums(self, bins: int) -> int:
        """Sums of a column of so many bins."""
        return -(-bins // self.together)

    def weights(self, codes: Codes, place: int) -> Longs:
        """Each row's weight in sum number `place` of its column, int64 `[rows]`."""
        digit = codes.astype(np.int64) - place * self.together
        here = (digit >= 0) & (digit < self.together)
        return np.where(here, np.power(self.base, np.where(here, digit, 0)), 0)

    def digits(self, sums: Longs, bins: int) -> Longs:
        """The positives per bin, int64 `[bins]`."""
        powers = np.power(self.base, np.arange(self.together))
        return (sums[:, None] // powers % self.base).ravel()[:bins]

    def batches(self, sums: int) -> Iterator[tuple[int, int]]:
        """First and last sum of each message."""
        side = Shape(self.rows, sums).together
        step = side * max(1, _TOGETHER // side)
        for start in range(0, sums, step):
            yield start, min(start + step, sums)
