"""Proximal gradient steps of one party on a quadratic loss, as all parties of `arbiter` make them.

The loss is `Quadratic`: exact for linear regression, the second-order Taylor series at zero
for logistic. With parties p in 1..K, coordinates Z_p of their columns, and d the derivative by the
linear predictor over the curvature c, the step of party p in a batch S at epoch e is::

    g   = c Z_p[S]' d[S] / |S|
    t_p <- soft(t_p - s g, s l1) / (1 + s l2)        s = rate / (K L_p sqrt(1 + decay e))

with soft(x, a) = sign(x) max(|x| - a, 0), and L_p the largest eigenvalue of c Z_p[S]' Z_p[S] / |S|
over the batches. The K diagonal blocks times K are no less than the whole, so that with one batch
and a rate of 1 every step of all parties at once lowers the loss with its penalties (Beck and
Teboulle, SIAM J. Imaging Sciences 2 (2009), for the steps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.linear.options import LinearOptions
from isthmus.linear.span import Span

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Quadratic:
    """A loss as `curvature / 2 eta^2 - (labels - centre) eta`."""

    curvature: float
    centre: float

    @classmethod
    def of(cls, family: str) -> Quadratic:
        """That of a family with `moments` and `arbiter`."""
        return cls(0.25, 0.5) if family == "logistic" else cls(1.0, 0.0)


def batches(rows: int, options: LinearOptions, rng: np.random.Generator) -> list[Rows]:
    """The rows of each batch, int64, the same in every epoch: see `arbiter` on why."""
    if options.batch_size is None or options.batch_size >= rows:
        return [np.arange(rows)]
    count = -(-rows // options.batch_size)
    return [np.sort(one) for one in np.array_split(rng.permutation(rows), count)]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """A party's columns as its steps see them."""

    basis: Floats
    """Z, float64 [rows, coordinates]."""
    ridge: Floats
    """The L2 penalty of each coordinate."""
    lasso: Floats
    """The L1 penalty of each coordinate."""
    to_columns: Floats
    """float64 [columns, coordinates]."""

    @staticmethod
    def count(span: Span, options: LinearOptions) -> int:
        """How many there are."""
        return int(span.used.sum()) if options.l1 else span.rank

    @classmethod
    def of(cls, span: Span, options: LinearOptions, curvature: float, scale: float) -> Coordinates:
        """Whitened, or standardised where an L1 penalty must know single columns.

        Args:
            span: of the party's columns.
            options: as agreed.
            curvature: of the loss.
            scale: the unit of the linear predictor.
        """
        if not options.l1:
            span.whiten(curvature)
            nothing = np.zeros(span.rank)
            return cls(span.basis, span.penalty, nothing, span.to_columns)
        used, scales = span.used, span.scale
        to_columns = np.diag(1.0 / scales)[:, used]
        return cls(
            basis=span.standardised[:, used],
            ridge=options.l2 / scales[used] ** 2,
            lasso=options.l1 / (scales[used] * scale),
            to_columns=to_columns,
        )

    def with_constant(self, curvature: float) -> Coordinates:
        """With an intercept in front, which has no penalty."""
        rows, columns = len(self.basis), len(self.to_columns)
        first = np.full((rows, 1), curvature**-0.5)
        return Coordinates(
            basis=np.column_stack([first, self.basis]),
            ridge=np.r_[0.0, self.ridge],
            lasso=np.r_[0.0, self.lasso],
            to_columns=np.column_stack([np.zeros(columns), self.to_columns]),
        )


class Stepper:
    """One party's coefficients, and its steps.

    Args:
        coordinates: of its columns.
        options: as agreed.
        curvature: of the loss.
        parties: K.
        parts: the batches.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        options: LinearOptions,
        curvature: float,
        parties: int,
        parts: Sequence[Rows],
    ) -> None:
        self.coordinates, self._options, self._curvature = coordinates, options, curvature
        self._parts = len(parts)
        steepest = max(_steepest(coordinates.basis[part]) for part in parts)
        self._length = options.learning_rate / (parties * curvature * steepest)
        # A standard error of a whitened coordinate is one over the root of the rows.
        self._enough = options.tolerance / math.sqrt(len(coordinates.basis))
        self.weights: Floats = np.zeros(coordinates.basis.shape[1])
        self._before, self._change = self.weights, 0.0

    def predictor(self, rows: Rows) -> Floats:
        """The party's part of the linear predictor, float64 [len(rows)]."""
        return np.asarray(self.coordinates.basis[rows] @ self.weights, np.float64)

    def step(self, products: Floats, rows: int, epoch: int) -> None:
        """Take a step.

        Args:
            products: Z[S]' d[S], float64 [coordinates].
            rows: of the batch.
            epoch: from 0.
        """
        length = self._length / np.sqrt(1.0 + self._options.decay * epoch)
        moved = self.weights - length * self._curvature * products / rows
        shrunk = np.maximum(np.abs(moved) - length * self.coordinates.lasso, 0.0)
        self.weights = np.sign(moved) * shrunk / (1.0 + length * self.coordinates.ridge)

    def penalty(self) -> float:
        """What L1 and L2 add to the loss, by the weights that the epoch began with: before
        `settled` is asked, which begins the next.
        """
        at = self._before
        ridge, lasso = self.coordinates.ridge, self.coordinates.lasso
        return float(ridge @ at**2) / 2.0 + float(lasso @ np.abs(at))

    def settled(self) -> bool:
        """At the end of an epoch: whether all further ones would change nothing.

        Changes become smaller by about a constant factor q an epoch, so that what is left is the
        last one times q / (1 - q).
        """
        change, before = float(np.linalg.norm(self.weights - self._before)), self._change
        self._before, self._change = self.weights, change
        return change * change <= self._enough * (before - change)

    def coefficients(self) -> Floats:
        """Of the columns, float64 [columns]."""
        return np.asarray(self.coordinates.to_columns @ self.weights, np.float64)


def _steepest(basis: Floats) -> float:
    """The largest eigenvalue of the mean products; 1 where there are no columns."""
    if not basis.shape[1]:
        return 1.0
    return float(np.linalg.eigvalsh(basis.T @ basis / len(basis))[-1])
