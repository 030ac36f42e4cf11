"""The label party's side of a linear model; the protocol is in `fit`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto import he, products
from isthmus.crypto.products import Shape
from isthmus.errors import BadMessage, DataError
from isthmus.linear import wire
from isthmus.linear.local import LocalModel, Target
from isthmus.linear.options import LinearOptions
from isthmus.linear.precision import Precision
from isthmus.linear.result import LinearResult
from isthmus.link import Link, checks
from isthmus.session import PATIENCE, Session

Floats = NDArray[np.float64]

_NEAR = 1e-6
"""How far directions may be from orthonormal."""


@dataclass
class Partner:
    """What the label party knows of one feature party."""

    link: Link
    shape: Shape
    """Rows and independent columns."""
    most: int
    """Directions that it may show."""
    shown: int = 0
    settled: bool = False
    """Whether its last gradient was nothing."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.link.partner

    @property
    def active(self) -> bool:
        """Whether it may show another direction."""
        return self.shown < self.most


def fit_as_label(
    session: Session, data: Floats, target: Target, options: LinearOptions
) -> LinearResult:
    """See `fit`."""
    key, precision = he.HeKey(), Precision.of(len(data))
    partners = greet(session.links.values(), len(data), options, key.public())
    model = LocalModel(target, data, options)
    for partner in partners:
        partner.link.send("linear.start", header={"curvature": model.curvature})
    rounds = 0
    with session.progress.task("fit", max(partner.most for partner in partners)) as task:
        while any(one.active and not one.settled for one in partners):
            _round(model, key, precision, partners, options)
            rounds += 1
            task.advance()
    return _finish(model, partners, options, rounds)


def greet(
    links: Iterable[Link],
    rows: int,
    options: LinearOptions,
    key: he.Bytes,
    *,
    at_once: int | None = None,
) -> list[Partner]:
    """Send the public key, and see that the partners have the same options and rows.

    Args:
        links: to the feature parties.
        rows: of all parties.
        options: of all parties.
        key: of who decrypts.
        at_once: the rows that an encrypted sum is over, all of them if None.
    """
    agreed, links, summed = options.agreed() | {"rows": rows}, tuple(links), at_once or rows
    for link in links:
        link.send("linear.hello", {"key": key}, {"agreed": agreed})
    partners = []
    for link in links:
        hello = link.recv("linear.hello", timeout=PATIENCE)
        checks.same(link, hello, agreed)
        columns = checks.whole(link, hello, "columns", 1, wire.MOST_COLUMNS)
        if columns * options.rows_per_column > summed:
            raise DataError(
                f"{summed} rows are fewer than {options.rows_per_column} for each of the {columns} "
                f"columns of {link.partner}: its gradients would tell it labels",
                mend="Take more rows or fewer columns; rows_per_column sets the bound.",
            )
        most = min(columns, options.rounds or columns)
        partners.append(Partner(link, Shape(rows, columns), most))
    return partners


def _round(
    model: LocalModel,
    key: he.HeKey,
    precision: Precision,
    partners: list[Partner],
    options: LinearOptions,
) -> None:
    """A gradient for every partner that may still show something, and their directions."""
    asked = [partner for partner in partners if partner.active]
    values, exponent = precision.residuals(model.residual())
    settled = options.tolerance * math.sqrt(model.dispersion() / len(values))
    header = {"done": False, "exponent": exponent, "settled": max(settled, 1e-300)}
    for one in asked:
        tensors = he.pack(products.encrypted(key, one.shape, values))
        weights = {"weights": model.weights(one.name)}
        one.link.send("linear.residuals", tensors | weights, header)
    for one in asked:
        message = one.link.recv("linear.products", timeout=PATIENCE)
        answers = he.unpack(key, dict(message.tensors), one.shape.answered)
        one.link.send("linear.sums", {"sums": products.opened(key, one.shape, answers)})
    for one in asked:
        _take_direction(model, one)
    model.solve()


def _take_direction(model: LocalModel, partner: Partner) -> None:
    message = partner.link.recv("linear.direction", timeout=PATIENCE)
    partner.settled = wire.choice(partner.link, message, "settled", (True, False))
    if not partner.settled:
        shape = (partner.shape.rows,)
        shown = wire.take(partner.link, message, "direction", np.float64, shape)
        _add(model, partner, shown[:, None])


def _add(model: LocalModel, partner: Partner, directions: Floats) -> None:
    """Take directions, if they are orthonormal as `span` makes them."""
    with np.errstate(over="ignore", invalid="ignore"):
        model.add(partner.name, directions)
        gram = model.gram(partner.name)
    wrong = gram - np.eye(len(gram))
    if model.penalised:
        # What a penalty takes away is between nothing and all of a direction.
        fits = np.isfinite(gram).all() and float(np.linalg.eigvalsh(wrong)[-1]) < _NEAR
    else:
        fits = bool((np.abs(wrong) < _NEAR).all())
    if not fits:
        raise BadMessage(f"{partner.name} sent directions that are not orthonormal")
    partner.shown += directions.shape[1]


def _finish(
    model: LocalModel, partners: list[Partner], options: LinearOptions, rounds: int
) -> LinearResult:
    # A partner that has shown a basis of all its columns has nothing left to be away from.
    converged = all(one.settled or one.shown == one.shape.columns for one in partners)
    for one in partners:
        one.link.send("linear.residuals", header={"done": True})
    if options.standard_errors:
        for one in partners:
            message = one.link.recv("linear.rest", timeout=PATIENCE)
            shape = (one.shape.rows, one.shape.columns - one.shown)
            rest = wire.take(one.link, message, "directions", np.float64, shape)
            if rest.shape[1]:
                _add(model, one, rest)
        model.solve()
    covariance = model.covariance() if options.standard_errors else None
    for one in partners:
        tensors = {"weights": model.weights(one.name)}
        if covariance is not None:
            tensors["covariance"] = model.partner_covariance(covariance, one.name)
        one.link.send("linear.result", tensors, {"converged": converged})
    coefficients, intercept = model.own()
    errors = (None, None) if covariance is None else model.own_errors(covariance)
    return LinearResult(
        options=options,
        coefficients=coefficients,
        intercept=intercept,
        rounds=rounds,
        converged=converged,
        shown=0,
        standard_errors=errors[0],
        intercept_error=errors[1],
        dispersion=model.dispersion(),
        loss=model.target.loss(model.eta),
    )
