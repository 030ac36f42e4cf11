"""Item-kNN: cosine between items from one summed Gram matrix, each item's k nearest.

Deshpande, Karypis: Item-Based Top-N Recommendation Algorithms, ACM TOIS 2004, with shrinkage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.fedrec.algorithms._one_round import OneRound, WordSum, gram, gram_sum, row_sums
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task


@dataclass(frozen=True)
class Settings:
    """Item-kNN's numbers."""

    neighbours: int = 100
    """k, how many items an item is like."""
    shrink: float = 10.0
    """Added to the denominator: holds back likeness that few clients vouch for."""


class ItemKnn(OneRound):
    """S_ij = G_ij / (sqrt(G_ii G_jj) + shrink), the k largest of each column; scores x_u S."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings

    def learn(self) -> tuple[Floats, int]:
        """The likeness of items."""
        g = gram(self.task)
        up = 4 * len(g) * (len(g) + 1) // 2
        size = np.sqrt(np.diag(g))
        # An item that nobody has is like none.
        scale = np.maximum(np.outer(size, size) + np.float32(self.settings.shrink), 1e-9)
        likeness = (g / scale).astype(np.float32)
        np.fill_diagonal(likeness, 0)
        drop = max(0, len(g) - self.settings.neighbours)
        if drop:
            weak = np.argpartition(likeness, drop, axis=0)[:drop]
            np.put_along_axis(likeness, weak, np.float32(0), axis=0)
        return likeness, up

    def sum_of(self, what: str) -> WordSum | None:
        """The Gram matrix."""
        return gram_sum(self.task) if what == "gram" else None

    def client_scores(self, clients: Longs) -> Floats:
        """x_u S."""
        return row_sums(self.task, clients, self.learned)


def _build(task: Task, settings: Settings, model: Model | None) -> ItemKnn:
    return ItemKnn(task, settings)


ALGORITHM = Algorithm(
    name="item-knn",
    title="Item-kNN",
    paper="Deshpande and Karypis, ACM TOIS 2004",
    leaves="sums",
    private="which client has which item",
    settings=Settings,
    build=_build,
    rounds=1,
    kind="floor",
)
