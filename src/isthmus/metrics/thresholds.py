"""What a cut-off does: confusion by threshold, precision and recall, the KS curve, gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import Bools, Floats, check_both_classes, check_labels, check_scores

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at each threshold, all `[thresholds]`; a row is called positive at or above it."""

    thresholds: Floats
    true_positive: Longs
    false_positive: Longs
    true_negative: Longs
    false_negative: Longs

    @property
    def precision(self) -> Floats:
        """Share of positives among the rows called so; 1 where none is, as in a PR curve."""
        called = self.true_positive + self.false_positive
        return _over(self.true_positive, called, 1.0)

    @property
    def recall(self) -> Floats:
        """Share of the positives that are called so."""
        return _over(self.true_positive, self.true_positive + self.false_negative, 0.0)

    @property
    def false_positive_rate(self) -> Floats:
        """Share of the negatives that are called positive."""
        return _over(self.false_positive, self.false_positive + self.true_negative, 0.0)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall; 0 where no positive is called so."""
        both = 2 * self.true_positive + self.false_positive + self.false_negative
        return _over(2 * self.true_positive, both, 0.0)

    @property
    def accuracy(self) -> Floats:
        """Share of the rows that are called what they are."""
        return (self.true_positive + self.true_negative) / self._rows

    @property
    def called(self) -> Floats:
        """Share of the rows that are called positive."""
        return (self.true_positive + self.false_positive) / self._rows

    @property
    def lift(self) -> Floats:
        """Precision over the share of positives in all rows; 0 where none is called positive."""
        called = self.true_positive + self.false_positive
        base = (self.true_positive + self.false_negative) / self._rows
        return _over(self.true_positive, called, 0.0) / base

    @property
    def _rows(self) -> Longs:
        found: Longs = (
            self.true_positive + self.false_positive + self.true_negative + self.false_negative
        )
        return found


@dataclass(frozen=True, slots=True)
class KsCurve:
    """The two classes' score distributions, from the highest score down, float64 `[points]`."""

    thresholds: Floats
    positives: Floats
    """Share of the positives at or above the threshold."""
    negatives: Floats
    """Share of the negatives at or above it."""
    ks: float
    """The largest distance of the two, over all scores and not only the points kept."""
    at: float
    """The threshold of it, the highest of several."""


def confusion(
    labels: npt.ArrayLike, scores: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
) -> Confusion:
    """Counts at each threshold.

    Args:
        labels: 0 or 1, `[n]`.
        scores: the higher, the more positive, `[n]`.
        thresholds: `[t]`; by default each distinct score, from the highest down.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels, or no threshold.
    """
    positive, score = _checked(labels, scores)
    if thresholds is None:
        cuts = np.unique(score)[::-1].astype(np.float64)
    else:
        cuts = np.asarray(thresholds, np.float64)
        if cuts.ndim != 1 or not cuts.size or np.isnan(cuts).any():
            raise MetricError("thresholds must be a list of at least one number")
    true = _at_or_above(score[positive], cuts)
    false = _at_or_above(score[~positive], cuts)
    ones = int(positive.sum())
    return Confusion(cuts, true, false, positive.size - ones - false, ones - true)


def ks_curve(labels: npt.ArrayLike, scores: npt.ArrayLike, *, points: int = 200) -> KsCurve:
    """The KS curve, thinned to at most `points` thresholds, that of the KS itself among them.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    table = confusion(labels, scores)
    positives, negatives = table.recall, table.false_positive_rate
    gap = np.abs(positives - negatives)
    best = int(gap.argmax())
    size = gap.size
    keep = np.arange(size)
    if size > points:
        keep = np.unique(np.append(np.linspace(0, size - 1, points - 1).astype(np.int64), best))
    return KsCurve(
        table.thresholds[keep], positives[keep], negatives[keep],
        float(gap[best]), float(table.thresholds[best]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision over recall, from the highest score down, float64 `[points]`."""

    thresholds: Floats
    precision: Floats
    recall: Floats
    average: float
    """`average_precision`, over all scores and not only the points kept."""


def precision_recall(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, points: int = 200
) -> PrecisionRecall:
    """Precision and recall at distinct scores, thinned to at most `points` evenly by recall.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    table = confusion(labels, scores)
    precision, recall = table.precision, table.recall
    keep = np.arange(recall.size)
    if recall.size > points:
        wanted = np.searchsorted(recall, np.linspace(0, 1, points - 1), side="left")
        keep = np.unique(np.append(0, wanted.clip(max=recall.size - 1)))
    return PrecisionRecall(
        table.thresholds[keep], precision[keep], recall[keep], _average(precision, recall)
    )


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The area under precision and recall as a step function: the sum of (R_i - R_i-1) P_i.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    table = confusion(labels, scores)
    return _average(table.precision, table.recall)


def _average(precision: Floats, recall: Floats) -> float:
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Bools, Floats]:
    positive = check_labels(labels)
    check_both_classes(positive)
    return positive, check_scores(scores, positive.size)


def _at_or_above(scores: Floats, cuts: Floats) -> Longs:
    return scores.size - np.searchsorted(np.sort(scores), cuts, side="left").astype(np.int64)


def _over(top: Longs, bottom: Longs, empty: float) -> Floats:
    out: Floats = np.full(top.shape, empty)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
