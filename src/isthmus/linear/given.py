"""What a party gives to a linear model, checked: its columns, and a number for each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.errors import DataError, JobError
from isthmus.linear.local import Target
from isthmus.linear.options import LinearOptions

Floats = NDArray[np.float64]

FARTHEST = 1e100
"""Numbers beyond it have squares whose sum no float64 may hold."""


def table(data: ArrayLike) -> Floats:
    """The own columns, float64 [rows, columns].

    Raises:
        DataError: another shape, or values that are no numbers, missing, infinite or beyond
            `FARTHEST`.
    """
    try:
        found = np.asarray(data, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the columns are not all numbers: {error}",
            mend="Make categories columns of 0 and 1, or bin them (isthmus.stats.fit_woe).",
        ) from error
    if found.ndim != 2 or not len(found):
        raise DataError(f"columns come as [rows, columns], not {list(found.shape)}")
    bad = np.flatnonzero(~np.isfinite(found).all(axis=0))
    if len(bad):
        raise DataError(
            f"column {bad[0]} has missing or infinite values", mend="Fill or drop them before."
        )
    bad = np.flatnonzero((np.abs(found) > FARTHEST).any(axis=0))
    if len(bad):
        raise DataError(f"column {bad[0]} has values beyond {FARTHEST:g}", mend="Clip them.")
    return found


def table_or_none(data: ArrayLike | None, rows: int) -> Floats:
    """The label party's columns, float64 [rows, columns], of which there may be none.

    Raises:
        DataError: as `table`, or other rows than there are labels.
    """
    own = np.empty((rows, 0)) if data is None else table(data)
    if len(own) != rows:
        raise DataError(f"{len(own)} rows of columns and {rows} labels")
    return own


def row_values(values: ArrayLike | None, rows: int, name: str, default: float) -> Floats:
    """A number for each row, float64 [rows]. Raises DataError."""
    if values is None:
        return np.full(rows, default)
    found = np.asarray(values, np.float64)
    if found.shape != (rows,) or not np.isfinite(found).all():
        raise DataError(f"{name} must be a finite number for each of {rows} rows")
    return found


def target_of(
    labels: ArrayLike, weights: ArrayLike | None, offset: ArrayLike | None, options: LinearOptions
) -> Target:
    """What the label party fits.

    Raises:
        DataError: labels, weights or the offset cannot be used.
        JobError: weights with standard errors of a family whose dispersion is 1.
    """
    rows = len(np.asarray(labels))
    if not rows:
        raise DataError("there are no labels")
    y = row_values(labels, rows, "labels", 0.0)
    family = options.likelihood()
    family.check(y)
    w = row_values(weights, rows, "weights", 1.0)
    if w.min() <= 0:
        raise DataError("weights must be above 0", mend="Leave rows of weight 0 out.")
    if (
        weights is not None
        and options.standard_errors
        and options.family in ("logistic", "poisson")
    ):
        # Their dispersion is 1, so that errors would need the weights' scale, which is left out.
        raise JobError(
            f"there are no standard errors of a weighted {options.family} regression yet",
            mend="Leave standard_errors out, or the weights.",
        )
    return Target(family, y, row_values(offset, rows, "offset", 0.0), w / w.mean())
