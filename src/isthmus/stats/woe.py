"""Weight of evidence, information value and population stability from counts per bin.

With P positives (label 1, "events") and N negatives in all, p and n of them in a bin::

    WOE = ln((p / P) / (n / N))          IV = sum over bins of (p / P - n / N) WOE

as FATE's `hetero_feature_binning` has it. In a bin of one class alone, both p and n are first made
greater by `adjustment` (FATE's adjustment_factor, 0.5), while P and N stay as they are. With
`adjustment=0` such a bin has WOE 0 and adds nothing to IV, as in `optbinning`, whose WOE has the
other sign (negatives over positives) and whose IV is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.stats.storing import STRICT

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WoeTable:
    """The bins of one column against the label, a tuple entry per bin."""

    rows: tuple[int, ...]
    positives: tuple[int, ...]
    woe: tuple[float, ...]
    iv: tuple[float, ...]
    """Each bin's part of the information value."""
    weights: tuple[float, ...] | None = None
    """Sums of the rows' weights, where rows have some: WOE and IV are then of these."""
    positive_weights: tuple[float, ...] | None = None
    __pydantic_config__ = STRICT

    @property
    def is_sound(self) -> bool:
        """Whether the fields agree with one another: a file may say anything."""
        return (
            len(self.rows) == len(self.positives) == len(self.woe) == len(self.iv) > 0
            and all(0 <= p <= r for p, r in zip(self.positives, self.rows, strict=True))
            and self._is_weighted_soundly
        )  # fmt: skip

    @property
    def _is_weighted_soundly(self) -> bool:
        whole, part = self.weights, self.positive_weights
        if whole is None or part is None:
            return whole is part
        return len(whole) == len(part) == len(self.rows) and all(
            0 <= p <= w * (1 + 1e-9) for p, w in zip(part, whole, strict=True)
        )

    @property
    def total_iv(self) -> float:
        """The column's information value, in nats."""
        return float(sum(self.iv))


def evidence(
    rows: npt.ArrayLike,
    positives: npt.ArrayLike,
    *,
    adjustment: float = 0.5,
    totals: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    """WOE and part of IV of each bin, both float64 `[bins]`.

    Args:
        rows: per bin.
        positives: rows of label 1 among them.
        adjustment: added to both classes of a bin where one is empty.
        totals: all rows and all positives, where the bins given are not all.
    """
    row, positive = np.asarray(rows, np.float64), np.asarray(positives, np.float64)
    all_rows, all_positives = totals or (row.sum(), positive.sum())
    negative = row - positive
    one_class = (positive == 0) | (negative == 0)
    more = np.where(one_class, adjustment, 0.0)
    p, n = (positive + more) / all_positives, (negative + more) / (all_rows - all_positives)
    told = (p > 0) & (n > 0)
    woe = np.log(np.where(told, p, 1.0) / np.where(told, n, 1.0))
    return woe, (p - n) * woe


def woe_table(
    rows: npt.ArrayLike,
    positives: npt.ArrayLike,
    adjustment: float = 0.5,
    *,
    weights: npt.ArrayLike | None = None,
    positive_weights: npt.ArrayLike | None = None,
) -> WoeTable:
    """All of a column's bins; see the module for the definition.

    Args:
        rows: per bin, whole numbers.
        positives: rows of label 1 among them; neither none nor all over the bins.
        adjustment: for bins of one class.
        weights: per bin the sum of its rows' weights, which then count in place of rows.
        positive_weights: of the positives among them.
    """
    row, positive = np.asarray(rows, np.int64), np.asarray(positives, np.int64)
    if weights is None or positive_weights is None:
        woe, iv = evidence(row, positive, adjustment=adjustment)
        return WoeTable(*(tuple(x.tolist()) for x in (row, positive, woe, iv)))
    whole, part = np.asarray(weights, np.float64), np.asarray(positive_weights, np.float64)
    woe, iv = evidence(whole, part, adjustment=adjustment)
    return WoeTable(*(tuple(x.tolist()) for x in (row, positive, woe, iv, whole, part)))
