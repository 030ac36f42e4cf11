"""The Lorenz curve of predictions and its Gini index: how well they order the values.

Rows stand from the least prediction up. The curve is the share of the values' sum that the first
rows have, over their share of the rows (or of the weights, such as exposures): the diagonal for a
prediction that orders nothing. Gini is twice the area between the two (Frees, Meyers and Cummings,
2011); normalised, it is divided by the Gini of an order by the values themselves. With values of 0
and 1 the normalised Gini is 2 AUC - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import Floats, check_values, check_weights


@dataclass(frozen=True, slots=True)
class LorenzCurve:
    """Points of the curve from (0, 0) to (1, 1), float64 `[points]`."""

    rows: Floats
    """Share of the rows, or of the weights."""
    values: Floats
    """Share of the sum of values that they have."""
    gini: float
    """Of all rows, and not only of the points kept."""
    normalised: float | None
    """Of the greatest that an order can have; None where the values do not vary."""


def lorenz_curve(
    values: npt.ArrayLike,
    predictions: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    points: int = 200,
) -> LorenzCurve:
    """The Lorenz curve, thinned to at most `points`; rows of one prediction are shared out evenly.

    Args:
        values: the true ones for one unit of weight, `[n]`, not negative, such as claims a year.
        predictions: any order-preserving score, `[n]`.
        weights: how much each row counts, `[n]`, such as years insured; once by default.
        points: 2 or more.

    Raises:
        MetricError: no rows, NaN or infinity, other shapes, negative values, or a sum of 0.
    """
    truth, guess = check_values(values, predictions)
    weight = check_weights(weights, truth.size)
    if points < 2:
        raise MetricError(f"a curve has 2 points or more, not {points}")
    if truth.min() < 0 or not truth @ weight > 0:
        raise MetricError("a Lorenz curve needs values of 0 or above with a sum above 0")
    rows, shares = _curve(truth, guess, weight)
    gini, best = _gini(rows, shares), _gini(*_curve(truth, truth, weight))
    if rows.size > points:
        keep = np.unique(np.linspace(0, rows.size - 1, points).astype(np.int64))
        rows, shares = rows[keep], shares[keep]
    return LorenzCurve(rows, shares, gini, gini / best if best > 0 else None)


def _curve(truth: Floats, guess: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Shares of weight and of values after each distinct prediction, from 0 to 1."""
    order = np.argsort(guess, kind="stable")
    last = np.append(np.flatnonzero(np.diff(guess[order])), guess.size - 1)
    seen, had = (np.cumsum(one[order])[last] for one in (weight, weight * truth))
    return np.append(0.0, seen / seen[-1]), np.append(0.0, had / had[-1])


def _gini(rows: Floats, shares: Floats) -> float:
    return float(1 - np.diff(rows) @ (shares[1:] + shares[:-1]))
