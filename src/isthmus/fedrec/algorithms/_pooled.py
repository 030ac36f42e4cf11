"""What the ceilings share: vectors of users and items learned from the pooled interactions."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.engine import Candidates
from isthmus.fedrec.method import Arrays, Method, RoundReport, Watch
from isthmus.fedrec.population import Floats, Longs, Ragged, ragged
from isthmus.fedrec.task import Task


class Pooled(Method):
    """Scores are products of a user's and an item's vector; the server has all interactions."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.users: Floats = np.zeros((0, 0), np.float32)
        """float32 [U, d]"""
        self.items: Floats = np.zeros((0, 0), np.float32)
        """float32 [M, d]"""

    @abstractmethod
    def sweep(self, number: int) -> float | None:
        """Train for round `number`; the loss."""

    def round(self, number: int, watch: Watch) -> RoundReport:
        """A sweep. What went up, all interactions as item numbers, is counted in round 1."""
        loss = self.sweep(number)
        count = self.task.population.clients
        up = 4 * len(self.task.population.train.items) if number == 1 else 0
        return RoundReport(loss, count, up, 0)

    def score(self, clients: Longs, candidates: Candidates) -> Floats:
        """Products of the vectors."""
        out = np.empty(int(candidates.count.sum()), np.float32)
        _products(
            self.users[clients], self.items, candidates.begin, candidates.count,
            candidates.items, out,
        )  # fmt: skip
        return out

    def state(self) -> Arrays:
        """Both tables."""
        return {"users": self.users, "items": self.items}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.users, self.items = state["users"], state["items"]


def turned(lists: Ragged, items: int) -> Ragged:
    """Each item's clients, ascending, from each client's items."""
    clients = np.repeat(np.arange(len(lists.counts)), lists.counts)
    return ragged(lists.items.astype(np.int64), clients, items)


@compiled
def _products(
    users: np.ndarray, items: np.ndarray, begin: np.ndarray, count: np.ndarray,
    candidates: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    at = 0
    for place in range(len(begin)):
        user = users[place]
        for k in range(begin[place], begin[place] + count[place]):
            row = items[candidates[k]]
            total = np.float32(0)
            for j in range(user.size):
                total += user[j] * row[j]
            out[at] = total
            at += 1
