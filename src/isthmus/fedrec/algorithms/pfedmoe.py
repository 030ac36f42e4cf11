"""pFedMoE in a form for recommenders: shared item table, private expert, private gate.

Yi, Yu, Ren, Wang, Liu, Li: pFedMoE: Data-Level Personalization with Mixture of Experts for
Model-Heterogeneous Personalized Federated Learning (arXiv 2402.01350). There a client has an
extractor `F_k` and a head of its own, a shared small extractor `G(theta)`, and a private gate
`(a_G, a_F) = softmax(H(x; phi_k))`; the representation of x is `a_G G(x) + a_F F_k(x)`; all parts
train together; the server takes `theta <- sum_k n_k / n theta_k`.

The paper was not read for this, but notes on it. Our form for recommenders: x is an item,
`G` the shared item table Q, `F_u` a private table R_u,
the head the product with the user's vector: `s_ui = P_u . (a Q_i + (1 - a) R_u,i)`,
`a = sigma(g_0 + g_1 pop_i + g . Q_i)`, pop_i the item's popularity (log, mean 0, deviation 1; a
secure sum tells the server how many clients have each item, and goes to all). R_u is held as `Q +
D_u`, `D_u` from 0 and drawn to 0 by `ridge / 2 |D_u|^2`: without that a private table only learns
its own training items by heart, and an item that a client never sampled has the shared row alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.fedrec.algorithms._one_round import WordSum
from isthmus.fedrec.algorithms.fedavg import Mean
from isthmus.fedrec.algorithms.popularity import popularity as counts
from isthmus.fedrec.algorithms.popularity import popularity_sum
from isthmus.fedrec.method import Algorithm, Arrays
from isthmus.fedrec.population import Floats
from isthmus.fedrec.shared_table import SharedTable
from isthmus.fedrec.task import Model, Task


@dataclass(frozen=True)
class Settings:
    """pFedMoE's numbers."""

    ridge: float = 0.01
    """How strongly the private expert is drawn to the shared one; ours."""
    share: float = 1.0
    """Share of the clients that train in a round."""


class PFedMoE(SharedTable):
    """A shared table by FedAvg; a private one and a gate for each client."""

    beside = "which items it has, once, to be summed"

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model, Mean(), share=settings.share)
        self.settings = settings
        self.popular: Floats = np.zeros(0, np.float32)

    def extra(self, number: int) -> Floats:
        """The ridge, and the items' popularity, which is added up before the first round."""
        if not len(self.popular):
            self.popular = popularity(self.task)
        return np.concatenate([np.array([self.settings.ridge], np.float32), self.popular])

    def sum_of(self, what: str) -> WordSum | None:
        """How many clients have each item."""
        one = popularity_sum(self.task)
        return one if what == one.name else None

    def state(self) -> Arrays:
        """As the base has it, and the items' popularity."""
        return super().state() | {"popular": self.popular}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        # Earlier versions did not write it: then it is added up again.
        self.popular = state.get("popular", self.popular)


def popularity(task: Task) -> Floats:
    """log(1 + clients that have the item), mean 0 and deviation 1, float32 [M]; a secure sum."""
    found = np.log1p(counts(task).astype(np.float64))
    return np.asarray((found - found.mean()) / max(float(found.std()), 1e-9), np.float32)


def _build(task: Task, settings: Settings, model: Model) -> PFedMoE:
    return PFedMoE(task, model, settings)


ALGORITHM = Algorithm(
    name="pfedmoe",
    title="pFedMoE",
    paper="Yi et al., arXiv 2402.01350; our form for recommenders",
    leaves="sums",
    private="the user's vector, the private item table and the gate",
    settings=Settings,
    build=_build,
    backbones=("pfedmoe",),
)
