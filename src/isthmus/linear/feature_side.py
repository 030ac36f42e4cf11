"""A feature party's side of a linear model; the protocol is in `fit`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto import he, products
from isthmus.crypto.products import Shape
from isthmus.errors import BadMessage, DataError
from isthmus.linear import wire
from isthmus.linear.options import LinearOptions
from isthmus.linear.precision import Precision
from isthmus.linear.result import LinearResult
from isthmus.linear.span import Span
from isthmus.link import Message, checks
from isthmus.session import PATIENCE, Session

Floats = NDArray[np.float64]


def fit_as_feature(session: Session, data: Floats, options: LinearOptions) -> LinearResult:
    """See `fit`."""
    span = Span(data, options)
    key, start = greet(session, span.rank, len(data), options)
    span.whiten(wire.positive(session.hub, start, "curvature"))
    side = _Side(session, span, key, Precision.of(len(data)), options)
    with session.progress.task("fit", span.rank) as task:
        while side.round(session.hub.recv("linear.residuals", timeout=PATIENCE)):
            task.advance()
    return side.finish()


def greet(
    session: Session, columns: int, rows: int, options: LinearOptions
) -> tuple[he.HePublic, Message]:
    """The label party's key and its `linear.start`, once both have seen that they agree."""
    if columns > wire.MOST_COLUMNS:
        raise DataError(f"{columns} columns are more than {wire.MOST_COLUMNS}")
    agreed, link = options.agreed() | {"rows": rows}, session.hub
    link.send("linear.hello", header={"agreed": agreed, "columns": columns})
    hello = link.recv("linear.hello", timeout=PATIENCE)
    checks.same(link, hello, agreed)
    key = he.HePublic(hello.tensors.get("key", np.empty(0, np.uint8)))
    return key, link.recv("linear.start", timeout=PATIENCE)


class _Side:
    def __init__(
        self,
        session: Session,
        span: Span,
        key: he.HePublic,
        precision: Precision,
        options: LinearOptions,
    ) -> None:
        self._link, self._span, self._key, self._options = session.hub, span, key, options
        self._bits = precision.residual
        basis = span.basis
        self._shape = Shape(len(basis), span.rank)
        self._columns, self._units = precision.columns(basis)
        self.rounds = 0

    def round(self, message: Message) -> bool:
        """One round, or False at the last message."""
        if wire.choice(self._link, message, "done", (True, False)):
            return False
        if not self._may_go_on():
            raise BadMessage(f"{self._link.partner} asks for more rounds than were agreed")
        weights = wire.take(self._link, message, "weights", np.float64, (self._span.shown,))
        unit = wire.exponent(self._link, message)
        least = wire.positive(self._link, message, "settled")
        gradient = self._span.gradient(self._products(message, unit), weights)
        if not np.isfinite(gradient).all():
            raise BadMessage(f"{self._link.partner} sent residuals beyond all numbers")
        self.rounds += 1
        if float(np.linalg.norm(gradient)) <= least:
            self._link.send("linear.direction", header={"settled": True})
        else:
            direction = self._span.show(gradient)
            self._link.send("linear.direction", {"direction": direction}, {"settled": False})
        return True

    def finish(self) -> LinearResult:
        if self._options.standard_errors:
            self._link.send("linear.rest", {"directions": self._span.show_rest()})
        message = self._link.recv("linear.result", timeout=PATIENCE)
        count = self._span.shown
        weights = wire.take(self._link, message, "weights", np.float64, (count,))
        errors = None
        if self._options.standard_errors:
            block = wire.take(self._link, message, "covariance", np.float64, (count, count))
            errors = self._span.errors(block)
        return LinearResult(
            options=self._options,
            coefficients=self._span.coefficients(weights),
            rounds=self.rounds,
            converged=wire.choice(self._link, message, "converged", (True, False)),
            shown=count,
            standard_errors=errors,
        )

    def _may_go_on(self) -> bool:
        most = self._options.rounds or self._span.rank
        return self._span.shown < min(most, self._span.rank)

    def _products(self, message: Message, exponent: int) -> Floats:
        """Z'r, float64 [rank]."""
        asked = he.unpack(self._key, dict(message.tensors), self._shape.asked)
        answers, off = products.masked(self._key, self._shape, asked, self._columns)
        self._link.send("linear.products", he.pack(answers))
        # The label party may be waiting for another partner's products.
        reply = self._link.recv("linear.sums", timeout=PATIENCE)
        sums = wire.take(self._link, reply, "sums", np.int64, (self._shape.columns,))
        if (np.abs(sums) > he.HALF).any():
            raise BadMessage(f"{self._link.partner} sent sums beyond the modulus")
        return np.ldexp(products.unmasked(sums, off) * self._units, exponent)
