"""What one model gains over another on the same rows, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import Floats, check_both_classes, check_labels, check_scores


@dataclass(frozen=True, slots=True)
class Uplift:
    """A difference of two AUCs and its bootstrap interval."""

    mean: float
    """AUC of the first model minus AUC of the second, on the rows as they are; the bootstrap
    distribution has this mean."""
    low: float
    high: float
    level: float
    """Share of resamples between `low` and `high`, such as 0.95."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_uplift(
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Uplift:
    """AUC of `scores_a` minus AUC of `scores_b`, with a paired, stratified bootstrap interval.

    Rows are drawn with replacement within each class, the same rows for both models, and the
    interval holds the middle `level` of the differences (percentile bootstrap; Robin et al. 2011,
    pROC). Sorting is done once: a resample only changes how often each row counts.

    Args:
        labels: 0 or 1, `[n]`.
        scores_a: the scores of the model that should be better, `[n]`.
        scores_b: the scores of the one it is compared to, `[n]`.
        seed: of the resampling; the same seed gives the same interval.
        resamples: at least 20, for an interval to have ends.
        level: share of the resamples that the interval holds.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels, too few resamples.
    """
    if resamples < 20 or not 0 < level < 1:
        raise MetricError("a bootstrap interval needs 20 resamples or more and a level in (0, 1)")
    positive = check_labels(labels)
    check_both_classes(positive)
    pairs = [_Pairs.of(positive, check_scores(s, positive.size)) for s in (scores_a, scores_b)]
    positives = int(positive.sum())
    negatives = positive.size - positives
    rng = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for number in range(resamples):
        of_positive, of_negative = _draw(rng, positives), _draw(rng, negatives)
        first, second = (pair.auc(of_positive, of_negative) for pair in pairs)
        differences[number] = first - second
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    once = (np.ones(positives), np.ones(negatives))
    return Uplift(
        mean=pairs[0].auc(*once) - pairs[1].auc(*once),
        low=float(low),
        high=float(high),
        level=level,
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """One model's order of the rows: enough to compute its AUC under any counts."""

    order: npt.NDArray[np.int64]
    """The negative rows from the lowest score up."""
    left: npt.NDArray[np.int64]
    """How many of them score below each positive row."""
    right: npt.NDArray[np.int64]
    """How many score below it or tie with it."""

    @staticmethod
    def of(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> _Pairs:
        order = np.argsort(scores[~positive])
        negatives = scores[~positive][order]
        return _Pairs(
            order,
            np.searchsorted(negatives, scores[positive], side="left"),
            np.searchsorted(negatives, scores[positive], side="right"),
        )

    def auc(self, of_positive: Floats, of_negative: Floats) -> float:
        """AUC where positive row i counts `of_positive[i]` times, negative rows alike."""
        below = np.empty(self.order.size + 1)
        below[0] = 0.0
        np.cumsum(of_negative[self.order], out=below[1:])
        wins = of_positive @ (below[self.left] + below[self.right])
        return float(wins / (2 * of_positive.sum() * below[-1]))


def _draw(rng: np.random.Generator, rows: int) -> Floats:
    counts = np.bincount(rng.integers(0, rows, rows), minlength=rows)
    return counts.astype(np.float64)
