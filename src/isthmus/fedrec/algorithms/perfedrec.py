"""PerFedRec: clusters of users, and a mixture of a client's, its cluster's and the general model.

Luo, Xiao, Song: Personalized Federated Recommendation via Joint Representation Learning, User
Clustering, and Model Adaptation, CIKM 2022 (arXiv 2208.09375), with this package's backbones in
place of the paper's graph network. In each round half of the clients are drawn at random, half by
the size of their cluster; each trains from its cluster's model. The server

- takes the plain mean of all uploads as the general model;
- clusters all users' vectors by k-means, K 5;
- takes the plain mean of the uploads of each cluster as its model, the general one where none came.

A client scores with the mean of its own model (if it trained in the round), its cluster's and the
general one. The authors' code keeps the clusters' models under the numbers of the clusters before,
though k-means numbers them anew in each round; here the means are taken over the new clusters. Its
noise (Laplace of scale 0.02 on 100 rows drawn at random) protects no row for certain, and is left
out: noise is a matter of guards.

Users' vectors leave the device; the guards of uploads do not cover them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec import engine, randomness
from isthmus.fedrec.algorithms._clusters import k_means
from isthmus.fedrec.algorithms.fedavg import Mean
from isthmus.fedrec.engine import Candidates, Work
from isthmus.fedrec.method import Algorithm, Arrays
from isthmus.fedrec.population import Floats, Longs, offsets
from isthmus.fedrec.shared_table import Scoring, SharedTable
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Shared, Sums, Tables, Uploads


@dataclass(frozen=True)
class Settings:
    """PerFedRec's numbers; the defaults are those of the authors' code."""

    clusters: int = 5
    """K, clusters of users."""
    per_round: int = 128
    """Clients that train in a round."""
    local: float = 1.0
    """Weight of the client's own model in its scores, where it trained in the round."""
    cluster: float = 1.0
    """Weight of the cluster's model."""
    general: float = 1.0
    """Weight of the general model."""


class PerFedRec(SharedTable):
    """`shared` is the general model, `groups` the clusters' and who is in which."""

    beside = "its user's vector"
    sends_vectors = keeps_trained = True
    tables_down = 2

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        if settings.cluster + settings.general <= 0:
            raise JobError("cluster and general must not both be 0: not every client trains")
        # `aggregate` below does not ask the aggregator.
        super().__init__(task, model, Mean())
        self.settings = settings
        count, start = task.population.clients, self.shared
        self.groups = Tables(
            np.repeat(start.items[None], settings.clusters, axis=0),
            np.repeat(start.network[None], settings.clusters, axis=0),
            np.zeros(count, np.int64),
        )
        # What was trained in the last round; needed only until the clients have been judged.
        self.trained: list[Uploads] = []

    def tables(self, number: int) -> Tables:
        """The clusters' models."""
        return self.groups

    def clients(self, number: int) -> Longs:
        """Half at random, half by the size of their cluster."""
        rng = self.task.generator(randomness.SAMPLING, number)
        return drawn(self.groups.of, self.settings.per_round, rng)

    def aggregate(self, uploads: Iterator[Uploads], number: int) -> None:
        """The general model, new clusters, the clusters' models."""
        trained = list(uploads)
        rng = self.task.generator(randomness.AGGREGATION, number)
        of = k_means(self.user, self.settings.clusters, rng)
        self.shared = mean_of(trained, np.ones(len(of), bool), self.shared)
        groups = [mean_of(trained, of == one, self.shared) for one in range(self.settings.clusters)]
        self.groups = Tables(
            np.stack([one.items for one in groups]), np.stack([one.network for one in groups]), of
        )
        # Clients that are elsewhere keep it themselves.
        self.trained = trained if self.task.fleet is None else []

    def scoring(self) -> Scoring:
        """With the general model beside the clusters'."""
        general = Tables.shared(self.shared, len(self.groups.of))
        return Scoring(self.work(0), {"general": general}, self.trained)

    def scored(self, scoring: Scoring, clients: Longs, candidates: Candidates) -> Floats:
        """The weighted mean of the scores of the models that each client has."""
        one, groups, general = self.settings, scoring.work.tables, scoring.beside["general"]
        weight = np.full(len(clients), one.cluster + one.general)
        total = one.cluster * self._scores(groups, clients, candidates)
        total += one.general * self._scores(general, clients, candidates)
        at = offsets(candidates.count)
        for chunk in scoring.trained:
            places = np.flatnonzero(np.isin(clients, chunk.clients))
            if not len(places):
                continue
            rest = Candidates(candidates.begin[places], candidates.count[places], candidates.items)
            part = selected(chunk, clients[places])
            found = self._scores(chunk.starts, clients[places], rest, part)
            total[_spans(at[places], rest.count)] += one.local * found
            weight[places] += one.local
        scaled: Floats = (total / np.repeat(weight, candidates.count)).astype(np.float32)
        return scaled

    def _scores(
        self, tables: Tables, clients: Longs, candidates: Candidates, trained: Uploads | None = None
    ) -> Floats:
        work = Work(tables, self.user, 0)
        return engine.score(self.task, self.model, work, clients, candidates, trained)

    def state(self) -> Arrays:
        """With the clusters and their models."""
        groups = self.groups
        return super().state() | {
            "groups.items": groups.items,
            "groups.network": groups.network,
            "groups.of": groups.of,
        }

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.groups = Tables(state["groups.items"], state["groups.network"], state["groups.of"])
        self.trained = []


def drawn(of: Longs, wanted: int, rng: np.random.Generator) -> Longs:
    """`wanted` clients, half uniformly, the rest by the size of their cluster, ascending."""
    count = len(of)
    if wanted >= count:
        return np.arange(count)
    some = rng.choice(count, wanted // 2, replace=False)
    chance = np.bincount(of)[of].astype(np.float64)
    chance[some] = 0
    more = rng.choice(count, wanted - len(some), replace=False, p=chance / chance.sum())
    return np.sort(np.concatenate([some, more]))


def mean_of(uploads: list[Uploads], members: NDArray[np.bool_], otherwise: Shared) -> Shared:
    """The plain mean of the models that `members` (bool [U]) uploaded, `otherwise` of none."""
    total = Sums.like(otherwise)
    began = np.zeros(len(uploads[0].starts.items) if uploads else 0)
    for chunk in uploads:
        belongs = members[chunk.clients]
        total.add(chunk, belongs.astype(np.float64))
        began += np.bincount(chunk.starts.of[chunk.clients[belongs]], minlength=len(began))
    if not total.weight:
        return otherwise
    # Clients began from different models: the mean of those, and of how far each moved.
    starts, share = uploads[0].starts, began / total.weight
    items = np.einsum("k,kmd->md", share, starts.items) + total.items / total.weight
    network = np.einsum("k,kt->t", share, starts.network) + total.network / total.weight
    return Shared(items.astype(np.float32), network.astype(np.float32))


def selected(chunk: Uploads, clients: Longs) -> Uploads:
    """The uploads of `clients` (ascending, all in the chunk)."""
    places = np.searchsorted(chunk.clients, clients)
    counts = np.diff(chunk.indptr)[places]
    rows = _spans(chunk.indptr[places], counts)
    return Uploads(
        clients, offsets(counts), chunk.items[rows], chunk.rows[rows], chunk.network[places],
        chunk.weight[places], chunk.starts, chunk.user[places], chunk.counts[rows],
        chunk.loss[places],
    )  # fmt: skip


def _spans(begin: Longs, count: Longs) -> Longs:
    """begin[0], begin[0] + 1, ... (count[0] numbers), begin[1], ..."""
    at = np.cumsum(count) - count
    return np.asarray(np.arange(count.sum()) + np.repeat(begin - at, count))


def _build(task: Task, settings: Settings, model: Model) -> PerFedRec:
    return PerFedRec(task, model, settings)


ALGORITHM = Algorithm(
    name="perfedrec",
    title="PerFedRec",
    paper="Luo, Xiao, Song, CIKM 2022, arXiv 2208.09375",
    leaves="vectors",
    private="the items, but not the user's vector",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
