"""pFedGraph: each client's table becomes a mean of those that moved its way.

Ye, Ni, Wu, Chen, Wang: Personalized Federated Learning with Inferred Collaboration Graphs, ICML
2023, as the authors' code has it (`pfedgraph_cosine`). With D_u what client u's parameters have
moved from the very first ones, `d_uv = -cos(D_u, D_v)` (-1 where it is below -0.9), client u gets
`sum_v w_v Q_v` with

    min_w  alpha |w|^2 + (d_u - 2 alpha p).w  over the simplex,  p_v = n_v / sum n

which is `w = Proj_simplex(p - d_u / (2 alpha))`. In the next round it trains from that mean Q^ and
adds `- lambda cos(Q, Q^)` to its loss. Here the gradient of that term is taken with the norms and
the cosine of the round's start, where Q = Q^: `lambda (Q - Q^) / |Q^|^2`, on the rows that the
client touches. In the code as stored publicly the term has the opposite sign, which drives clients
away from their mean; it is meant to hold them close, and so do we; the paper's text could not be
read. With whole item tables |Q^|^2 is in the thousands, so the term does next to nothing.

The paper mixes all clients in every round. For thousands of clients that is a matrix product of U x
U x Md; by default a tenth of them, drawn anew, is mixed with each other in a round, as the code of
FedCA does with the methods that it compares. `mixed=1` is the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.algorithms._simplex import project
from isthmus.fedrec.method import Algorithm, Arrays
from isthmus.fedrec.mixed_tables import MixedTables, Mixtures, Sent
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Reference, Tables

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """pFedGraph's numbers; the defaults are those of the authors' code."""

    alpha: float = 0.8
    """How much even weights count against likeness; must be above 0."""
    closeness: float = 0.01
    """lambda, weight of the cosine to the mean in a client's loss."""
    mixed: float = 0.1
    """Share of the clients that are mixed with each other in a round."""


class PFedGraph(MixedTables):
    """Own tables, mixed by a graph of clients."""

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        if settings.alpha <= 0:
            raise JobError("alpha must be above 0")
        super().__init__(task, model)
        self.settings = settings
        self.mixed = settings.mixed
        self.more_down = 1
        self.pull: Floats = np.zeros(len(self.items), np.float32)

    def reference(self, number: int) -> Reference:
        """The round's start, for clients that were mixed in the round before."""
        return Reference(Tables.personal(self.items, self.network), self.pull, self.pull)

    def forget(self, clients: Longs) -> None:
        """The pull is over."""
        self.pull[clients] = 0

    def mixtures(self, sent: Sequence[Sent]) -> Mixtures:
        """A mean of its own for each of the round's chosen clients, and how it pulls."""
        models = np.stack([np.concatenate([one.table.ravel(), one.network]) for one in sent])
        initial = self.model.initial
        start = np.concatenate([initial.items.ravel(), initial.network])
        weights = np.array([one.weight for one in sent])
        w = collaboration(models - start, weights, self.settings.alpha)
        mean = w.astype(np.float32) @ models
        size = initial.items.size
        square = np.einsum("ij,ij->i", mean, mean, dtype=np.float64)
        pull = (self.settings.closeness / np.maximum(square, 1e-12)).astype(np.float32)
        clients = np.array([one.client for one in sent])
        items = mean[:, :size].reshape(-1, *initial.items.shape)
        return Mixtures(clients, items, mean[:, size:], pull[:, None])

    def take(self, mixtures: Mixtures) -> None:
        """Go on from the mean."""
        chosen = mixtures.clients
        self.items[chosen], self.network[chosen] = mixtures.items, mixtures.network
        self.pull[chosen] = mixtures.more[:, 0]

    def state(self) -> Arrays:
        """With the weights of the pull."""
        return super().state() | {"pull": self.pull}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.pull = state["pull"]


def collaboration(changes: Floats, weights: Matrix, alpha: float) -> Matrix:
    """The graph of n clients: row u has the weights of u's mean, float64 [n, n].

    Args:
        changes: how far each client's parameters are from the first ones, float32 [n, size].
        weights: n_u, float64 [n].
        alpha: as in `Settings`.
    """
    inner = (changes @ changes.T).astype(np.float64)
    size = np.sqrt(np.maximum(np.diag(inner), 1e-30))
    cosine = inner / np.outer(size, size)
    cosine[cosine > 0.9] = 1.0
    return project(weights / weights.sum() + cosine / (2 * alpha))


def _build(task: Task, settings: Settings, model: Model) -> PFedGraph:
    return PFedGraph(task, model, settings)


ALGORITHM = Algorithm(
    name="pfedgraph",
    title="pFedGraph",
    paper="Ye et al., ICML 2023",
    leaves="tables",
    private="the user's vector",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
