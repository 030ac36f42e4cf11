"""Deviance: how far predicted means lie from the values, by the family that a model assumes.

With value y, mean m and, for Tweedie, a power p in (1, 2), the unit deviance is::

    linear     (y - m)^2
    poisson    2 (y ln(y / m) - y + m)
    gamma      2 (ln(m / y) + y / m - 1)
    tweedie    2 (y^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p))

as in Jorgensen, The Theory of Dispersion Models (1997), and scikit-learn's mean_tweedie_deviance.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import Floats, check_values, check_weights

Family = Literal["linear", "poisson", "gamma", "tweedie"]
FAMILIES = ("linear", "poisson", "gamma", "tweedie")


def deviance(
    values: npt.ArrayLike,
    predictions: npt.ArrayLike,
    *,
    family: Family,
    power: float = 1.5,
    weights: npt.ArrayLike | None = None,
) -> float:
    """The mean unit deviance; 0 for predictions that are the values.

    Args:
        values: the true ones, `[n]`; not negative but for "linear", above 0 for "gamma".
        predictions: means, `[n]`; above 0 but for "linear".
        family: what the values are taken to follow.
        power: of the variance, for "tweedie", in (1, 2).
        weights: how often each row counts, `[n]`, such as exposures; once by default.

    Raises:
        MetricError: no rows, NaN or infinity, other shapes, values that the family does not have.
    """
    truth, guess = check_values(values, predictions)
    weight = _weights(weights, truth.size)
    _check(truth, guess, family, power)
    return float(np.average(_units(truth, guess, family, power), weights=weight))


def deviance_explained(
    values: npt.ArrayLike,
    predictions: npt.ArrayLike,
    *,
    family: Family,
    power: float = 1.5,
    weights: npt.ArrayLike | None = None,
) -> float | None:
    """The share of the deviance of a constant mean that is explained, D²; R² for "linear".

    Returns:
        At most 1; None where the values do not vary.

    Raises:
        MetricError: see `deviance`.
    """
    truth, guess = check_values(values, predictions)
    weight = _weights(weights, truth.size)
    _check(truth, guess, family, power)
    if truth.min() == truth.max():
        return None
    mean = np.full(truth.size, np.average(truth, weights=weight))
    whole, left = (
        float(np.average(_units(truth, means, family, power), weights=weight))
        for means in (mean, guess)
    )
    return 1 - left / whole if whole > 0 else None


def _weights(weights: npt.ArrayLike | None, rows: int) -> Floats:
    found = check_weights(weights, rows)
    if not found.sum() > 0:
        raise MetricError("all weights are 0")
    return found


def _check(truth: Floats, guess: Floats, family: Family, power: float) -> None:
    if family not in FAMILIES:
        raise MetricError(f"there is no family {family!r}: {', '.join(FAMILIES)}")
    if family == "tweedie" and not 1 < power < 2:
        raise MetricError(f"the power of tweedie is {power}, not between 1 and 2")
    if family == "linear":
        return
    if truth.min() < 0 or (family == "gamma" and truth.min() == 0):
        least = "above 0" if family == "gamma" else "0 or above"
        raise MetricError(f"values must be {least} for the family {family}")
    if guess.min() <= 0:
        raise MetricError(f"predictions must be above 0 for the family {family}")


def _units(y: Floats, m: Floats, family: Family, power: float) -> Floats:
    """The unit deviance of each row, float64 `[n]`."""
    if family == "linear":
        return np.square(y - m)
    if family == "poisson":
        ratio = np.where(y > 0, y / m, 1.0)
        return 2 * (y * np.log(ratio) - y + m)
    if family == "gamma":
        return 2 * (np.log(m / y) + y / m - 1)
    one, two = 1 - power, 2 - power
    found: Floats = 2 * (y**two / (one * two) - y * m**one / one + m**two / two)
    return found
