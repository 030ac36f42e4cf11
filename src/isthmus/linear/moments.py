r"""Least squares from moments alone: no vector with a number for each row is shown to anyone.

With a quadratic loss the optimum needs no residuals, only the products of all columns with each
other and with the label. Both parties whiten their own columns (`span`), so that of these only the
ones between parties are unknown. The label party L has the key and gets them as encrypted sums
(`isthmus.crypto.side_by_side`, opened to the key holder); the one feature party is B::

    L -> B   linear.hello    options, rows, the public key;  B -> L  options, rows, q
    L -> B   linear.start    the number of vectors: L's independent columns and the label
    L -> B   linear.columns  these, encrypted, some of the rows of some of them in each message
    B -> L   linear.moments  Z's columns times each, encrypted, masked so that only sums can be read
    and at the end
    L -> B   linear.result   the weights of Z: B makes its coefficients of them
    B -> L   linear.shift    with an intercept: the sum of its coefficients times column means

Logistic regression is by the second-order Taylor series of its loss at zero, as in Hardy et al.,
arXiv:1711.10677, equation 5: an approximation, whose optimum is not that of the loss itself.

**Security model: semi-honest.** L learns q, the covariances of its own columns and of its label
with B's columns in B's whitened coordinates (which it does not know), the largest number in these
as a power of two, and one mean. B learns its coefficients and the number of L's independent
columns. `rows_per_column` and `least_group` hold for both parties.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto import he
from isthmus.crypto.side_by_side import Answers, Layout, in_messages, opened, questions
from isthmus.errors import BadMessage, DataError, JobError
from isthmus.linear import wire
from isthmus.linear.feature_side import greet as greet_as_feature
from isthmus.linear.label_side import Partner
from isthmus.linear.label_side import greet as greet_as_label
from isthmus.linear.local import Target
from isthmus.linear.options import LinearOptions
from isthmus.linear.precision import Precision
from isthmus.linear.result import LinearResult
from isthmus.linear.span import Span
from isthmus.linear.taylor import Quadratic
from isthmus.link import Link, checks
from isthmus.session import PATIENCE, Session

Floats = NDArray[np.float64]


def fit_moments_as_label(
    session: Session, data: Floats, target: Target, options: LinearOptions
) -> LinearResult:
    """See `fit`."""
    if len(session.links) != 1:
        raise JobError(
            "moments are between the label party and one feature party",
            mend='Use protocol="vectors" with several.',
        )
    if np.ptp(target.weights):
        raise JobError("moments take no weights", mend='Use protocol="vectors".')
    loss = Quadratic.of(options.family)
    pulls = target.labels - loss.centre - loss.curvature * target.offset
    mean = float(pulls.mean()) if options.intercept else 0.0
    own = _whitened(data, options, loss)
    basis = np.empty((len(data), 0)) if own is None else own.basis
    key, rows = he.HeKey(), len(data)
    partner = greet_as_label(session.links.values(), rows, options, key.public())[0]
    vectors = np.column_stack([basis, pulls - mean])
    if vectors.shape[1] * options.rows_per_column > rows:
        raise DataError(
            f"{rows} rows are fewer than {options.rows_per_column} for each of the "
            f"{vectors.shape[1]} own columns and the label"
        )
    found = _moments(session, key, partner, vectors) / rows
    cross, theirs = loss.curvature * found[:-1], found[-1]
    inner = np.block([[np.eye(len(cross)), cross], [cross.T, np.eye(len(theirs))]])
    weights = np.linalg.lstsq(inner, np.r_[basis.T @ pulls / rows, theirs], rcond=None)[0]
    partner.link.send("linear.result", {"weights": weights[len(cross) :]}, {"converged": True})
    coefficients = np.zeros(data.shape[1])
    if own is not None:
        coefficients = own.of_basis(weights[: len(cross)])
    intercept = None
    if options.intercept:
        message = partner.link.recv("linear.shift", timeout=PATIENCE)
        shift = wire.real(partner.link, message, "shift")
        intercept = mean / loss.curvature - shift - float(data.mean(axis=0) @ coefficients)
    return LinearResult(
        options=options,
        coefficients=coefficients,
        intercept=intercept,
        rounds=1,
        converged=True,
        shown=0,
    )


def fit_moments_as_feature(session: Session, data: Floats, options: LinearOptions) -> LinearResult:
    """See `fit`."""
    span = Span(data, options)
    key, start = greet_as_feature(session, span.rank, len(data), options)
    link, rows = session.hub, len(data)
    span.whiten(Quadratic.of(options.family).curvature)
    vectors = checks.whole(link, start, "vectors", 1, max(1, rows // options.rows_per_column))
    layout = _layout(rows, vectors, span.rank)
    # One power of two for all, as the label party learns it.
    columns, exponent = Precision.of(rows).columns_together(span.basis)
    answers = Answers(key, layout, [columns])
    with session.progress.task("fit", layout.chunks) as task:
        for chunk in range(layout.chunks):
            groups = [link.recv("linear.columns", timeout=PATIENCE) for _ in range(layout.groups)]
            answers.add(chunk, [he.unpack(key, dict(group.tensors), 1) for group in groups])
            task.advance()
    for group in range(layout.groups):
        batches = [batch[0] for batch in answers.masked(group, to_key=True)[0]]
        for count in in_messages(layout):
            link.send("linear.moments", he.pack(batches[:count]), {"exponent": exponent})
            batches = batches[count:]
    result = link.recv("linear.result", timeout=PATIENCE)
    weights = wire.take(link, result, "weights", np.float64, (span.rank,))
    coefficients = span.of_basis(weights)
    if options.intercept:
        shift = float(data.mean(axis=0) @ coefficients)
        link.send("linear.shift", header={"shift": shift})
    return LinearResult(
        options=options, coefficients=coefficients, rounds=1, converged=True, shown=0
    )


def _whitened(data: Floats, options: LinearOptions, loss: Quadratic) -> Span | None:
    if not data.shape[1]:
        return None
    span = Span(data, replace(options, least_columns=1))
    span.whiten(loss.curvature)
    return span


def _layout(rows: int, vectors: int, columns: int) -> Layout:
    """How numbers lie in ciphertexts: both parties work it out alike."""
    return Layout(rows, vectors, columns, 1, max(vectors, columns))


def _moments(session: Session, key: he.HeKey, partner: Partner, vectors: Floats) -> Floats:
    """Each vector's products with the partner's basis, float64 [vectors, columns]."""
    link, (rows, count), precision = partner.link, vectors.shape, Precision.of(len(vectors))
    layout = _layout(rows, count, partner.shape.columns)
    whole, own = np.empty((rows, count), np.int64), np.empty(count, np.int64)
    for number, vector in enumerate(vectors.T):
        whole[:, number], own[number] = precision.residuals(vector)
    link.send("linear.start", header={"vectors": count})
    with session.progress.task("fit", layout.chunks * layout.groups) as task:
        for asked in questions(key, layout, [whole]):
            # Nothing is answered before all is asked, so no window fills.
            link.send("linear.columns", he.pack(asked))
            task.advance()
    found = []
    for _ in range(layout.groups):
        sums, theirs = _answered(link, key, layout)
        found.append(np.ldexp(sums[0].astype(np.float64), theirs))
    by_column = np.concatenate(found, axis=1)[:, :count]
    return np.asarray(np.ldexp(by_column, own).T, np.float64)


def _answered(link: Link, key: he.HeKey, layout: Layout) -> tuple[NDArray[np.int64], int]:
    """The sums of a group, int64 [1, columns, side], and the power of two that they count in."""
    ciphers: list[he.Cipher] = []
    exponents = set()
    for count in in_messages(layout):
        message = link.recv("linear.moments", timeout=PATIENCE)
        ciphers += he.unpack(key, dict(message.tensors), count)
        exponents.add(wire.exponent(link, message))
    if len(exponents) > 1:
        raise BadMessage(f"{link.partner} sent linear.moments in several units")
    return opened(key, layout, [[one] for one in ciphers]), exponents.pop()
