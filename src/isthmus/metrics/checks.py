"""What every metric asks of its input, said once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import MetricError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def check_labels(labels: npt.ArrayLike) -> Bools:
    """`labels` as bool `[n]`.

    Raises:
        MetricError: not one-dimensional, empty, or something other than 0 and 1.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise MetricError(f"labels must be a list of at least one, not of shape {array.shape}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise MetricError("labels must be 0 or 1; there are other values, or NaN, among them")
    return array.astype(np.bool_)


def check_both_classes(positive: Bools) -> None:
    """Refuse labels of one class, where a ranking has no quality.

    Raises:
        MetricError: all labels are the same.
    """
    count = int(positive.sum())
    if count in (0, positive.size):
        raise MetricError(
            f"all {positive.size} labels are {int(count > 0)}; a ranking needs both classes",
            mend="Evaluate on more rows, or check the label expression.",
        )


def check_scores(scores: npt.ArrayLike, rows: int, what: str = "scores") -> npt.NDArray[Any]:
    """`scores` as a floating array `[rows]`; float32 stays float32.

    Raises:
        MetricError: another shape, NaN or infinity.
    """
    array = np.asarray(scores)
    if array.shape != (rows,):
        raise MetricError(f"{what} have shape {array.shape} for {rows} labels")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    bad = rows - int(np.isfinite(array).sum())
    if bad:
        raise MetricError(f"{bad} of {rows} {what} are NaN or infinite")
    return array


def check_probabilities(probabilities: npt.ArrayLike, rows: int) -> npt.NDArray[Any]:
    """`probabilities` as a floating array `[rows]` within [0, 1].

    Raises:
        MetricError: another shape, NaN, or a value outside [0, 1].
    """
    array = check_scores(probabilities, rows, "probabilities")
    if array.min() < 0 or array.max() > 1:
        raise MetricError(
            "probabilities must lie in [0, 1]", mend="Apply the sigmoid to logits first."
        )
    return array


def check_weights(weights: npt.ArrayLike | None, rows: int) -> Floats:
    """`weights` as float64 `[rows]`; ones where there are none.

    Raises:
        MetricError: another shape, NaN or a negative weight.
    """
    if weights is None:
        return np.ones(rows)
    array = check_scores(weights, rows, "weights").astype(np.float64)
    if array.min() < 0:
        raise MetricError("weights must not be negative")
    return array


def check_values(values: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Real values and their predictions, both float64 `[n]`.

    Raises:
        MetricError: no rows, NaN or infinity, other shapes.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise MetricError(f"values must be a list of at least one, not of shape {array.shape}")
    truth = check_scores(array, array.size, "values").astype(np.float64)
    return truth, check_scores(predictions, array.size, "predictions").astype(np.float64)
