"""The losses of generalised linear models, by the linear predictor: values and two derivatives.

McCullagh and Nelder, Generalized Linear Models, 1989; Tweedie: Jørgensen, JRSS B 49 (1987). A loss
is half the unit deviance up to a term of the label alone, as in scikit-learn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError

Floats = NDArray[np.float64]


class Family(ABC):
    """One kind of label. `eta` is the linear predictor, float64 [rows], offset included."""

    fixed_dispersion = False
    """Whether the variance follows from the mean alone, so that its factor is 1."""

    @abstractmethod
    def check(self, labels: Floats) -> None:
        """Raises DataError where a label cannot be of this kind."""

    @abstractmethod
    def link(self, mean: float) -> float:
        """The linear predictor that has this mean."""

    @abstractmethod
    def mean(self, eta: Floats) -> Floats:
        """The expected label."""

    @abstractmethod
    def loss(self, labels: Floats, eta: Floats) -> Floats:
        """The loss of each row."""

    @abstractmethod
    def residual(self, labels: Floats, eta: Floats) -> Floats:
        """Minus the loss's derivative by eta."""

    @abstractmethod
    def curvature(self, labels: Floats, eta: Floats) -> Floats:
        """The loss's second derivative by eta; never negative."""

    @abstractmethod
    def information(self, eta: Floats) -> Floats:
        """The curvature that is expected over the label: Fisher's."""

    @abstractmethod
    def variance(self, mean: Floats) -> Floats:
        """The label's variance by its mean, up to the dispersion."""


class Logistic(Family):
    """Labels 0 and 1, logit link."""

    fixed_dispersion = True

    def check(self, labels: Floats) -> None:
        """See `Family`."""
        if not np.isin(labels, (0.0, 1.0)).all():
            raise DataError("logistic regression takes labels 0 and 1")
        if labels.min() == labels.max():
            raise DataError("all labels are the same")

    def link(self, mean: float) -> float:
        """See `Family`."""
        return float(np.log(mean / (1.0 - mean)))

    def mean(self, eta: Floats) -> Floats:
        """See `Family`."""
        # Without overflow on either side.
        small = np.exp(-np.abs(eta))
        return np.where(eta >= 0, 1.0, small) / (1.0 + small)

    def loss(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return np.asarray(np.logaddexp(0.0, eta) - labels * eta, np.float64)

    def residual(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return labels - self.mean(eta)

    def curvature(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        del labels
        return self.information(eta)

    def information(self, eta: Floats) -> Floats:
        """See `Family`."""
        return self.variance(self.mean(eta))

    def variance(self, mean: Floats) -> Floats:
        """See `Family`."""
        return mean * (1.0 - mean)


class Linear(Family):
    """Real labels, identity link."""

    def check(self, labels: Floats) -> None:
        """See `Family`."""

    def link(self, mean: float) -> float:
        """See `Family`."""
        return mean

    def mean(self, eta: Floats) -> Floats:
        """See `Family`."""
        return eta

    def loss(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return (labels - eta) ** 2 / 2.0

    def residual(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return labels - eta

    def curvature(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        del labels
        return np.ones_like(eta)

    def information(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.ones_like(eta)

    def variance(self, mean: Floats) -> Floats:
        """See `Family`."""
        return np.ones_like(mean)


class Tweedie(Family):
    """Labels of variance mean^power, log link: 1 is Poisson, 2 gamma, between them claim costs."""

    def __init__(self, power: float) -> None:
        self.power = power
        self.fixed_dispersion = power == 1.0

    def check(self, labels: Floats) -> None:
        """See `Family`."""
        if self.power == 2.0 and labels.min() <= 0:
            raise DataError("gamma regression takes labels above 0")
        if labels.min() < 0:
            raise DataError("Poisson and Tweedie regression take labels of 0 and above")
        if labels.max() == 0:
            raise DataError("all labels are 0")

    def link(self, mean: float) -> float:
        """See `Family`."""
        return float(np.log(mean))

    def mean(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.exp(eta)

    def loss(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        p = self.power
        if p == 1.0:
            return np.exp(eta) - labels * eta
        if p == 2.0:
            return labels * np.exp(-eta) + eta
        return np.exp((2 - p) * eta) / (2 - p) + labels * np.exp((1 - p) * eta) / (p - 1)

    def residual(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        p = self.power
        return labels * np.exp((1 - p) * eta) - np.exp((2 - p) * eta)

    def curvature(self, labels: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        p = self.power
        return (p - 1) * labels * np.exp((1 - p) * eta) + (2 - p) * np.exp((2 - p) * eta)

    def information(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.exp((2 - self.power) * eta)

    def variance(self, mean: Floats) -> Floats:
        """See `Family`."""
        return np.asarray(mean**self.power, np.float64)


FAMILIES: Mapping[str, Callable[[float], Family]] = MappingProxyType(
    {
        "logistic": lambda power: Logistic(),
        "linear": lambda power: Linear(),
        "poisson": lambda power: Tweedie(1.0),
        "gamma": lambda power: Tweedie(2.0),
        "tweedie": Tweedie,
    }
)
"""The kinds of label by name, each made from `LinearOptions.power`."""
