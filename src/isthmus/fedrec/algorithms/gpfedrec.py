"""GPFedRec: each client is pulled to the mean table of its neighbours in a graph of clients.

Zhang, Long, Zhou, Zhang, Yan, Yang: GPFedRec: Graph-guided Personalization for Federated
Recommendation, KDD 2024 (arXiv 2305.07866), read in its released code. Clients begin from
`Q = 1/U sum_u Qhat_u` and minimise `BCE + reg mean_ij (Q_u - Qhat_u)_ij^2` by plain gradient
descent; vector and score network are private. The server takes `A_uv`, the cosine of the whole
tables Q_u and Q_v; `N_u = {v : A_uv > threshold mean(A)}`; `Qhat_u = 1/|N_u| sum_{v in N_u} Q_v`
(Q_u itself where N_u is empty). A client is judged with its own table after its local pass.

`variant="paper"` takes similar clients as neighbours. `variant="authors"` is what the code does:
what it calls a similarity is the cosine *distance*, so neighbours are the least similar clients.

The pull moves rows that a client did not sample, too. For these gradient descent has a closed form,
`Qhat + (1 - c)^b (Q - Qhat)` after b batches with `c = rate 2 reg / (M d)`, which the server can
work out itself; so only sampled rows are sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from isthmus.fedrec import engine
from isthmus.fedrec.algorithms.pfedrec import PlainMean
from isthmus.fedrec.engine import Candidates, Work
from isthmus.fedrec.kernels.sums import put_rows
from isthmus.fedrec.method import Algorithm, Arrays, Score
from isthmus.fedrec.own_tables import see_fits
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.shared_table import SharedTable, part_of
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.training import LocalTraining
from isthmus.fedrec.uploads import Reference, Shared, Tables, Uploads

_CLIENTS, _COLUMNS = 256, 26880
"""Taken at a time where the server would else need a second array [U, M, d]. So many columns are a
multiple of the blocks in which OpenBLAS multiplies (320, 448, 640 or 768, by processor): the bits
are those of one product."""
_LEAST = 2 * 768
"""Fewer columns than this at the end go with the block before, for the same reason."""


@dataclass(frozen=True)
class Settings:
    """GPFedRec's numbers; the defaults are those of the released code."""

    variant: Literal["paper", "authors"] = "paper"
    """Whether neighbours are the most similar clients, or, as the code has it, the least."""
    reg: float = 1.0
    """Weight of the pull to the neighbours' table."""
    threshold: float = 1.0
    """Neighbours stand above the graph's mean times this."""
    eta: float = 0.1
    """Rate of the score network."""
    factor: float = 80.0
    """The user's vector learns with rate eta (factor - 1), rows with eta (M factor - 1)."""


class GPFedRec(SharedTable):
    """A shared start, and a table for each client: one array [U, M, d], of references between
    rounds and of what clients sent as a round goes on; empty before the first.
    """

    beside = "how many batches it trained, which is how many items it has"
    tables_down = 2  # the start, the same for all, and its own reference

    def __init__(self, task: Task, model: Model, settings: Settings) -> None:
        super().__init__(task, model, PlainMean(), judged="trained")
        self.settings = settings
        # A server of devices holds references once more, as they go out.
        times = 1 if task.fleet is None else 2
        see_fits(times * task.population.clients * self.shared.items.nbytes)
        self.near: Floats = np.zeros((0, *self.shared.items.shape), np.float32)

    def reference(self, number: int) -> Reference:
        """Each client's neighbours' mean table."""
        count, size = self.task.population.clients, self.shared.items.size
        weight = np.full(count, 2 * self.settings.reg / size, np.float32)
        if not len(self.near):
            return Reference(Tables.shared(self.shared, count), weight, weight)
        network = np.zeros((count, 0), np.float32)
        return Reference(Tables.personal(self.near, network), weight, weight)

    def extra(self, number: int) -> Floats:
        """How much faster the user's vector learns."""
        return np.array([self.settings.factor - 1], np.float32)

    def as_trained(self, work: Work, chunk: Uploads) -> Iterator[tuple[Longs, Score]]:
        """With whole tables as the local pass leaves them."""
        for part in self._parts(chunk):
            yield part.clients, _AsTrained(self, work, part, self._untouched(work, part))

    def aggregate(self, uploads: Iterator[Uploads], number: int) -> None:
        """Take the neighbours of the clients that took part; all others keep their reference."""
        if not len(self.near):
            self.near = np.repeat(self.shared.items[None], self.task.population.clients, axis=0)
        work, took_part = self.work(number), np.zeros(len(self.near), np.bool_)
        for chunk in uploads:
            took_part[chunk.clients] = True
            # Only now: these clients have trained, nobody else is pulled to their references.
            for part in self._parts(chunk):
                self.near[part.clients] = self._untouched(work, part)
            put_rows(self.near, chunk.clients, chunk.indptr, chunk.items, chunk.rows)
        if not took_part.any():
            return
        tables = self.near if took_part.all() else self.near[took_part]
        neighbours(tables, self.settings)
        if tables is not self.near:
            self.near[took_part] = tables
        self.shared = Shared(
            tables.mean(axis=0, dtype=np.float64).astype(np.float32), self.shared.network
        )

    def _parts(self, chunk: Uploads) -> Iterator[Uploads]:
        """Pieces of a chunk whose whole tables fit the memory of the task."""
        step = max(1, self.task.memory // (16 * self.shared.items.nbytes))
        for first in range(0, len(chunk.clients), step):
            yield part_of(chunk, chunk.clients[first : first + step])

    def _untouched(self, work: Work, part: Uploads) -> Floats:
        """Where the pull alone takes each row, float32 [n, M, d]."""
        assert work.reference is not None
        near, starts = (
            one.items[one.of[part.clients]] for one in (work.reference.tables, work.tables)
        )
        training = self.model.training
        c = training.rate * 2 * self.settings.reg / self.shared.items.size
        samples = part.weight * (training.negatives + 1)
        batches = training.epochs * np.ceil(samples / training.batch)
        left = ((1 - c) ** batches).astype(np.float32)[:, None, None]
        return np.asarray(near + left * (starts - near))

    def state(self) -> Arrays:
        """As the base has it, and the clients' references."""
        return super().state() | {"near": self.near}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        super().restore(state)
        self.near = state["near"]


class _AsTrained:
    """Scores with clients' whole tables after their local pass."""

    def __init__(self, method: GPFedRec, work: Work, part: Uploads, base: Floats) -> None:
        self._method, self._part = method, part
        place = np.zeros(len(work.user), np.int64)
        place[part.clients] = np.arange(len(part.clients))
        network = np.zeros((len(base), 0), np.float32)
        self._work = replace(work, tables=Tables(base, network, place), reference=None)

    def __call__(self, clients: Longs, candidates: Candidates) -> Floats:
        method, part = self._method, part_of(self._part, clients)
        return engine.score(method.task, method.model, self._work, clients, candidates, part)


def neighbours(tables: Floats, settings: Settings) -> Floats:
    """The mean table of each client's neighbours, float32 [n, M, d], written over `tables`.

    Args:
        tables: the clients' whole tables.
        settings: GPFedRec's numbers.
    """
    flat = tables.reshape(len(tables), -1)
    norms = [np.linalg.norm(flat[a : a + _CLIENTS], axis=1) for a in range(0, len(flat), _CLIENTS)]
    size = np.maximum(np.concatenate(norms), 1e-12)
    cosine = (flat @ flat.T) / (size[:, None] * size[None, :])
    graph = cosine if settings.variant == "paper" else np.maximum(1 - cosine, 0)
    if settings.variant == "authors":
        np.fill_diagonal(graph, 0)
    chosen = (graph > settings.threshold * graph.mean(dtype=np.float64)).astype(np.float32)
    alone = np.flatnonzero(chosen.sum(axis=1) == 0)
    chosen[alone, alone] = 1
    chosen /= chosen.sum(axis=1, keepdims=True)
    # A block of columns at a time needs no second array of the tables' size.
    cuts = [*range(0, max(flat.shape[1] - _LEAST, 1), _COLUMNS), flat.shape[1]]
    for first, last in pairwise(cuts):
        flat[:, first:last] = chosen @ flat[:, first:last]
    return tables


def _build(task: Task, settings: Settings, model: Model) -> GPFedRec:
    rate = settings.eta * (task.population.items * settings.factor - 1)
    user_rate = settings.eta
    training = replace(model.training, rate=rate, user_rate=user_rate)
    return GPFedRec(task, replace(model, training=training), settings)


ALGORITHM = Algorithm(
    name="gpfedrec",
    title="GPFedRec",
    paper="Zhang et al., KDD 2024, arXiv 2305.07866",
    leaves="tables",
    private="the user's vector and the score network",
    settings=Settings,
    build=_build,
    backbones=("gpfedrec",),
    training={"gpfedrec": LocalTraining(dim=32, epochs=1, optimiser="sgd", tolerance=0.0)},
)
