"""Predictions of a fitted linear model, for the label party alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.errors import JobError
from isthmus.linear import wire
from isthmus.linear.given import row_values, table
from isthmus.linear.result import LinearResult
from isthmus.session import PATIENCE, Session

Floats = NDArray[np.float64]


def shares(
    session: Session, result: LinearResult, data: ArrayLike | None
) -> dict[str, Floats] | None:
    """Each party's part of the linear predictor; every party calls it with the same rows.

    Args:
        session: as for `fit`.
        result: the own part of the model.
        data: the own columns, real numbers [rows, columns]; None at a label party without any,
            and at an arbiter, who has no part in it.

    Returns:
        At the label party float64 [rows] for each party with columns; None at the others.

    Raises:
        DataError, JobError, BadMessage: as for `predict`.
    """
    arbiter = result.options.arbiter
    if session.me == arbiter:
        return None
    if not session.links:
        raise JobError(f"{session.me} has no partner to predict with")
    score = None if data is None else result.score(table(data))
    if not session.is_label_party:
        if score is None:
            raise JobError(f"{session.me} came without columns")
        session.hub.send("linear.score", {"score": score})
        return None
    found = {} if score is None else {session.me: score}
    rows = None if score is None else len(score)
    for partner, link in session.links.items():
        if partner == arbiter:
            continue
        message = link.recv("linear.score", timeout=PATIENCE)
        rows = _rows(message.tensors.get("score")) if rows is None else rows
        found[partner] = wire.take(link, message, "score", np.float64, (rows,))
    return found


def predict(
    session: Session,
    result: LinearResult,
    data: ArrayLike | None,
    *,
    offset: ArrayLike | None = None,
) -> Floats | None:
    """The expected labels; every party calls it at the same time with the same rows.

    Each feature party sends its part of the linear predictor, [rows], which is what the label party
    learns; feature parties learn nothing.

    Args:
        session: as for `fit`.
        result: the own part of the model.
        data: the own columns, real numbers [rows, columns]; None at a label party without any,
            and at an arbiter, who has no part in it.
        offset: as for `fit`, at the label party.

    Returns:
        float64 [rows] at the label party, None at the others.

    Raises:
        DataError: the own data cannot be used.
        JobError: there is no partner, or nothing to tell the number of rows by.
        BadMessage: a partner did not keep to the protocol, or has other rows.
    """
    found = shares(session, result, data)
    if found is None:
        return None
    total = np.sum(list(found.values()), axis=0)
    eta = total + (result.intercept or 0.0) + row_values(offset, len(total), "offset", 0.0)
    return result.options.likelihood().mean(eta)


def _rows(array: NDArray[np.float64] | None) -> int:
    return 0 if array is None else array.size
