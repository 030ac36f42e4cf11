"""A linear model of columns that are all in one place: the label party's own, or a pooled table."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.errors import JobError
from isthmus.linear.given import row_values, table, table_or_none, target_of
from isthmus.linear.local import LocalModel
from isthmus.linear.options import LinearOptions
from isthmus.linear.result import LinearResult

Floats = NDArray[np.float64]


def fit_alone(
    data: ArrayLike | None,
    labels: ArrayLike,
    options: LinearOptions | None = None,
    *,
    weights: ArrayLike | None = None,
    offset: ArrayLike | None = None,
) -> LinearResult:
    """Fit a model without a session: exactly, by Newton's method, with L1 and L2 penalties.

    It is what `fit` comes to with all columns at the label party, by the same code, whatever
    protocol the options name: with `moments` or `arbiter` too, logistic regression is by its loss
    itself here, and not by the loss's Taylor series. It needs no encryption.

    Args:
        data: real numbers, [rows, columns]; None for an intercept alone.
        labels: [rows].
        options: as for `fit`; those of a protocol have no part in it.
        weights: as for `fit`.
        offset: as for `fit`.

    Raises:
        DataError: the data cannot be used.
        JobError: there is neither a column nor an intercept, or the options do not go together.
        TrainError: there is no optimum, or it was not reached.
    """
    options = options or LinearOptions()
    target = target_of(labels, weights, offset, options)
    own = table_or_none(data, len(target.labels))
    if not own.shape[1] and not options.intercept:
        raise JobError("there is neither a column nor an intercept to fit")
    model = LocalModel(target, own, options)
    coefficients, intercept = model.own()
    errors = model.own_errors(model.covariance()) if options.standard_errors else (None, None)
    return LinearResult(
        options=options,
        coefficients=coefficients,
        intercept=intercept,
        rounds=0,
        converged=True,
        shown=0,
        standard_errors=errors[0],
        intercept_error=errors[1],
        dispersion=model.dispersion(),
        loss=target.loss(model.eta),
    )


def predict_alone(
    result: LinearResult, data: ArrayLike, *, offset: ArrayLike | None = None
) -> Floats:
    """The expected labels by a model of `fit_alone`, float64 [rows].

    Args:
        result: from `fit_alone`; of a model that is split it is the own part alone, which predicts
            nothing.
        data: the columns that it was fitted with, in their order, [rows, columns].
        offset: as for `fit`, [rows].

    Raises:
        DataError: the data cannot be used.
    """
    own = table(data)
    constant = (result.intercept or 0.0) + row_values(offset, len(own), "offset", 0.0)
    return result.options.likelihood().mean(result.score(own) + constant)
