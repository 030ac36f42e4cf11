"""How well probabilities of several classes name the right one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError


@dataclass(frozen=True, slots=True)
class MulticlassMetrics:
    """How a model does on rows of several classes."""

    accuracy: float
    """Share of rows whose class has the greatest probability."""
    log_loss: float
    """Mean negative log of the right class's probability, in nats."""
    rows: int


def multiclass_metrics(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> MulticlassMetrics:
    """All figures at once.

    Args:
        labels: numbers of classes from 0, `[n]`.
        probabilities: `[n, classes]`, each row with a sum of 1.

    Raises:
        MetricError: no rows, other shapes, a class without a probability, rows that are no
            probabilities.
    """
    classes, p = np.asarray(labels), np.asarray(probabilities)
    if classes.ndim != 1 or classes.size == 0 or p.ndim != 2 or len(p) != classes.size:
        raise MetricError(
            f"classes of shape {classes.shape} and probabilities of shape {p.shape} do not fit"
        )
    if not np.isin(classes, np.arange(p.shape[1])).all():
        raise MetricError(f"classes must be numbers from 0 to {p.shape[1] - 1}")
    # Written so that NaN is caught too.
    if not (p.min() >= 0 and np.abs(p.sum(axis=1) - 1).max() < 1e-4):
        raise MetricError("each row of probabilities must have a sum of 1 and no negative one")
    right = p[np.arange(len(p)), classes.astype(np.int64)].astype(np.float64)
    tiny = float(np.finfo(p.dtype).eps)
    return MulticlassMetrics(
        accuracy=float((p.argmax(axis=1) == classes).mean()),
        log_loss=float(-np.log(right.clip(tiny, 1)).mean()),
        rows=classes.size,
    )
