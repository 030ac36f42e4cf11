"""Metrics that add up: shards and parties count by score bin, and the sum gives the AUC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import check_labels, check_probabilities
from isthmus.metrics.thresholds import Confusion

_REACH = 20.0
"""Logits beyond +-20 (probabilities nearer to 0 or 1 than 2e-9) share the outermost bins."""


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """Counts of positives and negatives by predicted probability, in bins of equal logit width.

    The logit keeps its resolution where clicks are rare and all probabilities lie near zero.
    `a + b` is the histogram of the rows of both.
    """

    positives: npt.NDArray[np.int64]
    """`[bins]`"""
    negatives: npt.NDArray[np.int64]
    """`[bins]`"""

    def __post_init__(self) -> None:
        if self.positives.ndim != 1 or self.positives.shape != self.negatives.shape:
            raise MetricError("the two halves of a histogram must have the same bins")

    @classmethod
    def empty(cls, bins: int = 4096) -> ScoreHistogram:
        """The histogram of no rows: the zero of `+`."""
        return cls(np.zeros(bins, np.int64), np.zeros(bins, np.int64))

    @classmethod
    def of(
        cls, labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 4096
    ) -> ScoreHistogram:
        """Count rows; one class alone is fine here, as another shard may hold the other.

        Raises:
            MetricError: NaN, probabilities outside [0, 1], wrong shapes or labels.
        """
        positive = check_labels(labels)
        p = check_probabilities(probabilities, positive.size).astype(np.float64)
        with np.errstate(divide="ignore"):
            logit = np.log(p) - np.log1p(-p)
        place = (logit.clip(-_REACH, _REACH) + _REACH) * (bins / (2 * _REACH))
        index = np.minimum(place.astype(np.int64), bins - 1)
        return cls(
            np.bincount(index[positive], minlength=bins),
            np.bincount(index[~positive], minlength=bins),
        )

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        if self.positives.shape != other.positives.shape:
            raise MetricError(
                f"histograms of {self.positives.size} and {other.positives.size} bins do not add up"
            )
        return ScoreHistogram(self.positives + other.positives, self.negatives + other.negatives)

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return int(self.positives.sum() + self.negatives.sum())

    @property
    def auc(self) -> float:
        """The AUC, rows of one bin counted as tied; off by at most `auc_error`.

        Raises:
            MetricError: the rows counted so far are of one class.
        """
        positives, negatives = self._totals()
        before = np.cumsum(self.negatives) - self.negatives
        wins = self.positives @ (before + self.negatives / 2)
        return float(wins / (positives * negatives))

    @property
    def auc_error(self) -> float:
        """How far `auc` can be from that of the scores themselves: half the tied pairs.

        Raises:
            MetricError: the rows counted so far are of one class.
        """
        positives, negatives = self._totals()
        tied = self.positives.astype(np.float64) @ self.negatives
        return float(tied / (2 * positives * negatives))

    @property
    def ks(self) -> float:
        """The KS distance at the bins' edges, so never above that of the scores themselves.

        Raises:
            MetricError: the rows counted so far are of one class.
        """
        positives, negatives = self._totals()
        distance = np.cumsum(self.positives) / positives - np.cumsum(self.negatives) / negatives
        return float(np.abs(distance).max())

    def confusion(self) -> Confusion:
        """Counts at the lower edge of each bin, from the highest down; they are not approximate.

        From it come precision and recall, gains and lift of all rows counted.

        Raises:
            MetricError: the rows counted so far are of one class.
        """
        self._totals()
        bins = self.positives.size
        edges = np.linspace(-_REACH, _REACH, bins + 1)[:-1][::-1]
        true, false = (np.cumsum(one[::-1]) for one in (self.positives, self.negatives))
        thresholds = 1 / (1 + np.exp(-edges))
        # The lowest bin has all that lies below it too.
        thresholds[-1] = 0.0
        return Confusion(thresholds, true, false, false[-1] - false, true[-1] - true)

    def _totals(self) -> tuple[float, float]:
        positives, negatives = float(self.positives.sum()), float(self.negatives.sum())
        if positives == 0 or negatives == 0:
            raise MetricError("no rows of one of the two classes; a ranking needs both")
        return positives, negatives
