"""How far predicted values lie from the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError
from isthmus.metrics.checks import Floats, check_scores


@dataclass(frozen=True, slots=True)
class RealMetrics:
    """How a model does on rows with a real value."""

    rmse: float
    """Root mean square error, in the value's unit."""
    mae: float
    """Mean absolute error, in the value's unit."""
    r2: float | None
    """Share of the variance that is explained; None where the values do not vary."""
    rows: int


def real_metrics(values: npt.ArrayLike, predictions: npt.ArrayLike) -> RealMetrics:
    """All figures at once.

    Args:
        values: the true ones, `[n]`.
        predictions: in the same unit, `[n]`.

    Raises:
        MetricError: no rows, NaN or infinity, other shapes.
    """
    truth, guess = _check(values, predictions)
    errors = guess - truth
    variance = float(np.square(truth - truth.mean()).mean())
    square = float(np.square(errors).mean())
    return RealMetrics(
        rmse=float(np.sqrt(square)),
        mae=float(np.abs(errors).mean()),
        r2=1 - square / variance if variance > 0 else None,
        rows=truth.size,
    )


def _check(values: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Floats, Floats]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise MetricError(f"values must be a list of at least one, not of shape {array.shape}")
    truth = check_scores(array, array.size, "values").astype(np.float64)
    return truth, check_scores(predictions, array.size, "predictions").astype(np.float64)
