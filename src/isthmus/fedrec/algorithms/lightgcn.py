"""LightGCN on the pooled interactions: a graph network, the other ceiling.

He, Deng, Wang, Li, Zhang, Wang: LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation, SIGIR 2020 (arXiv 2002.02126). First vectors `E0` of users and items are all that is
learned; `E(k+1) = A E(k)`, where `A` has `1 / sqrt(n_u n_i)` for each interaction; the vectors that
score are the mean of `E0 .. EK`. The loss is BPR with L2 on the first vectors of the samples,

    mean over (u, i, j) of -ln sigma(e_u.e_i - e_u.e_j) + lambda/2 (|E0_u|^2 + |E0_i|^2 + |E0_j|^2),

one negative j a positive, by Adam. The mean over layers is symmetric and linear, so the gradient by
`E0` is the same propagation of the gradient by the final vectors.

Batches are far larger than the paper's 2,048, a share of the interactions, and the rate is higher:
each step propagates over the whole graph, which is what costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isthmus.errors import JobError, NotFinite
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms._pooled import Pooled, turned
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.method import Algorithm, Arrays
from isthmus.fedrec.population import Floats, Longs, Ragged, offsets
from isthmus.fedrec.task import Model, Task

_NEGATIVES, _SHUFFLE = randomness.NEGATIVES, randomness.SHUFFLE


@dataclass(frozen=True)
class Settings:
    """LightGCN's numbers; chosen on validation items of ML-100K and FilmTrust, `honest-sampled`."""

    factors: int = 64
    """d, numbers a vector."""
    layers: int = 2
    """K."""
    gcn_rate: float = 0.02
    """Rate of Adam."""
    ridge: float = 1e-3
    """lambda."""
    steps: int = 16
    """Batches that the interactions are cut into, in each round."""
    scale: float = 0.1
    """Standard deviation of the first vectors."""

    def __post_init__(self) -> None:
        for name in ("factors", "layers", "steps"):
            if getattr(self, name) < 1:
                raise JobError(f"{name} must be 1 or more")


@dataclass(frozen=True, eq=False)
class Graph:
    """Users and items as nodes, users first."""

    indptr: Longs
    """int64 [U + M + 1]"""
    nodes: np.ndarray[tuple[int], np.dtype[np.int32]]
    """Each node's neighbours, ascending."""
    weight: Floats
    """float32, of each edge: 1 / sqrt(n_u n_i)."""

    @staticmethod
    def of(train: Ragged, items: int) -> Graph:
        """The graph of each client's items."""
        users, back = len(train.counts), turned(train, items)
        counts = np.concatenate([train.counts, back.counts])
        nodes = np.concatenate([train.items + users, back.items]).astype(np.int32)
        owner = np.repeat(np.arange(len(counts)), counts)
        weight = 1 / np.sqrt(counts[owner].astype(np.float64) * counts[nodes])
        return Graph(offsets(counts), nodes, weight.astype(np.float32))


class LightGCN(Pooled):
    """The first vectors of all nodes, Adam's means of them, and the mean over layers."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings
        train, population = task.population.train, task.population
        self.graph = Graph.of(train, population.items)
        self._owner = np.repeat(np.arange(population.clients), train.counts).astype(np.int32)
        shape = (population.clients + population.items, settings.factors)
        rng = task.generator(randomness.START)
        self.first = rng.standard_normal(shape, np.float32) * np.float32(settings.scale)
        self.mean, self.square = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._spread()

    def sweep(self, number: int) -> float:
        """All interactions once, each with a negative."""
        train, task = self.task.population.train, self.task
        # Items that the client may not be given, as in every training of the run's protocol.
        avoid, items = task.avoid, task.population.items
        count = len(train.items)
        order = task.generator(_SHUFFLE, number).permutation(count)
        negatives = np.empty(count, np.int32)
        _draw(train.indptr, avoid.indptr, avoid.items, items, task.seed, number, negatives)
        steps = min(self.settings.steps, max(count, 1))
        cuts = np.linspace(0, count, steps + 1).astype(np.int64)
        total = 0.0
        for step in range(steps):
            some = order[cuts[step] : cuts[step + 1]]
            if len(some):
                total += self._step(some, negatives, (number - 1) * steps + step + 1) * len(some)
        self._spread()
        if not math.isfinite(total):
            raise NotFinite(f"the loss is not finite in round {number}", mend="Lower gcn_rate.")
        return total / max(count, 1)

    def _step(self, some: Longs, negatives: np.ndarray, step: int) -> float:
        settings, users = self.settings, self.task.population.clients
        final = self.propagated(self.first)
        slope, by_first = np.zeros_like(final), np.zeros_like(final)
        triples = np.stack([
            self._owner[some], self.task.population.train.items[some] + users,
            negatives[some] + users,
        ], axis=1).astype(np.int32)  # fmt: skip
        loss = bpr(triples, final, self.first, settings.ridge, slope, by_first)
        slope = self.propagated(slope)
        slope += by_first
        _adam(
            self.first.ravel(), slope.ravel(), self.mean.ravel(), self.square.ravel(),
            settings.gcn_rate, step,
        )  # fmt: skip
        return loss

    def propagated(self, table: Floats) -> Floats:
        """The mean of `A^k table`, k = 0 .. K, float32 [U + M, d]."""
        graph, layers = self.graph, self.settings.layers
        total, now, costs = table.copy(), table, np.diff(graph.indptr)
        for _ in range(layers):
            after = np.empty_like(table)

            def work(first: int, last: int, now: Floats = now, after: Floats = after) -> None:
                _product(first, last, graph.indptr, graph.nodes, graph.weight, now, after, total)

            self.task.spread(work, costs)
            now = after
        total /= np.float32(layers + 1)
        return total

    def _spread(self) -> None:
        final = self.propagated(self.first)
        clients = self.task.population.clients
        self.users, self.items = final[:clients], final[clients:]

    def state(self) -> Arrays:
        """The first vectors and Adam's means; the rest follows from them."""
        return {"first": self.first, "mean": self.mean, "square": self.square}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.first, self.mean, self.square = state["first"], state["mean"], state["square"]
        self._spread()


@compiled
def _draw(
    indptr: np.ndarray, avoid_indptr: np.ndarray, avoid: np.ndarray, items: int, seed: int,
    number: int, out: np.ndarray,
) -> None:  # fmt: skip
    """A negative for each interaction, by the stream of its client."""
    closed = np.zeros(items, np.bool_)
    for client in range(len(indptr) - 1):
        own = avoid[avoid_indptr[client] : avoid_indptr[client + 1]]
        closed[own] = True
        state = randomness.stream(seed, _NEGATIVES, number, client)
        for place in range(indptr[client], indptr[client + 1]):
            state, drawn = randomness.below(state, items)
            while closed[drawn] and own.size < items:
                state, drawn = randomness.below(state, items)
            out[place] = drawn
        closed[own] = False


@compiled
def _product(
    first: int, last: int, indptr: np.ndarray, nodes: np.ndarray, weight: np.ndarray,
    table: np.ndarray, out: np.ndarray, total: np.ndarray,
) -> None:  # fmt: skip
    """Rows `first` to `last` - 1 of `A table`, to `out`, and added to `total`."""
    for node in range(first, last):
        row = out[node]
        row[:] = 0
        for edge in range(indptr[node], indptr[node + 1]):
            other, w = table[nodes[edge]], weight[edge]
            for j in range(row.size):
                row[j] += w * other[j]
        for j in range(row.size):
            total[node, j] += row[j]


@compiled
def bpr(
    triples: np.ndarray, final: np.ndarray, first: np.ndarray, ridge: float, slope: np.ndarray,
    by_first: np.ndarray,
) -> float:  # fmt: skip
    """The loss of the triples (user, item, negative), int32 [n, 3] nodes.

    Adds its gradient by `final` to `slope` and that of the L2 term by `first` to `by_first`; all
    tables float32 [nodes, d].
    """
    loss, share = 0.0, 1.0 / len(triples)
    pull = np.float32(ridge * share)
    d = final.shape[1]
    for at in range(len(triples)):
        u, i, j = triples[at]
        apart, size = np.float32(0), np.float32(0)
        for k in range(d):
            apart += final[u, k] * (final[i, k] - final[j, k])
            size += first[u, k] ** 2 + first[i, k] ** 2 + first[j, k] ** 2
        power = math.exp(-abs(apart))
        loss += max(-float(apart), 0.0) + math.log1p(power) + 0.5 * ridge * float(size)
        # -sigma(-apart), the slope of -ln sigma.
        error = np.float32(-(power if apart >= 0 else 1.0) / (1.0 + power) * share)
        for k in range(d):
            slope[u, k] += error * (final[i, k] - final[j, k])
            slope[i, k] += error * final[u, k]
            slope[j, k] -= error * final[u, k]
            by_first[u, k] += pull * first[u, k]
            by_first[i, k] += pull * first[i, k]
            by_first[j, k] += pull * first[j, k]
    return loss / len(triples)


@compiled
def _adam(
    values: np.ndarray, gradient: np.ndarray, mean: np.ndarray, square: np.ndarray, rate: float,
    step: int,
) -> None:  # fmt: skip
    size = np.float32(rate / (1.0 - 0.9**step))
    root = np.float32(1.0 / math.sqrt(1.0 - 0.999**step))
    for k in range(values.size):
        mean[k] = np.float32(0.9) * mean[k] + np.float32(0.1) * gradient[k]
        square[k] = np.float32(0.999) * square[k] + np.float32(0.001) * gradient[k] ** 2
        values[k] -= size * mean[k] / (np.sqrt(square[k]) * root + np.float32(1e-8))


def _build(task: Task, settings: Settings, model: Model | None) -> LightGCN:
    return LightGCN(task, settings)


ALGORITHM = Algorithm(
    name="lightgcn",
    title="LightGCN",
    paper="He et al., SIGIR 2020, arXiv 2002.02126",
    leaves="interactions",
    private="nothing",
    settings=Settings,
    build=_build,
    rounds=60,
    kind="ceiling",
)
