"""Ranking: AUC, KS, the ROC curve, and lift by decile; ties count half."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import (
    Floats,
    check_both_classes,
    check_labels,
    check_scores,
    check_weights,
)


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of the ROC curve from (0, 0) to (1, 1), all float64 `[points]`."""

    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats
    """A row counts as positive where its score is at least this; the first one is above all."""


@dataclass(frozen=True, slots=True)
class LiftTable:
    """The rows in equal groups from the best score down, all float64 `[bins]`."""

    rows: Floats
    positives: Floats
    """Expected count: rows of one score are shared out evenly, so it need not be whole."""
    lift: Floats
    """The group's positive rate over that of all rows."""
    gain: Floats
    """The share of all positives found down to and including this group."""

    @property
    def share(self) -> Floats:
        """Share of the rows down to and including each group: with `gain`, the gains curve."""
        found: Floats = np.cumsum(self.rows) / self.rows.sum()
        return found

    @property
    def cumulative_lift(self) -> Floats:
        """`gain` over `share`; 0 where there is no row yet."""
        share = self.share
        return np.divide(self.gain, share, out=np.zeros(share.size), where=share > 0)


def auc(
    labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """The chance that a positive row scores above a negative one; ties count half.

    Args:
        labels: 0 or 1, `[n]`.
        scores: any order-preserving score, `[n]`.
        weights: how often each row counts, `[n]`; once by default.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    positive = check_labels(labels)
    check_both_classes(positive)
    score = check_scores(scores, positive.size)
    weight = check_weights(weights, positive.size)
    order = np.argsort(score[~positive])
    negatives = score[~positive][order]
    below = np.concatenate([[0.0], np.cumsum(weight[~positive][order])])
    left = np.searchsorted(negatives, score[positive], side="left")
    right = np.searchsorted(negatives, score[positive], side="right")
    pairs = float(weight[positive].sum() * below[-1])
    if pairs == 0:
        raise MetricError("all weight lies on one class; a ranking needs both")
    return float(weight[positive] @ (below[left] + below[right])) / (2 * pairs)


def ks(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Kolmogorov-Smirnov: the largest distance between the two classes' score distributions.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    curve = _full_roc(labels, scores)
    return float(np.abs(curve.true_positive_rate - curve.false_positive_rate).max())


def roc_curve(labels: npt.ArrayLike, scores: npt.ArrayLike, *, points: int = 200) -> RocCurve:
    """The ROC curve, thinned to at most `points` points evenly spaced along it.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    curve = _full_roc(labels, scores)
    if curve.thresholds.size <= points:
        return curve
    length = curve.false_positive_rate + curve.true_positive_rate
    keep = np.unique(np.searchsorted(length, np.linspace(0, 2, points)).clip(max=length.size - 1))
    return RocCurve(
        curve.false_positive_rate[keep], curve.true_positive_rate[keep], curve.thresholds[keep]
    )


def lift_table(labels: npt.ArrayLike, scores: npt.ArrayLike, *, bins: int = 10) -> LiftTable:
    """Lift and gain in `bins` groups of equal size (as far as it goes), best scores first.

    Raises:
        MetricError: one class only, NaN, wrong shapes or labels.
    """
    positive = check_labels(labels)
    curve = _full_roc(labels, scores)
    total = float(positive.sum())
    found = curve.true_positive_rate * total
    seen = found + curve.false_positive_rate * (positive.size - total)
    cuts = np.round(np.linspace(0, positive.size, bins + 1))
    positives = np.diff(np.interp(cuts, seen, found))
    rows = np.diff(cuts)
    rate = np.divide(positives, rows, out=np.zeros(bins), where=rows > 0)
    return LiftTable(
        rows=rows,
        positives=positives,
        lift=rate / (total / positive.size),
        gain=np.cumsum(positives) / total,
    )


def _full_roc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> RocCurve:
    positive = check_labels(labels)
    check_both_classes(positive)
    score = check_scores(scores, positive.size)
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], positive[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    true = np.cumsum(hits)[last_of_tie]
    false = last_of_tie + 1 - true
    return RocCurve(
        false_positive_rate=np.append(0.0, false / false[-1]),
        true_positive_rate=np.append(0.0, true / true[-1]),
        thresholds=np.append(np.nextafter(ranked[0], np.inf), ranked[last_of_tie]),
    )
