"""FedCIA without a model: clients' own graph filters are averaged, one round.

Han, Yang, Li, Wu, Wang, Zhang: FedCIA, SIGIR 2025 (arXiv 2504.14208), read in its released code
(`fedcia_gsp`). Client u makes GF-CF's filter F_u of its own interactions, the server takes `Z =
mean_u F_u`, the client scores `agg x_u Z + x_u F_u`.

In the paper a client is many users. With one user a client `x_u / sqrt(n_u)` is the only singular
vector, so `F_u = (1 + wp) x_u x_u' / n_u`; the second term is then 0 for all items that the client
has not seen and ranks none of them. So `Z = (1 + wp) / U sum_u x_u x_u' / n_u`, a sum, and neither
`agg` nor `wp` changes the order of unseen items. (The code takes 32 singular vectors, of which 31
of one user's would be arbitrary.) The noise of the code, Laplace of scale 0.001, is left to guards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.fedrec.algorithms._one_round import OneRound, WordSum, interaction_rows, row_sums
from isthmus.fedrec.algorithms.gfcf import shares_sum, summed
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task


@dataclass(frozen=True)
class Settings:
    """The numbers of the model-free form, as in the code's file for ML-100K."""

    agg: float = 60.0
    """Weight of the common filter beside the client's own."""
    wp: float = 0.3
    """Weight of the ideal filter within each."""


class ModelFree(OneRound):
    """Scores with the mean of all clients' filters and the client's own."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings

    def learn(self) -> tuple[Floats, int]:
        """Z, and the upper triangle with the counts that each client adds to."""
        total, _ = summed(self.task)
        fleet = self.task.fleet
        clients = self.task.population.clients if fleet is None else fleet.took_part()
        scale = (1 + self.settings.wp) / max(clients, 1)
        return (scale * total).astype(np.float32), 8 * shares_sum(self.task).words

    def sum_of(self, what: str) -> WordSum | None:
        """The shares, and the items' counts, which follow from them."""
        return shares_sum(self.task) if what == "shares" else None

    def client_scores(self, clients: Longs) -> Floats:
        """The scores agg x_u Z + x_u F_u, where x_u F_u = (1 + wp) x_u."""
        own = np.float32(1 + self.settings.wp) * interaction_rows(self.task, clients)
        common = row_sums(self.task, clients, self.learned)
        return np.asarray(np.float32(self.settings.agg) * common + own)


def _build(task: Task, settings: Settings, model: Model | None) -> ModelFree:
    return ModelFree(task, settings)


ALGORITHM = Algorithm(
    name="fedcia-model-free",
    title="FedCIA, model-free",
    paper="Han et al., SIGIR 2025, arXiv 2504.14208",
    leaves="sums",
    private="which client has which item",
    settings=Settings,
    build=_build,
    rounds=1,
)
