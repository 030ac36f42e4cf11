"""The figures of one model on one set of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from isthmus.metrics.checks import check_labels, check_probabilities
from isthmus.metrics.probability import brier, log_loss
from isthmus.metrics.ranking import auc, ks


@dataclass(frozen=True, slots=True)
class BinaryMetrics:
    """How a model does on labelled rows."""

    auc: float
    ks: float
    log_loss: float
    """In nats."""
    brier: float
    rows: int
    positives: int


def binary_metrics(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> BinaryMetrics:
    """All figures at once.

    Args:
        labels: 0 or 1, `[n]`.
        probabilities: of label 1, within [0, 1], `[n]`.

    Raises:
        MetricError: one class only, NaN, values outside [0, 1], wrong shapes or labels.
    """
    positive = check_labels(labels)
    p = check_probabilities(probabilities, positive.size)
    return BinaryMetrics(
        auc=auc(positive, p),
        ks=ks(positive, p),
        log_loss=log_loss(positive, p),
        brier=brier(positive, p),
        rows=positive.size,
        positives=int(positive.sum()),
    )
