"""Popularity: items by the number of clients that have them, one secure sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.fedrec.algorithms._one_round import OneRound
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task


@dataclass(frozen=True)
class Settings:
    """No numbers of its own."""


class Popularity(OneRound):
    """s_ui = sum_v x_vi, the same for every client."""

    def learn(self) -> tuple[Floats, int]:
        """The number of clients that have each item in training."""
        return popularity(self.task), 4 * self.task.population.items

    def client_scores(self, clients: Longs) -> Floats:
        """The counts, for each client."""
        return np.broadcast_to(self.learned, (len(clients), len(self.learned)))


def popularity(task: Task) -> Floats:
    """The number of clients that have each item in training, float32 [M]."""
    if task.fleet is not None:
        return task.fleet.total("popularity")
    population = task.population
    return np.bincount(population.train.items, minlength=population.items).astype(np.float32)


def _build(task: Task, settings: Settings, model: Model | None) -> Popularity:
    return Popularity(task)


ALGORITHM = Algorithm(
    name="popularity",
    title="Popularity",
    paper="none",
    leaves="sums",
    private="which client has which item",
    settings=Settings,
    build=_build,
    rounds=1,
    kind="floor",
)
