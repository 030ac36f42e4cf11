"""The label party's own optimum: exact, over its columns and the directions shown to it so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import TrainError
from isthmus.linear.families import Family
from isthmus.linear.lasso import lasso_step
from isthmus.linear.options import LinearOptions

Floats = NDArray[np.float64]

_MOST_STEPS = 200
_SETTLED = 1e-11
"""A decrement of the total loss after which one more full Newton step is exact."""
_CERTAIN = 1e-8
"""Of the curvature that a row's label can have: where no row of a direction has more, all of them
are fitted without error, and would be fitted better still further out."""


@dataclass(frozen=True, eq=False)
class Target:
    """What is fitted: the label party's labels, offset and weights."""

    family: Family
    labels: Floats
    """float64 [rows]."""
    offset: Floats
    """Added to the linear predictor, float64 [rows]."""
    weights: Floats
    """Of mean 1, float64 [rows]."""

    def loss(self, eta: Floats) -> float:
        """The mean loss; infinite where it has no value."""
        with np.errstate(over="ignore", invalid="ignore"):
            loss = float((self.weights * self.family.loss(self.labels, eta)).mean())
        return loss if np.isfinite(loss) else np.inf


class LocalModel:
    """Weights of an intercept, the own columns and partners' directions, optimal at any time.

    Args:
        target: what is fitted.
        data: the own columns, float64 [rows, columns].
        options: as agreed.
    """

    def __init__(self, target: Target, data: Floats, options: LinearOptions) -> None:
        self.target, self._options = target, options
        self._own = data.shape[1]
        self._mean = data.mean(axis=0) if options.intercept else np.zeros(self._own)
        centred = data - self._mean
        scale = np.sqrt((centred**2).mean(axis=0))
        used = scale > 1e-12 * np.abs(data).max(axis=0, initial=0.0)
        self._scale = np.where(used, scale, 1.0)
        first = np.ones((len(data), int(options.intercept)))
        self._design: Floats = np.column_stack([first, np.where(used, centred / self._scale, 0.0)])
        free = np.zeros(first.shape[1])
        self._penalty = np.diag(np.r_[free, options.l2 / self._scale**2])
        # Of the own columns alone: partners' directions have none (`LinearOptions.check_split`).
        self._lasso: Floats = np.r_[free, options.l1 / self._scale]
        self._shifts = self._mean / self._scale
        self._weights: Floats = np.zeros(self._design.shape[1])
        if options.intercept:
            mean = float((target.weights * target.labels).mean())
            self._weights[0] = target.family.link(mean) - float(target.offset.mean())
        self._columns: dict[str, list[int]] = {}
        self.solve()
        self.curvature = float((target.weights * target.family.information(self.eta)).mean())
        """The mean one by the own columns alone: what partners whiten theirs with."""

    @property
    def eta(self) -> Floats:
        """The linear predictor, float64 [rows]."""
        return self.target.offset + self._design @ self._weights

    def residual(self) -> Floats:
        """Minus the derivative of each row's weighted loss, float64 [rows]."""
        target = self.target
        return target.weights * target.family.residual(target.labels, self.eta)

    def dispersion(self) -> float:
        """Pearson's: the weighted squared residuals over what the means lead to expect."""
        target, rows = self.target, len(self._design)
        if target.family.fixed_dispersion:
            return 1.0
        mean = target.family.mean(self.eta)
        squares = target.weights * (target.labels - mean) ** 2 / target.family.variance(mean)
        return float(squares.sum() / max(1, rows - self._design.shape[1]))

    def add(self, partner: str, directions: Floats) -> None:
        """Take a partner's new directions, float64 [rows, directions], at weight 0."""
        first, count = self._design.shape[1], directions.shape[1]
        means = directions.mean(axis=0) if self._options.intercept else np.zeros(count)
        self._shifts = np.r_[self._shifts, means]
        self._design = np.column_stack([self._design, directions - means])
        self._weights = np.r_[self._weights, np.zeros(count)]
        mine = self._columns.setdefault(partner, [])
        mine += range(first, first + count)
        grown = np.zeros((first + count, first + count))
        grown[:first, :first] = self._penalty
        grown[np.ix_(mine, mine)] = self._penalty_of(mine)
        self._penalty = grown

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty."""
        return self._options.l2 > 0 or self._options.l1 > 0

    def gram(self, partner: str) -> Floats:
        """The partner's directions' mean products times `curvature`."""
        shown = self._design[:, self._columns[partner]]
        return self.curvature * shown.T @ shown / len(shown)

    def _penalty_of(self, columns: list[int]) -> Floats:
        """Directions are orthonormal in curvature and penalty together: `span`."""
        if not self._options.l2:
            return np.zeros((len(columns), len(columns)))
        shown = self._design[:, columns]
        return np.eye(len(columns)) - self.curvature * shown.T @ shown / len(shown)

    def solve(self) -> None:
        """Newton's method with halving, from where the last one ended; proximal with L1.

        Raises:
            TrainError: there is no optimum, or it was not reached.
        """
        for _ in range(_MOST_STEPS):
            step, decrement = self._newton()
            if len(self._design) * decrement < _SETTLED:
                self._weights = self._weights + step
                self._check_certain()
                return
            self._descend(step, decrement)
        raise TrainError(
            "the coefficients did not settle",
            mend="Are columns of very different size, or labels told apart by one? Raise l2.",
        )

    def weights(self, partner: str) -> Floats:
        """Of the partner's directions, float64 [directions]."""
        return self._weights[self._columns.get(partner, [])]

    def own(self) -> tuple[Floats, float | None]:
        """The own columns' coefficients in their units, float64 [columns], and the intercept."""
        first = int(self._options.intercept)
        coefficients = self._weights[first : first + self._own] / self._scale
        if not first:
            return coefficients, None
        return coefficients, float(self._weights[0] - self._weights[1:] @ self._shifts)

    def covariance(self) -> Floats:
        """Of all weights, by Fisher's information, float64 [all, all]."""
        target = self.target
        information = target.weights * target.family.information(self.eta)
        inverse = np.linalg.pinv((self._design.T * information) @ self._design, hermitian=True)
        return np.asarray(inverse * self.dispersion(), np.float64)

    def own_errors(self, covariance: Floats) -> tuple[Floats, float | None]:
        """Standard errors of `own`."""
        first = int(self._options.intercept)
        variances = np.diag(covariance)[first : first + self._own]
        errors = np.sqrt(variances) / self._scale
        if not first:
            return errors, None
        towards = np.r_[1.0, -self._shifts]
        return errors, float(np.sqrt(towards @ covariance @ towards))

    def partner_covariance(self, covariance: Floats, partner: str) -> Floats:
        """The partner's directions' block, float64 [directions, directions]."""
        mine = self._columns[partner]
        return covariance[np.ix_(mine, mine)]

    def _objective(self, weights: Floats) -> float:
        eta = self.target.offset + self._design @ weights
        penalty = float(weights @ self._penalty @ weights) / 2.0
        return self.target.loss(eta) + penalty + self._lasso_of(weights)

    def _lasso_of(self, weights: Floats) -> float:
        """The L1 penalty, beside the mean loss."""
        return float(self._lasso @ np.abs(weights[: len(self._lasso)]))

    def _newton(self) -> tuple[Floats, float]:
        target, rows, eta = self.target, len(self._design), self.eta
        gradient = self._design.T @ self.residual() / rows - self._penalty @ self._weights
        curvature = target.weights * target.family.curvature(target.labels, eta)
        hessian = (self._design.T * curvature) @ self._design / rows + self._penalty
        if not self._options.l1:
            step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
            return step, float(gradient @ step)
        step = lasso_step(hessian, gradient, self._weights, self._lasso)
        saved = self._lasso_of(self._weights) - self._lasso_of(self._weights + step)
        return step, float(gradient @ step) + saved

    def _descend(self, step: Floats, decrement: float) -> None:
        before, length = self._objective(self._weights), 1.0
        # Near the optimum the losses agree in all digits that they have.
        enough = before + 1e-13 * (1.0 + abs(before))
        while self._objective(self._weights + length * step) > enough - 1e-4 * length * decrement:
            length /= 2.0
            if length < 1e-9:
                raise TrainError("no step lowers the loss", mend="Raise l2.")
        self._weights = self._weights + length * step

    def _check_certain(self) -> None:
        """Raise TrainError where a direction has no optimum, and the steps ended far out."""
        target = self.target
        curvature = target.weights * target.family.information(self.eta)
        least = _CERTAIN * float(curvature.mean() if self._options.family != "logistic" else 1.0)
        # Most fits end here: a direction without an optimum has rows without curvature.
        if self.penalised or float(curvature.min()) >= least:
            return
        left, sizes, _ = np.linalg.svd(self._design, full_matrices=False)
        basis = left[:, sizes > 1e-10 * sizes.max(initial=0.0)]
        inside = np.linalg.eigvalsh((basis.T * curvature) @ basis)
        if len(inside) and float(inside[0]) < least:
            raise TrainError(
                "the columns set rows apart whose labels are all at the same end, as labels that "
                "are told apart without error: no coefficients are best",
                mend="Set l2, or drop the column that gives the label away.",
            )
