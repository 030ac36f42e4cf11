"""FedFast: clients drawn from clusters of users; those not drawn move with their cluster.

Muhammad, Wang, O'Reilly-Morgan, Tragos, Smyth, Hurley, Geraci, Lawlor: FedFast: Going Beyond
Average for Faster Training of Federated Recommender Systems, KDD 2020.

ActvSAMP: k-means on the users' vectors; the round's clients (delegates) are drawn from the clusters
in turn. ActvAGG:

- network: FedAvg;
- item i: `Q_i <- sum_u q_ui Q_u,i / sum_u q_ui`, `q_ui = |Q_u,i - Q_i|_1`, over the delegates;
- users: a delegate keeps its vector; every other user of a cluster with delegates moves by the mean
  change of that cluster's delegates, times `discount^t` in round t.

The paper could not be read; this is as two programs and reading notes by others give it. The
numbers are not the paper's, which we do not have; its backbone (GMF) is `fcf` with output weights.

Users' vectors leave the device: the server clusters them, and moves those of users that were not
drawn. The guards of uploads do not cover them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms._clusters import k_means
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Longs
from isthmus.fedrec.shared_table import SharedTable
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Shared, Sums, Uploads


@dataclass(frozen=True)
class Settings:
    """FedFast's numbers."""

    clusters: int = 10
    """p, clusters of users."""
    share: float = 0.1
    """Share of the clients that train in a round."""
    discount: float = 0.9
    """gamma: users that were not drawn move less from round to round."""


class ActvAgg:
    """Items by how far each client moved them, the network by FedAvg."""

    def aggregate(self, shared: Shared, uploads: Iterator[Uploads]) -> Shared:
        """The next shared parameters."""
        total, mass = np.zeros(shared.items.shape), np.zeros(len(shared.items))
        average = Sums.like(shared)
        for chunk in uploads:
            average.add(chunk, chunk.weight)
            _add_by_change(total, mass, chunk.items, chunk.rows, shared.items)
        step = total / np.where(mass > 0, mass, 1.0)[:, None]
        turn = average.network / (average.weight or 1.0)
        return Shared(
            (shared.items + step).astype(np.float32), (shared.network + turn).astype(np.float32)
        )


@compiled
def _add_by_change(
    total: np.ndarray, mass: np.ndarray, items: np.ndarray, rows: np.ndarray, starts: np.ndarray
) -> None:
    for k in range(len(items)):
        start = starts[items[k]]
        size = 0.0
        for j in range(len(start)):
            size += abs(np.float64(rows[k, j]) - np.float64(start[j]))
        mass[items[k]] += size
        for j in range(len(start)):
            total[items[k], j] += size * (np.float64(rows[k, j]) - np.float64(start[j]))


class FedFast(SharedTable):
    """A shared table; users' vectors are known to the server."""

    beside = "its user's vector"
    sends_vectors = moves_vectors = True

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model, ActvAgg(), share=settings.share)
        self.settings = settings
        self.of: Longs = np.zeros(task.population.clients, np.int64)

    def clients(self, number: int) -> Longs:
        """ActvSAMP: cluster the users as they are now, draw from the clusters in turn."""
        rng = self.task.generator(randomness.SAMPLING, number)
        self.of = k_means(self.user, self.settings.clusters, rng)
        return in_turn(self.of, max(1, int(len(self.of) * self.share)), rng)

    def aggregate(self, uploads: Iterator[Uploads], number: int) -> None:
        """ActvAGG."""
        before = self.user.copy()
        trained: list[Longs] = []

        def noted() -> Iterator[Uploads]:
            for chunk in uploads:
                trained.append(chunk.clients)
                yield chunk

        super().aggregate(noted(), number)
        delegates = np.concatenate(trained) if trained else np.zeros(0, np.int64)
        weight = self.settings.discount**number
        self.user = followed(before, self.user, self.of, delegates, weight)


def in_turn(of: Longs, wanted: int, rng: np.random.Generator) -> Longs:
    """`wanted` clients, one from each cluster after the other until there are enough, ascending."""
    order = rng.permutation(len(of))
    turn = np.empty(len(of), np.int64)
    for one in np.unique(of):
        turn[order[of[order] == one]] = np.arange(np.count_nonzero(of == one))
    # First all clusters' first, then their second, ...: within a turn in the order drawn.
    first = order[np.argsort(turn[order], kind="stable")]
    return np.sort(first[:wanted])


def followed(
    before: np.ndarray, after: np.ndarray, of: Longs, delegates: Longs, weight: float
) -> np.ndarray:
    """Users' vectors [U, p]: the delegates' as trained, the others' moved with their cluster."""
    out = after.copy()
    drawn = np.isin(np.arange(len(of)), delegates)
    for one in np.unique(of[delegates]):
        lead, rest = drawn & (of == one), ~drawn & (of == one)
        change = (after[lead].astype(np.float64) - before[lead]).mean(axis=0)
        out[rest] = before[rest] + weight * change
    return out


def _build(task: Task, settings: Settings, model: Model) -> FedFast:
    return FedFast(task, model, settings)


ALGORITHM = Algorithm(
    name="fedfast",
    title="FedFast",
    paper="Muhammad et al., KDD 2020",
    leaves="vectors",
    private="the items, but not the user's vector",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
