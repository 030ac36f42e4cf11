"""EASE on a summed Gram matrix: the best linear item-item model, in one round of secure sums.

Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019. `G = sum_u x_u x_u'` is a sum
over clients, so no client's row is ever seen. `P = (G + lambda I)^-1`, `B = I - P diag(1 / P_ii)`;
each client scores `x_u B` at home. It equals EASE trained on the pooled data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.algorithms._one_round import OneRound, WordSum, gram, gram_sum, row_sums
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task

MANY_ITEMS = 10_000


@dataclass(frozen=True)
class Settings:
    """EASE's one number."""

    ridge: float = 300.0
    """lambda, added to the diagonal."""


class Ease(OneRound):
    """Scores x_u B."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings

    def learn(self) -> tuple[Floats, int]:
        """B, and the upper triangle of the Gram matrix that each client adds to."""
        g = gram(self.task)
        up = 4 * len(g) * (len(g) + 1) // 2
        return ease_weights(g, self.settings.ridge), up

    def sum_of(self, what: str) -> WordSum | None:
        """The Gram matrix."""
        return gram_sum(self.task) if what == "gram" else None

    def client_scores(self, clients: Longs) -> Floats:
        """x_u B."""
        return row_sums(self.task, clients, self.learned)


def ease_weights(gram_matrix: NDArray[np.floating[Any]], ridge: float) -> Floats:
    """B of EASE from a Gram matrix [M, M], float32, zero diagonal.

    Above `MANY_ITEMS` in single precision, which takes half the memory and time: of 19,220 items
    5 GB in place of 10.
    """
    single = len(gram_matrix) > MANY_ITEMS
    regular: NDArray[Any] = gram_matrix.astype(np.float32 if single else np.float64)
    regular.flat[:: len(regular) + 1] += ridge
    weights: NDArray[Any] = np.linalg.inv(regular)
    del regular
    weights /= -np.diag(weights).copy()[None, :]
    np.fill_diagonal(weights, 0)
    return np.asarray(weights, np.float32)


def _build(task: Task, settings: Settings, model: Model | None) -> Ease:
    return Ease(task, settings)


ALGORITHM = Algorithm(
    name="ease",
    title="One-round EASE",
    paper="Steck, WWW 2019; on a secure sum",
    leaves="sums",
    private="which client has which item",
    settings=Settings,
    build=_build,
    rounds=1,
)
