"""Popularity: items by the number of clients that have them, one secure sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.fedrec.algorithms._one_round import OneRound, WordSum, halves, packed, words_for
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task


@dataclass(frozen=True)
class Settings:
    """No numbers of its own."""


class Popularity(OneRound):
    """s_ui = sum_v x_vi, the same for every client."""

    @property
    def shape(self) -> tuple[int, ...]:
        """A number for each item."""
        return (self.task.population.items,)

    def learn(self) -> tuple[Floats, int]:
        """The number of clients that have each item in training."""
        return popularity(self.task), 4 * self.task.population.items

    def sum_of(self, what: str) -> WordSum | None:
        """The counts."""
        return popularity_sum(self.task) if what == "popularity" else None

    def client_scores(self, clients: Longs) -> Floats:
        """The counts, for each client."""
        return np.broadcast_to(self.learned, (len(clients), len(self.learned)))


def popularity(task: Task) -> Floats:
    """The number of clients that have each item in training, float32 [M]."""
    population = task.population
    if task.fleet is not None:
        found = task.fleet.words(popularity_sum(task))
        return halves(found, population.items).astype(np.float32)
    return np.bincount(population.train.items, minlength=population.items).astype(np.float32)


def popularity_sum(task: Task) -> WordSum:
    """`popularity` as words."""
    items = task.population.items
    return WordSum(
        "popularity",
        words_for(items),
        lambda: packed(popularity(task).astype(np.uint32)),
        lambda words, clients: int(halves(words, items).max(initial=0)) <= clients,
    )


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
