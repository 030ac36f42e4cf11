"""FedEM: tables of similar clients are mixed, and each client merges the mixture at its own ratio.

Chen and others: FedEM (AAAI 2026, arXiv 2508.12386), read in its released code. Of the clients, a
share is drawn each round. Among these, with z_u the first principal scores of Q_u,
`sim_uv = 1 / (1 + |z_u - z_v|)`, set to 1 above 0.9, and

    min_w  w.w - 2 (p + alpha sim_u).w  over the simplex, p_v = n_v / sum n:
    w = Proj_simplex(p + alpha sim_u),  Q_g,u = sum_v w_v Q_v.

The client then takes `Q_l + rho (Q_g - Q_l)` with `rho = sigma(MLP([Q_l ; Q_g - Q_l]))`, one ratio
a row, the network private; with this it is judged, and from this its next round begins, in which
the network goes on learning with Q_g at hand.

Not as in the code: network and embeddings take each step together, on one gradient (the code moves
the network first), and the sign of principal scores is fixed (there it is what the solver gives).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.algorithms import _affinity as affinity
from isthmus.fedrec.algorithms._simplex import project
from isthmus.fedrec.backbones.fedem import NARROW, WIDE
from isthmus.fedrec.engine import Work
from isthmus.fedrec.method import Algorithm, Arrays
from isthmus.fedrec.mixed_tables import MixedTables, Mixtures, Sent
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.training import LocalTraining
from isthmus.fedrec.uploads import Tables


@dataclass(frozen=True)
class Settings:
    """FedEM's numbers; the defaults are those of the released code."""

    alpha: float = 0.9
    """Weight of similarity."""
    mixed: float = 0.1
    """Share of the clients that are mixed with each other in a round."""


class FedEM(MixedTables):
    """Own tables, and beside each the last that the server sent: two arrays [U, M, d]."""

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model)
        self.settings = settings
        self.mixed = settings.mixed
        self.mixture: Floats = np.zeros_like(self.items)

    def work(self, number: int) -> Work:
        """The client step, with the server's rows as constants."""
        return Work(Tables.personal(self.items, self.network), self.user, number, self.mixture)

    def prepare(self, clients: Longs) -> int:
        """Merge what was sent."""
        told = clients[self.user[clients, -1] > 0.5]
        for client in told:
            own, private = self.items[client], self.user[client]
            self.items[client] = merged(own, self.mixture[client], private)
        # Only the client knows how it merged, so these send whole tables.
        return len(told) * self.model.initial.items.nbytes

    def forget(self, clients: Longs) -> None:
        """What was sent is merged."""
        self.user[clients, -1] = 0

    def mixtures(self, sent: Sequence[Sent]) -> Mixtures:
        """Mix the tables of the round's chosen clients by similarity."""
        stack = np.stack([one.table for one in sent])
        sizes = np.array([one.weight for one in sent])
        w = weights(sizes, stack, self.settings.alpha)
        flat = stack.reshape(len(sent), -1)
        mixed = (w.astype(np.float32) @ flat).reshape(stack.shape)
        clients = np.array([one.client for one in sent])
        network = np.stack([one.network for one in sent])
        return Mixtures(clients, mixed, network, np.zeros((len(sent), 0), np.float32))

    def take(self, mixtures: Mixtures) -> None:
        """Keep it until the next round."""
        self.mixture[mixtures.clients] = mixtures.items
        self.user[mixtures.clients, -1] = 1

    def state(self) -> Arrays:
        """As the base has it, and the tables that were sent."""
        return super().state() | {"sent": self.mixture}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.mixture = state["sent"]


def weights(sizes: NDArray[np.float64], tables: Floats, alpha: float) -> NDArray[np.float64]:
    """The mixing weights of n clients, rows on the simplex, float64 [n, n].

    Args:
        sizes: n_u, float64 [n].
        tables: float32 [n, M, d].
        alpha: weight of similarity.
    """
    likeness = 1 / (1 + affinity.distances(affinity.principal_scores(tables)))
    likeness[likeness > 0.9] = 1.0
    return project(sizes / sizes.sum() + alpha * likeness)


def merged(own: Floats, sent: Floats, private: Floats) -> Floats:
    """A client's table with the sent one merged into it, float32 [M, d]."""
    apart, at = sent - own, own.shape[1]
    h = np.concatenate([own, apart], axis=1)
    for inputs, outputs in ((h.shape[1], WIDE), (WIDE, NARROW), (NARROW, 1)):
        layer = private[at : at + (inputs + 1) * outputs].reshape(inputs + 1, outputs)
        h = h @ layer[:-1] + layer[-1]
        if outputs > 1:
            h = np.maximum(h, 0)
        at += (inputs + 1) * outputs
    return np.asarray(own + apart / (1 + np.exp(-np.clip(h, -80, 80))), np.float32)


def _build(task: Task, settings: Settings, model: Model) -> FedEM:
    return FedEM(task, model, settings)


ALGORITHM = Algorithm(
    name="fedem",
    title="FedEM",
    paper="Chen et al., AAAI 2026, arXiv 2508.12386",
    leaves="tables",
    private="the user's vector and the merging network",
    settings=Settings,
    build=_build,
    backbones=("fedem",),
    training={"fedem": LocalTraining(rate=0.1, user_rate=0.1)},
)
