"""A feature party's columns as a whitened basis, and the directions in it that were shown so far.

With X the columns (centred where there is an intercept), k the label party's mean curvature and l
the penalty, the basis is Z = X T with T' (k X'X / rows + l) T = 1. So a gradient Z'r is, but for
correlation with other parties and uneven curvature, the step to the optimum, whatever the columns'
units and correlations, and each of its numbers is as exact as any other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError
from isthmus.linear.options import LinearOptions

Floats = NDArray[np.float64]

_ROWS = 1 << 16
"""Rows to work on at a time."""
_NOTHING = 1e-12
"""Of the largest eigenvalue of the correlations: below it, columns are taken as dependent."""
_SAME = 1e-9
"""Of a gradient: a new part smaller than that is none."""


class Span:
    """What a feature party's columns span.

    Args:
        data: float64 [rows, columns].
        options: as agreed.
        least_columns: in place of the options'.

    Raises:
        DataError: there are too few independent columns, or they set too few rows apart.
    """

    def __init__(
        self, data: Floats, options: LinearOptions, *, least_columns: int | None = None
    ) -> None:
        least = options.least_columns if least_columns is None else least_columns
        self._data, self._l2 = data, options.l2
        self._check_groups(options)
        self._mean: Floats = data.mean(axis=0) if options.intercept else np.zeros(data.shape[1])
        squares = sum(((part - self._mean) ** 2).sum(axis=0) for part in self._parts())
        scale = np.sqrt(squares / len(data))
        # Constant columns come out of centring as rounding errors.
        used = scale > 1e-12 * np.maximum(data.max(axis=0), -data.min(axis=0))
        self.scale: Floats = np.where(used, scale, 1.0)
        """Of each column, its root mean square about its mean; 1 of a constant column."""
        self.used: NDArray[np.bool_] = used
        """Which columns are not constant."""
        inner = sum(part.T @ part for part in map(self._standard, self._parts()))
        self._values, self._vectors = np.linalg.eigh(inner / len(data))
        self._kept = self._values > _NOTHING * max(float(self._values.max(initial=0.0)), 1.0)
        self._check_leverage(options)
        if self.rank < least:
            raise DataError(
                f"independent columns here are {self.rank}, fewer than {least}: so few would be "
                "shown to the label party as they are",
                mend="Bring more columns, or lower least_columns at all parties if that is meant.",
            )

    @property
    def standardised(self) -> Floats:
        """float64 [rows, columns], 0 where the column is constant."""
        return self._standard(self._data)

    @property
    def rank(self) -> int:
        """Independent columns."""
        return int(self._kept.sum())

    def whiten(self, curvature: float) -> None:
        """Make the basis, once the label party has told its mean curvature."""
        # Correlations, not covariances, are taken apart: units must not decide what is nothing.
        roots = np.sqrt(self._values[self._kept])
        in_units = self.used[:, None] * self._vectors / self.scale[:, None]
        orthonormal = in_units[:, self._kept] / roots
        if self._l2:
            # Of all coefficients that predict the same, the penalty takes the smallest.
            nothing = in_units[:, ~self._kept]
            orthonormal = orthonormal - nothing @ (np.linalg.pinv(nothing) @ orthonormal)
        # Now orthonormal' S orthonormal = 1; the penalty is one more rotation in there.
        penalty, turn = np.linalg.eigh(self._l2 * orthonormal.T @ orthonormal)
        self._to_columns: Floats = (
            orthonormal @ turn / np.sqrt(curvature + np.maximum(penalty, 0.0))
        )
        self._penalty: Floats = self._l2 * self._to_columns.T @ self._to_columns
        self._shown: Floats = np.empty((self.rank, 0))

    @property
    def to_columns(self) -> Floats:
        """T, float64 [columns, rank]."""
        return self._to_columns

    @property
    def penalty(self) -> Floats:
        """Of each coordinate of Z, float64 [rank]: the penalty is a diagonal there."""
        return np.diag(self._penalty).copy()

    @property
    def basis(self) -> Floats:
        """Z, float64 [rows, rank]."""
        return (self._data - self._mean) @ self._to_columns

    @property
    def shown(self) -> int:
        """Directions that the label party has."""
        return len(self._shown[0])

    def gradient(self, products: Floats, weights: Floats) -> Floats:
        """Minus the penalised mean loss's gradient by Z's coordinates, float64 [rank].

        Args:
            products: Z'r, float64 [rank].
            weights: of the directions shown, float64 [shown].
        """
        return products / len(self._data) - self._penalty @ (self._shown @ weights)

    def show(self, gradient: Floats) -> Floats:
        """The next direction, float64 [rows]: the gradient's part that is new, of length 1 in Z."""
        new = gradient
        for _ in range(2):  # the second takes off what rounding left
            new = new - self._shown @ (self._shown.T @ new)
        length = float(np.linalg.norm(new))
        if length < _SAME * np.linalg.norm(gradient):
            # Rounding errors of what was shown already: any other direction is better.
            new, length = self._others()[:, 0], 1.0
        new = new / length
        self._shown = np.column_stack([self._shown, new])
        found: Floats = self._data @ (self._to_columns @ new)
        return found

    def show_rest(self) -> Floats:
        """Directions that complete the basis, float64 [rows, rank - shown]."""
        rest = self._others()
        self._shown = np.column_stack([self._shown, rest])
        found: Floats = self._data @ (self._to_columns @ rest)
        return found

    def _others(self) -> Floats:
        """An orthonormal basis of what was not shown, float64 [rank, rank - shown]."""
        whole = np.linalg.qr(np.column_stack([self._shown, np.eye(self.rank)]))[0]
        return np.asarray(whole[:, self.shown :], np.float64)

    def coefficients(self, weights: Floats) -> Floats:
        """Of the columns, float64 [columns], from those of the directions shown."""
        found: Floats = self._to_columns @ (self._shown @ weights)
        return found

    def of_basis(self, weights: Floats) -> Floats:
        """Coefficients of the columns, float64 [columns], from those of Z, float64 [rank]."""
        found: Floats = self._to_columns @ weights
        return found

    def errors(self, covariance: Floats) -> Floats:
        """The columns' standard errors, float64 [columns], from the directions' covariance."""
        there = self._to_columns @ self._shown
        variances = np.einsum("ij,jk,ik->i", there, covariance, there)
        return np.asarray(np.sqrt(np.maximum(variances, 0.0)), np.float64)

    def _standard(self, data: Floats) -> Floats:
        return np.where(self.used, (data - self._mean) / self.scale, 0.0)

    def _parts(self) -> Iterator[Floats]:
        """Rows of the data, so many at a time that what is made of them takes little room."""
        for start in range(0, len(self._data), _ROWS):
            yield self._data[start : start + _ROWS]

    def _check_groups(self, options: LinearOptions) -> None:
        for column in range(self._data.shape[1]):
            counts = np.unique(self._data[:, column], return_counts=True)[1]
            apart = len(self._data) - int(counts.max())
            if 0 < apart < options.least_group:
                raise DataError(
                    f"column {column} sets {apart} rows apart from all others, fewer than "
                    f"{options.least_group}: its gradient would tell their labels",
                    mend="Join it with another category, or drop it.",
                )

    def _check_leverage(self, options: LinearOptions) -> None:
        """Of what the sums tell of a row's residual, the row's leverage is the part of its own."""
        turn = self._vectors[:, self._kept] / np.sqrt(self._values[self._kept])
        squares = [((self._standard(part) @ turn) ** 2).sum(axis=1) for part in self._parts()]
        leverage = (np.concatenate(squares) + float(options.intercept)) / len(self._data)
        row = int(leverage.argmax())
        if leverage[row] > options.most_leverage:
            column = int(np.abs(self._standard(self._data[row])).argmax())
            raise DataError(
                f"the columns single a row out: its leverage is {leverage[row]:.2f}, and more than "
                f"{options.most_leverage:g} would tell its label. It is far out in column {column},"
                " or two columns differ in it alone",
                mend="Clip or transform the column, or drop one of the two.",
            )
