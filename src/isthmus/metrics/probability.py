"""Probabilities: log loss, Brier score, and calibration with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from isthmus.metrics.checks import Floats, check_labels, check_probabilities


@dataclass(frozen=True, slots=True)
class CalibrationBins:
    """Predicted against observed, in bins of about equal count, all `[bins]`."""

    predicted: Floats
    """Mean predicted probability of the bin's rows."""
    observed: Floats
    """Share of positives among them."""
    count: npt.NDArray[np.int64]
    low: Floats
    """Lower end of the Wilson interval of `observed`."""
    high: Floats
    """Upper end of it."""


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean negative log likelihood in nats.

    Probabilities are kept one machine epsilon of their own type away from 0 and 1, as a rounded
    sigmoid would otherwise cost infinity.

    Raises:
        MetricError: NaN, probabilities outside [0, 1], wrong shapes or labels.
    """
    positive = check_labels(labels)
    given = check_probabilities(probabilities, positive.size)
    tiny = float(np.finfo(given.dtype).eps)
    p = given.astype(np.float64).clip(tiny, 1 - tiny)
    return float(-np.log(np.where(positive, p, 1 - p)).mean())


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean squared distance of the probability from the label (Brier, 1950).

    Raises:
        MetricError: NaN, probabilities outside [0, 1], wrong shapes or labels.
    """
    positive = check_labels(labels)
    p = check_probabilities(probabilities, positive.size).astype(np.float64)
    return float(np.square(p - positive).mean())


def calibration(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 10, level: float = 0.95
) -> CalibrationBins:
    """Mean predicted and observed rate in bins of equal count.

    Rows of one probability are never torn apart, so there may be fewer bins than asked for.

    Raises:
        MetricError: NaN, probabilities outside [0, 1], wrong shapes or labels.
    """
    positive = check_labels(labels)
    p = check_probabilities(probabilities, positive.size).astype(np.float64)
    order = np.argsort(p, kind="stable")
    ranked, hits = p[order], positive[order]
    wanted = ranked[np.arange(1, bins) * p.size // bins]
    starts = np.unique(np.append(0, np.searchsorted(ranked, wanted, side="left")))
    count = np.diff(np.append(starts, p.size))
    observed = np.add.reduceat(hits.astype(np.float64), starts) / count
    low, high = wilson(observed, count, level=level)
    return CalibrationBins(
        predicted=np.add.reduceat(ranked, starts) / count,
        observed=observed,
        count=count,
        low=low,
        high=high,
    )


def wilson(
    rate: npt.ArrayLike, count: npt.ArrayLike, *, level: float = 0.95
) -> tuple[Floats, Floats]:
    """The score interval of a proportion `rate` seen in `count` rows (Wilson, 1927)."""
    p, n = np.asarray(rate, np.float64), np.asarray(count, np.float64)
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (centre - half).clip(0, 1), (centre + half).clip(0, 1)
