"""Losses of boosted trees with their first and second derivatives, for the label party alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError
from isthmus.trees.options import TreeOptions

Floats = NDArray[np.float64]

_TINY = 1e-300
_POISSON_STEP = 0.7


class Loss(ABC):
    """One objective. Scores are float64 `[rows, trees a round]`, labels and weights `[rows]`."""

    @abstractmethod
    def check(self, labels: Floats) -> None:
        """Raises DataError where labels are not of this kind."""

    @abstractmethod
    def start(self, labels: Floats, weights: Floats) -> Floats:
        """The constant score of least loss, `[trees a round]`."""

    @abstractmethod
    def derivatives(self, labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
        """First and second derivative of each row's loss by its scores, like `scores`."""

    @abstractmethod
    def losses(self, labels: Floats, scores: Floats) -> Floats:
        """Each row's loss, `[rows]`."""

    @abstractmethod
    def mean(self, scores: Floats) -> Floats:
        """The expected label, or the classes' probabilities: what `predict` gives."""


class Binary(Loss):
    """Labels of 0 and 1, the score is the log odds."""

    def check(self, labels: Floats) -> None:
        """See `Loss`."""
        if not np.isin(labels, (0.0, 1.0)).all() or labels.min() == labels.max():
            raise DataError("binary labels are 0 and 1, and both must be there")

    def start(self, labels: Floats, weights: Floats) -> Floats:
        """See `Loss`."""
        share = float(np.average(labels, weights=weights))
        return np.array([math.log(share / (1.0 - share))])

    def derivatives(self, labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
        """See `Loss`."""
        p = _sigmoid(scores)
        return p - labels[:, None], p * (1.0 - p)

    def losses(self, labels: Floats, scores: Floats) -> Floats:
        """See `Loss`."""
        found: Floats = np.logaddexp(0.0, np.where(labels > 0, -scores[:, 0], scores[:, 0]))
        return found

    def mean(self, scores: Floats) -> Floats:
        """See `Loss`."""
        return _sigmoid(scores[:, 0])


class Real(Loss):
    """Numbers; the score is the mean, the loss half the squared error."""

    def check(self, labels: Floats) -> None:
        """See `Loss`."""
        del labels

    def start(self, labels: Floats, weights: Floats) -> Floats:
        """See `Loss`."""
        return np.array([float(np.average(labels, weights=weights))])

    def derivatives(self, labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
        """See `Loss`."""
        return scores - labels[:, None], np.ones_like(scores)

    def losses(self, labels: Floats, scores: Floats) -> Floats:
        """See `Loss`."""
        found: Floats = (scores[:, 0] - labels) ** 2 / 2.0
        return found

    def mean(self, scores: Floats) -> Floats:
        """See `Loss`."""
        return scores[:, 0].copy()


class Poisson(Loss):
    """Counts; the score is the logarithm of the mean. As LightGBM, with its safeguard of 0.7."""

    def check(self, labels: Floats) -> None:
        """See `Loss`."""
        if labels.min() < 0 or labels.max() <= 0:
            raise DataError("poisson labels are not below 0, and one is above")

    def start(self, labels: Floats, weights: Floats) -> Floats:
        """See `Loss`."""
        return np.array([math.log(float(np.average(labels, weights=weights)))])

    def derivatives(self, labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
        """See `Loss`."""
        mean = np.exp(scores)
        return mean - labels[:, None], mean * math.exp(_POISSON_STEP)

    def losses(self, labels: Floats, scores: Floats) -> Floats:
        """See `Loss`."""
        found: Floats = np.exp(scores[:, 0]) - labels * scores[:, 0]
        return found

    def mean(self, scores: Floats) -> Floats:
        """See `Loss`."""
        found: Floats = np.exp(scores[:, 0])
        return found


class Multiclass(Loss):
    """Labels from 0 to classes - 1, scores are the logits of a softmax.

    The second derivative has the factor K / (K - 1) of Friedman, "Greedy Function Approximation",
    Annals of Statistics 2001, as in LightGBM: it stands for the classes' dependence.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def check(self, labels: Floats) -> None:
        """See `Loss`."""
        if not np.isin(labels, np.arange(self._classes)).all():
            raise DataError(f"multiclass labels are whole numbers from 0 to {self._classes - 1}")
        if len(np.unique(labels)) < self._classes:
            raise DataError(f"not all of the {self._classes} classes are among the labels")

    def start(self, labels: Floats, weights: Floats) -> Floats:
        """See `Loss`."""
        mass = np.bincount(labels.astype(np.int64), weights, self._classes)
        found: Floats = np.log(mass / mass.sum())
        return found

    def derivatives(self, labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
        """See `Loss`."""
        p = _softmax(scores)
        factor = self._classes / (self._classes - 1.0)
        return p - (labels[:, None] == np.arange(self._classes)), factor * p * (1.0 - p)

    def losses(self, labels: Floats, scores: Floats) -> Floats:
        """See `Loss`."""
        p = _softmax(scores)[np.arange(len(labels)), labels.astype(np.int64)]
        found: Floats = -np.log(np.maximum(p, _TINY))
        return found

    def mean(self, scores: Floats) -> Floats:
        """See `Loss`."""
        return _softmax(scores)


def loss_of(options: TreeOptions) -> Loss:
    """The loss of the agreed objective."""
    if options.objective == "multiclass":
        return Multiclass(options.trees_a_round)
    if options.objective == "binary":
        return Binary()
    return Real() if options.objective == "real" else Poisson()


def _sigmoid(scores: Floats) -> Floats:
    found: Floats = np.exp(-np.logaddexp(0.0, -scores))
    return found


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found
