"""How far a population has moved: the population stability index of counts and of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import check_scores


@dataclass(frozen=True, slots=True)
class ScoreStability:
    """Two samples' scores over the same bins `(lower, upper]`, from the lowest score up."""

    edges: npt.NDArray[np.float64]
    """Inner ones, `[bins - 1]`."""
    before: npt.NDArray[np.float64]
    """Share of the first sample's rows in each bin, `[bins]`."""
    after: npt.NDArray[np.float64]
    """Share of the second sample's, `[bins]`."""
    psi: float


def psi(before: npt.ArrayLike, after: npt.ArrayLike, *, adjustment: float = 0.5) -> float:
    """The population stability index of two counts over the same bins, in nats.

    The sum over bins of (a - b) ln(a / b), with b and a each count's share of its own total; the
    same as Jeffreys' divergence. Where a bin is empty in one of the two, `adjustment` is added to
    both counts of that bin, and no share becomes 0.

    Args:
        before: rows per bin of the sample to compare with, `[bins]`.
        after: rows per bin of the other sample, `[bins]`.
        adjustment: for bins that are empty in one sample.

    Raises:
        MetricError: other shapes, negative counts, or an empty sample.
    """
    counts = np.stack([_counts(before), _counts(after)]) if _alike(before, after) else None
    if counts is None or not counts.sum(axis=1).all():
        raise MetricError("stability needs two counts over the same bins, neither of nothing")
    totals = counts.sum(axis=1, keepdims=True)
    counts = counts[:, counts.any(axis=0)]
    shares = (counts + np.where((counts == 0).any(axis=0), adjustment, 0.0)) / totals
    told = (shares > 0).all(axis=0)
    b, a = shares[:, told]
    return float(((a - b) * np.log(a / b)).sum())


def psi_of_scores(
    before: npt.ArrayLike, after: npt.ArrayLike, *, bins: int = 10, adjustment: float = 0.5
) -> float:
    """The population stability index of scores: that of `score_stability`.

    Args:
        before: the scores to compare with, `[n]`.
        after: the other sample's scores, `[m]`.
        bins: quantiles of the first sample; fewer where scores are tied.
        adjustment: see `psi`.

    Raises:
        MetricError: NaN, infinity, or no score.
    """
    return score_stability(before, after, bins=bins, adjustment=adjustment).psi


def score_stability(
    before: npt.ArrayLike, after: npt.ArrayLike, *, bins: int = 10, adjustment: float = 0.5
) -> ScoreStability:
    """Both samples' rows in bins of equal count of the first, such as training and test samples.

    Args:
        before: the scores to compare with, `[n]`.
        after: the other sample's scores, `[m]`.
        bins: quantiles of the first sample; fewer where scores are tied.
        adjustment: see `psi`.

    Raises:
        MetricError: NaN, infinity, or no score.
    """
    first, second = (check_scores(s, np.asarray(s).size) for s in (before, after))
    if not first.size or not second.size:
        raise MetricError("stability needs scores of both samples")
    wanted = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(first, wanted, method="inverted_cdf"))
    old, new = (
        np.bincount(np.searchsorted(edges, scores, side="left"), minlength=edges.size + 1)
        for scores in (first, second)
    )
    found = psi(old, new, adjustment=adjustment)
    return ScoreStability(edges.astype(np.float64), old / old.sum(), new / new.sum(), found)


def _alike(before: npt.ArrayLike, after: npt.ArrayLike) -> bool:
    return np.ndim(before) == 1 and np.shape(before) == np.shape(after)


def _counts(given: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(given, np.float64)
    if not np.isfinite(array).all() or (array < 0).any():
        raise MetricError("counts must be finite and not negative")
    return array
