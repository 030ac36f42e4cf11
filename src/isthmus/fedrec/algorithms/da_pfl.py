"""DA-PFL in a form for recommenders: clients whose tastes complement each other are mixed.

Yang, Feng, Guo, Wang, Ding, Fang, Liao: DA-PFL: Dynamic Affinity Aggregation for Personalized
Federated Learning (arXiv 2403.09284; IEEE TNNLS 2025). There clients have class counts S_i; an
affinity by an adjusted cosine over the classes that both have, high where counts run opposite or
where one holds classes that the other lacks, guides a mixing of models, renewed each round; clients
are pulled to their mixture by `lambda / (2 s) |W - W~_i|^2`.

The closed form of the affinity could not be read. Our reading: with c_ij the cosine of the
mean-free counts over the classes that both have (0 where there are none or they are constant),

    A_ij = ((1 - c_ij) / 2 + |classes of j that i lacks| / C) / 2,
    xi_ij ~ A_ij exp(-|W_i - W_j|^2 / s), sum_{j != i} xi_ij = 1 - xi_ii,
    W~_i = xi_ii W_i + sum_j xi_ij W_j,

xi_ii a setting, s a multiple of the mean squared distance. For recommenders our classes are C
buckets of items by popularity, of equal numbers of items; the histogram of a client's items over
them goes to the server, once: in the clear, or with Laplace noise of scale 2 / epsilon on each
count, which is epsilon-differentially private for the exchange of one interaction. (Which items are
how popular is a secure sum.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms import _affinity as affinity
from isthmus.fedrec.algorithms._uploaded import uploaded
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Floats
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Reference, Tables, Uploads

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """DA-PFL's numbers; the paper's could not be read, these are ours."""

    buckets: int = 20
    """C, buckets of items by popularity."""
    own_weight: float = 0.5
    """xi_ii, a client's weight in its own mixture."""
    width: float = 1.0
    """s, in mean squared distances between clients' tables."""
    pull: float = 0.01
    """lambda / s, how strongly clients are pulled to their mixture."""
    epsilon: float = 0.0
    """Of the histogram's privacy; 0: it is sent in the clear."""


class DAPFL(OwnTables):
    """Own tables, all mixed with all each round."""

    beside = "how popular its items are"

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model)
        self.settings = settings
        counts = histograms(task, settings.buckets, settings.epsilon)
        self.affinity = complementarity(counts)

    def reference(self, number: int) -> Reference:
        """The mixture, from which the client also begins."""
        weight = np.full(len(self.items), self.settings.pull, np.float32)
        return Reference(Tables.personal(self.items, self.network), weight, weight)

    def mix(self, uploads: Iterator[Uploads], number: int) -> int:
        """Give each client its mixture."""
        nets: list[Floats] = []

        def kept() -> Iterator[Uploads]:
            for chunk in uploads:
                nets.append(chunk.network)
                yield chunk

        tables = uploaded(self, kept())
        flat = tables.reshape(len(tables), -1)
        w = mixture(self.affinity, flat, self.settings).astype(np.float32)
        self.items[:] = (w @ flat).reshape(tables.shape)
        self.network[:] = w @ np.concatenate(nets)
        return len(tables)


def histograms(task: Task, buckets: int, epsilon: float) -> Matrix:
    """How many training items each client has in each bucket, float64 [U, buckets]."""
    train, items = task.population.train, task.population.items
    order = np.argsort(-np.bincount(train.items, minlength=items), kind="stable")
    bucket = np.empty(items, np.int64)
    bucket[order] = np.arange(items) * buckets // items
    owner = np.repeat(np.arange(task.population.clients), train.counts)
    out = np.zeros((task.population.clients, buckets))
    np.add.at(out, (owner, bucket[train.items]), 1)
    if epsilon > 0:
        noise = _noise(task.seed, task.shard.identity, buckets, 2 / epsilon)
        # Rounded, and not below 0: a bucket counts as held from one item on.
        out = np.maximum(np.rint(out + noise), 0)
    return out


@compiled
def _noise(seed: int, clients: np.ndarray, buckets: int, scale: float) -> np.ndarray:
    out = np.empty((len(clients), buckets))
    for place in range(len(clients)):
        state = randomness.stream(seed, randomness.NOISE, 0, clients[place])
        for bucket in range(buckets):
            state, out[place, bucket] = randomness.laplace(state, scale)
    return out


def complementarity(counts: Matrix) -> Matrix:
    """A_ij of our reading, float64 [n, n], from counts [n, C]; entries in 0 to 1."""
    has = (counts > 0).astype(np.float64)
    both = np.maximum(has @ has.T, 1)
    # Over the classes that both have: sums of i's counts, of squares, of products.
    of_i, of_j = counts @ has.T, has @ counts.T
    squares = counts**2
    cover = counts @ counts.T - of_i * of_j / both
    spread_i = np.maximum(squares @ has.T - of_i**2 / both, 0)
    spread_j = np.maximum(has @ squares.T - of_j**2 / both, 0)
    size = np.sqrt(spread_i * spread_j)
    cosine = np.divide(cover, size, out=np.zeros_like(cover), where=size > 1e-9)
    missing = (1 - has) @ has.T / counts.shape[1]
    return np.asarray(((1 - np.clip(cosine, -1, 1)) / 2 + missing) / 2)


def mixture(affinities: Matrix, flat: Floats, settings: Settings) -> Matrix:
    """xi, float64 [n, n], rows that sum to 1.

    Args:
        affinities: A_ij.
        flat: the clients' models, float32 [n, m].
        settings: DA-PFL's numbers.
    """
    count = len(flat)
    if count < 2:
        return np.ones((count, count))
    shifted = flat - flat.mean(axis=0)
    square = affinity.distances(shifted) ** 2
    mean = square.sum() / (count * (count - 1))
    near = affinities * np.exp(-square / max(settings.width * mean, 1e-12))
    np.fill_diagonal(near, 0)
    total = near.sum(axis=1, keepdims=True)
    others = np.divide(near, total, out=np.zeros_like(near), where=total > 0)
    # Whom nobody complements keeps its own.
    own = np.where(total[:, 0] > 0, settings.own_weight, 1.0)
    return np.asarray((1 - own)[:, None] * others + np.diag(own))


def _build(task: Task, settings: Settings, model: Model) -> DAPFL:
    return DAPFL(task, model, settings)


ALGORITHM = Algorithm(
    name="da-pfl",
    title="DA-PFL",
    paper="Yang et al., IEEE TNNLS 2025, arXiv 2403.09284; our form for recommenders",
    leaves="tables",
    private="the user's vector; a histogram of how popular its items are goes up as well",
    settings=Settings,
    build=_build,
    backbones=("fcf", "fedncf", "pfedrec"),
)
