"""How far predicted values lie from the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.metrics.checks import check_values


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
    truth, guess = check_values(values, predictions)
    errors = guess - truth
    variance = float(np.square(truth - truth.mean()).mean())
    square = float(np.square(errors).mean())
    return RealMetrics(
        rmse=float(np.sqrt(square)),
        mae=float(np.abs(errors).mean()),
        r2=1 - square / variance if variance > 0 else None,
        rows=truth.size,
    )
