"""Real numbers as whole ones, so scaled that sums of products over all rows cannot overflow.

A product of two numbers and the sum over the rows share the 49 bits and the sign of `he.HALF`. The
label party's residuals and the feature party's whitened columns get half each of what the rows
leave: 17 bits both at 30,000 rows, 14 and 15 at a million. Rounding is then to 2^-(bits + 1) of the
largest value, which moves a gradient by about that, times the largest over the root mean square,
in standard errors of the coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto.he import HALF
from isthmus.crypto.products import fits
from isthmus.errors import JobError

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

MOST_ROWS = 1 << 24
"""Their residuals still are one message."""


@dataclass(frozen=True)
class Precision:
    """Bits of the two sides, known to both from the number of rows."""

    residual: int
    column: int

    @classmethod
    def of(cls, rows: int) -> Precision:
        """The bits for so many rows. Raises JobError if they are too many."""
        if rows > MOST_ROWS:
            raise JobError(
                f"{rows} rows are more than the {MOST_ROWS} of an encrypted sum",
                mend="Fit on a sample of the rows.",
            )
        bits = (HALF // rows).bit_length() - 1
        found = cls(bits - bits // 2, bits // 2)
        if not fits(rows, 1 << found.residual, 1 << found.column):
            raise AssertionError(f"{found} overflows with {rows} rows")
        return found

    def residuals(self, values: Floats) -> tuple[Longs, int]:
        """Whole numbers [rows] and the power of two that they count in.

        A power of two, as the feature party learns it and should not learn the largest residual.
        """
        return _in_powers(values, self.residual)

    def columns(self, values: Floats) -> tuple[Longs, Floats]:
        """Whole numbers [rows, columns] and what one counts in each column."""
        units = np.abs(values).max(axis=0) / (1 << self.column)
        return _whole(values / units), units

    def columns_together(self, values: Floats) -> tuple[Longs, int]:
        """Whole numbers [rows, columns] and the power of two that all of them count in."""
        return _in_powers(values, self.column)


def _in_powers(values: Floats, bits: int) -> tuple[Longs, int]:
    largest = float(np.abs(values).max())
    exponent = math.frexp(largest)[1] - bits if largest else 0
    return _whole(np.ldexp(values, -exponent)), exponent


def _whole(values: Floats) -> Longs:
    return np.asarray(np.rint(values), np.int64)
