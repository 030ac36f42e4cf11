"""Standardised numbers as whole ones, in one word or two, so that no sum of products can overflow.

z = (h + l 2^-f) 2^-f with h = round(z 2^f) and |l| <= 2^(f - 1). For two columns, z z' summed is
the sum of h h' and 2^-f times the sum of h l' + l h', both exact; what is left out, l l', is below
n 2^-2(f + 1) in all. f is the greatest for which no sum can pass half the modulus by Cauchy and
Schwarz, whatever the columns: sums of squares of z are n, so |sum h h'| is about n 2^2f. With both
words, what is left out and rounded is below 2^(1 - 2f) of a correlation; with h alone, about 2^-f.
For 30,000 rows f is 17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.errors import DataError
from isthmus.stats.columns import Floats

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """How numbers go as whole ones; all parties work it out alike."""

    f: int
    """Bits after the point in a word."""
    count: int
    """Words of a number: 1 or 2."""

    @staticmethod
    def of(rows: int, digits: int) -> Words:
        """One word if it makes an error of 10^-digits of a correlation at most, else two.

        Raises:
            DataError: there are too many rows for any precision.
        """
        f = 0
        while _fits(rows, f + 1):
            f += 1
        if f < 8:
            raise DataError(f"{rows} rows are too many for the precision of correlations")
        return Words(f, 1 if 1.01 * 2.0**-f <= 10.0**-digits else 2)

    def split(self, values: Floats) -> list[Longs]:
        """The words of standardised numbers."""
        high = np.rint(values * 2.0**self.f)
        low = np.rint((values * 2.0**self.f - high) * 2.0**self.f)
        return [high.astype(np.int64), low.astype(np.int64)][: self.count]

    def joined(self, sums: Longs) -> Floats:
        """Sums of products of numbers, from those of words, int64 `[count, ...]`."""
        weights = 2.0 ** (-self.f * np.arange(self.count))
        found: Floats = np.tensordot(weights, sums.astype(np.float64), 1) * 2.0 ** (-2 * self.f)
        return found


def _fits(rows: int, f: int) -> bool:
    """Whether neither sum can pass `he.HALF`: each word has a root of its sum of squares."""
    root = math.sqrt(rows)
    high, low = root * (2**f + 0.5), root * (2 ** (f - 1) + 0.5)
    return bool(max(high * high, 2 * high * low) * (1 + 1e-9) <= he.HALF)
