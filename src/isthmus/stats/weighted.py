"""What is counted in bins: rows, positives, and where rows have weights the sums of these.

Encrypted sums are of whole numbers, so that weights stand for whole numbers by a scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.errors import DataError
from isthmus.stats.binning import NO_BIN, ColumnBins
from isthmus.stats.columns import Bools, Codes, Floats
from isthmus.stats.woe import WoeTable, woe_table

Longs = npt.NDArray[np.int64]
FINEST = 2.0**20
"""Units of a row's weight, on average."""
_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Weights:
    """How much each row counts."""

    whole: Longs
    """`[rows]`, in units of `1 / scale`."""
    scale: float

    @property
    def most(self) -> int:
        """What no sum of them passes. Partners see it, so it tells no more than the magnitude."""
        return (1 << int(self.whole.sum()).bit_length()) - 1


def fixed(weights: npt.ArrayLike, rows: int) -> Weights:
    """Weights as whole numbers of which the mean is at most `FINEST`: exactly where they have few
    enough digits, else to about six of them.

    The finer they are, the more the sums over a bin say of which rows are in it.

    Raises:
        DataError: they are of another number of rows, negative, not finite, or all zero.
    """
    given = np.asarray(weights, np.float64)
    if given.shape != (rows,):
        raise DataError(f"the weights have shape {given.shape} for {rows} rows")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise DataError("weights must be finite, not negative, and not all zero")
    # A sum may reach the next power of two, which must be a number of the modulus.
    most = min(float(he.HALF // 4), rows * FINEST)
    total = float(given.sum())
    for decimals in range(_DECIMALS + 1):
        scale = 10.0**decimals
        whole = np.rint(given * scale)
        if total * scale <= most and (whole / scale == given).all():
            return Weights(whole.astype(np.int64), scale)
    return Weights(np.rint(given * (most / total)).astype(np.int64), most / total)


@dataclass(frozen=True, eq=False)
class Counts:
    """What is in each bin of a column, all `[bins]`."""

    rows: Longs
    positives: Longs
    weights: Floats | None = None
    """Sums of the rows' weights; None where a row is a row."""
    positive_weights: Floats | None = None

    @staticmethod
    def of(bins: ColumnBins, codes: Codes, label: Bools, weights: Weights | None) -> Counts:
        """Of rows whose values are at hand; `codes` int32 `[rows]` as of `bins`."""
        rows, positives = bins.counts(codes), bins.counts(np.where(label, codes, NO_BIN))
        if weights is None:
            return Counts(rows, positives)
        known = codes >= 0
        sums = [
            np.bincount(codes[known], weights=(weights.whole * of)[known], minlength=bins.count)
            for of in (1, label)
        ]
        return Counts(rows, positives, sums[0] / weights.scale, sums[1] / weights.scale)

    def over(self, groups: Longs) -> Counts:
        """Of groups of bins; `groups` int64 `[bins]`."""
        size = int(groups.max()) + 1

        def added(values: npt.NDArray[np.generic]) -> Floats:
            return np.bincount(groups, weights=values, minlength=size).astype(np.float64)

        rows, positives = (added(x).astype(np.int64) for x in (self.rows, self.positives))
        if self.weights is None or self.positive_weights is None:
            return Counts(rows, positives)
        return Counts(rows, positives, added(self.weights), added(self.positive_weights))

    def effective(self) -> tuple[Floats, Floats]:
        """Rows and positives as they count, which add up to the number of rows."""
        if self.weights is None or self.positive_weights is None:
            return self.rows.astype(np.float64), self.positives.astype(np.float64)
        unit = self.rows.sum() / self.weights.sum()
        return self.weights * unit, self.positive_weights * unit

    def table(self, adjustment: float) -> WoeTable:
        """WOE and IV, weighted where rows are."""
        return woe_table(
            self.rows, self.positives, adjustment,
            weights=self.weights, positive_weights=self.positive_weights,
        )  # fmt: skip
