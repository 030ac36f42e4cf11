"""PipAttack: hostile clients make the target's row look like a popular item's.

Zhang, Yin, Chen, Huang, Nguyen, Cui: PipAttack: Poisoning Federated Recommender Systems for
Manipulating Item Promotion, WSDM 2022 (arXiv 2110.10926). Only its abstract and others' accounts
of it could be read here; what follows is our form of its three terms:

    L_exp = - sum_t log sigma(p . q_t)         explicit promotion, p the hostile client's own vector
    L_pop = - sum_t log f(q_t)[popular]        f: a classifier of popularity levels on item rows
    |q_t - q_t,start| <= the limit of `Crafting`     in place of the distance to what is honest

The attacker knows the table that every client is sent, and for each item whether it is popular
(the upper 10%), ordinary (the next 45%) or unpopular; no interaction of anybody else. f is a
network d-32-3, trained on in each round by Adam on the whole table. A row takes `STEPS` steps of
equal length against `g_exp + alpha g_pop`, the gradients of both terms by it, *each at length 1*.
They cannot be added as they are: once hostile clients score the target well g_exp is 1e-3 and that
of f 3 to 30 (FilmTrust, FedAvg), so that L_pop alone would lead, to rows like those of 200 popular
items, of which few stand among anybody's ten best. A distance as a third term, as in the paper,
stops the row as soon as g_exp has faded. alpha is ours. Without L_pop it is the baseline
"explicit boosting" (`explicit`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.attacks.hostile import Crafting, Trained, within
from isthmus.fedrec.population import Floats, Ints, Longs

POPULAR, ORDINARY, UNPOPULAR = 0, 1, 2
_PERCENT = (10, 55)
STEPS = 20
"""Steps on the target's row in a round."""


def levels(counts: Longs) -> Longs:
    """Each item's level of popularity, int64 [M], from how many clients have it."""
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    popular, ordinary = (share * len(counts) / 100 for share in _PERCENT)
    return np.where(rank < popular, POPULAR, np.where(rank < ordinary, ORDINARY, UNPOPULAR))


class Classifier:
    """Levels of popularity from item rows: d-32-3, ReLU, softmax; Adam on the whole table."""

    def __init__(self, dim: int, rng: np.random.Generator, *, width: int = 32) -> None:
        self.weights = [
            rng.normal(0, np.sqrt(2 / dim), (dim, width)), np.zeros(width),
            rng.normal(0, np.sqrt(2 / width), (width, 3)), np.zeros(3),
        ]  # fmt: skip
        self._first = [np.zeros_like(one) for one in self.weights]
        self._second = [np.zeros_like(one) for one in self.weights]
        self._steps = 0

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [n, 3]"""
        return self._forward(rows)[1]

    def _forward(
        self, rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a, b, c, d = self.weights
        hidden = np.maximum(rows @ a + b, 0)
        logits = hidden @ c + d
        power = np.exp(logits - logits.max(axis=1, keepdims=True))
        return hidden, power / power.sum(axis=1, keepdims=True)

    def train(self, rows: NDArray[np.float64], labels: Longs, steps: int) -> None:
        """Steps of Adam (0.01) on the mean cross-entropy."""
        for _ in range(steps):
            hidden, error = self._forward(rows)
            error[np.arange(len(rows)), labels] -= 1
            error /= len(rows)
            back = (error @ self.weights[2].T) * (hidden > 0)
            gradients = [rows.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
            self._steps += 1
            for place, gradient in enumerate(gradients):
                first, second = self._first[place], self._second[place]
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                one = first / (1 - 0.9**self._steps)
                two = second / (1 - 0.999**self._steps)
                self.weights[place] -= 0.01 * one / (np.sqrt(two) + 1e-8)

    def gradient(self, rows: NDArray[np.float64], level: int) -> NDArray[np.float64]:
        """Of `-log f(row)[level]` by the rows, float64 [n, d]."""
        hidden, error = self._forward(rows)
        error[:, level] -= 1
        return np.asarray(((error @ self.weights[2].T) * (hidden > 0)) @ self.weights[0].T)


class PipAttack(Crafting):
    """The target's row by L, all other rows as honestly trained."""

    def __init__(
        self,
        first: int,
        targets: Longs,
        boost: float,
        labels: Longs | None,
        rng: np.random.Generator,
        *,
        alpha: float = 0.3,
    ) -> None:
        super().__init__(first, targets, boost)
        self.labels, self.alpha = labels, alpha
        self._rng, self._number = rng, 0
        self._classifier: Classifier | None = None

    def begin(self, start: Floats, number: int) -> None:
        """Go on training the classifier, once a round."""
        if self.labels is None or number == self._number:
            return
        if self._classifier is None:
            self._classifier = Classifier(start.shape[1], self._rng)
        self._classifier.train(start.astype(np.float64), self.labels, 50)
        self._number = number

    def craft(self, own: Trained, number: int) -> tuple[Ints, Floats]:
        """Descend from the rows that the server sent."""
        start = own.start[self.targets].astype(np.float64)
        rows, step = start.copy(), 2 * own.limit / STEPS
        for _ in range(STEPS):
            rows = rows - step * unit(self.slope(rows, own.user.astype(np.float64)))
            rows = start + within((rows - start).astype(np.float32), own.limit)
        return own.with_rows(self.targets, rows.astype(np.float32))

    def slope(self, rows: NDArray[np.float64], user: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the targets' rows move against, float64 [T, d]."""
        wrong = 1 / (1 + np.exp(np.clip(rows @ user, -50, 50)))
        slope = unit(-wrong[:, None] * user)
        if self._classifier is not None:
            slope = slope + self.alpha * unit(self._classifier.gradient(rows, POPULAR))
        return slope


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at length 1; 0 stays 0."""
    size = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, size, out=np.zeros_like(rows), where=size > 0))
