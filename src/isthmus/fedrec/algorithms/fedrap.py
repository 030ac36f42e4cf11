"""FedRAP: an item is a shared row plus a private one, kept apart, the shared table sparse.

Li, Long, Zhou: Federated Recommendation with Additive Personalization, ICLR 2024 (arXiv
2301.09109), read in its released code. `s_ui = sigma(w_u . (C_i + D_u,i) + b_u)`; each client
minimises `BCE - lambda mean (D_u - C)^2 + mu mean |C|`, the means over the rows of the batch, by
plain gradient descent; the server takes `C = 1/U sum_u C_u`. D_u, w_u, b_u are private. Rates fall
by `decay_rate` a round.

`variant="paper"`: lambda and mu grow as `tanh(t / 10)` in round t, counted from 0.
`variant="authors"`: constant; the code works the schedule out but never uses it.

The numbers are those that the code's own page gives for ML-100K, but for lambda; the defaults of
its command line are others (`rate=200 user_rate=0.5 decay=1e-4 sparse=0.1`). The first leave the
score function nearly as it was drawn, and alike for all: an item is its row's one number along it.

Two things are not as in the code. Rates fall by `within` from batch to batch there; here the rates
of a round are their mean over as many batches as there are epochs, which is exact in sum for a
client of one batch. And weight decay moves the rows that a client samples, not all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms.pfedrec import PlainMean
from isthmus.fedrec.engine import Work
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats
from isthmus.fedrec.shared_table import SharedTable
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.training import LocalTraining


@dataclass(frozen=True)
class Settings:
    """FedRAP's numbers; where nothing else is said those that the code's page has for ML-100K."""

    variant: Literal["paper", "authors"] = "paper"
    """Whether the two weights below grow with the rounds, or are constant as in the code."""
    apart: float = 1e-3
    """lambda: how strongly the private table is kept apart from the shared one. The term has no
    bottom: with the code's 0.1 and this rate, tables of clients with few items grow without end."""
    sparse: float = 1e-3
    """mu: how strongly entries of the shared table are drawn to 0."""
    decay_rate: float = 0.97
    """All rates are multiplied by this after each round."""
    within: float = 0.95
    """And by this after each batch, new in each round."""
    share: float = 1.0
    """Share of the clients that train in a round."""


class FedRAP(SharedTable):
    """A shared table by plain mean, and a private table for each client."""

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model, PlainMean(), share=settings.share)
        self.settings = settings
        self._usual = model.training
        # One random start for all private tables, another than the shared table's.
        rng = task.generator(randomness.START, 1)
        first = rng.standard_normal(self.own.shape[1:], np.float32)
        self.own[:] = first * np.float32(model.training.deviation)

    def work(self, number: int) -> Work:
        """The client step, with the round's rates."""
        usual, within = self._usual, self.settings.within
        fallen = self.settings.decay_rate ** max(number - 1, 0)
        fallen *= sum(within**step for step in range(usual.epochs)) / usual.epochs
        training = replace(usual, rate=usual.rate * fallen, user_rate=usual.user_rate * fallen)
        self.model = replace(self.model, training=training)
        return super().work(number)

    def extra(self, number: int) -> Floats:
        """The weights lambda and mu of the round."""
        settings = self.settings
        grown = math.tanh(max(number - 1, 0) / 10) if settings.variant == "paper" else 1.0
        return np.array([settings.apart * grown, settings.sparse * grown], np.float32)


def _build(task: Task, settings: Settings, model: Model) -> FedRAP:
    return FedRAP(task, model, settings)


ALGORITHM = Algorithm(
    name="fedrap",
    title="FedRAP",
    paper="Li, Long, Zhou, ICLR 2024, arXiv 2301.09109",
    leaves="sums",
    private="the score function (w_u, b_u) and the private item table D_u",
    settings=Settings,
    build=_build,
    backbones=("fedrap",),
    training={
        "fedrap": LocalTraining(
            dim=32,
            epochs=10,
            batch=2048,
            optimiser="sgd",
            rate=1000.0,
            user_rate=1e-4,
            decay=1e-6,
        )
    },
)
