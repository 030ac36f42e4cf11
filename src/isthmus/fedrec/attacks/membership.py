"""Interaction-level membership inference (IMIA): which of a client's rows are training items.

Yuan, Yang, Nguyen, Cui, He, Yin: Interaction-level Membership Inference Attack Against Federated
Recommender Systems, WWW 2023 (arXiv 2301.10964), read in its released code. A server that follows
the protocol sees a client's first upload and knows what the client began from. It labels the rows
that changed at random, as many of them positive as it expects, trains a copy as the client would
with these labels, and keeps the labels of the rows that came out closest to the upload; the rest
are labelled anew, until there are enough positives.

Here the copy begins from the client's own first vector, which in these programs is the same for
all, and the number of positives is known: with a ratio of negatives known, as in the paper, it
follows from the number of rows. `keep` is 0.9 in the released code; fewer labels kept at a time
make the attack stronger (FilmTrust, FedAvg: F1 0.31 with 0.9, 0.93 with 0.05), so the default is
lower.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec import engine, randomness
from isthmus.fedrec.attacks._targets import Flags, Guess, drawn, judged, truth
from isthmus.fedrec.engine import Work
from isthmus.fedrec.method import Method
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import NONE, Floats, Interactions, Longs, Population, Ragged, offsets
from isthmus.fedrec.privacy.defences import Defences
from isthmus.fedrec.protocols import make_task, protocol
from isthmus.fedrec.shared_table import SharedTable
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Shared, Tables, Uploads


@dataclass(frozen=True)
class Settings:
    """The attack's numbers."""

    keep: float = 0.05
    """Share of a client's rows whose labels are settled at a time."""
    passes: int = 21
    """Copies trained at most."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or self.passes < 1:
            raise JobError("keep must lie in 0 to 1, passes be 1 or more")


@dataclass(frozen=True)
class Membership:
    """The outcome."""

    data: str
    algorithm: str
    clients: int
    """Clients attacked."""
    found: Guess
    random: Guess
    """As many of the client's rows, drawn."""
    hidden: bool
    """Under a secure sum: no upload is seen, `found` is the random guess among all items."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """What to print."""
        if self.hidden:
            return [
                f"{self.algorithm} on {self.data}: the server sees a sum, there is no upload to "
                f"attack; items drawn from all, F1 {self.found.f1:.2f}"
            ]
        return [
            f"{self.algorithm} on {self.data}: training items of {self.clients} clients from "
            f"their first upload: F1 {self.found.f1:.2f} (precision {self.found.precision:.2f}, "
            f"recall {self.found.recall:.2f})",
            f"as many rows drawn: F1 {self.random.f1:.2f}",
        ]


class First:
    """A guard that changes nothing and keeps the first upload of some clients."""

    def __init__(self, task: Task, targets: Longs) -> None:
        self.targets = targets
        self.touched = np.zeros((len(targets), task.population.items), np.bool_)
        self.rows: Floats = np.zeros((*self.touched.shape, 0), np.float32)

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """Keep the targets' rows."""
        if not self.rows.shape[2]:
            self.rows = np.zeros((*self.touched.shape, uploads.rows.shape[1]), np.float32)
        for place in np.flatnonzero(np.isin(uploads.clients, self.targets)).tolist():
            at = int(np.searchsorted(self.targets, uploads.clients[place]))
            own = slice(uploads.indptr[place], uploads.indptr[place + 1])
            if not self.touched[at].any():
                self.touched[at, uploads.items[own]] = True
                self.rows[at, uploads.items[own]] = uploads.rows[own]
        return uploads


def run(
    data: Interactions,
    recipe: Recipe,
    defences: Defences | None = None,
    *,
    seed: int = 0,
    targets: int = 200,
    threads: int = 1,
    memory: int = 1 << 30,
    settings: Settings | None = None,
) -> Membership:
    """Train one round and infer the training items of some of its clients.

    Args:
        data: the interactions.
        recipe: the algorithm; its clients must send item rows.
        defences: what the clients do against it.
        seed: names all random streams.
        targets: clients that are attacked, drawn; all of them train.
        threads: over clients.
        memory: bytes for a chunk of clients.
        settings: the attack's numbers.

    Raises:
        JobError: the algorithm sends no item rows, or the defences do not fit it.
    """
    defences, settings = defences or Defences(), settings or Settings()
    task = make_task(data, protocol("full-ranking"), seed, threads=threads, memory=memory)
    chosen = drawn(task, targets)
    first = First(task, chosen)
    method = recipe.build(defences.protect(replace(task, guards=(first,))))
    method.round(1, lambda clients, score: None)
    came = first.touched.any(axis=1)
    chosen, touched, rows = chosen[came], first.touched[came], first.rows[came]
    true, counts = truth(task, chosen), task.population.train.counts[chosen]
    rng = task.generator(randomness.ATTACK, 1)
    among = np.ones_like(touched) if defences.secure_sum else touched
    random = judged(_drawn_labels(among, np.zeros_like(among), counts, rng), true)
    found = random
    if not defences.secure_sum:
        found = judged(inferred(task, method, touched, rows, counts, settings, rng), true)
    title = recipe.algorithm.called(recipe.backbone)
    return Membership(data.name, title, len(chosen), found, random, defences.secure_sum)


def inferred(
    task: Task, method: Method, touched: Flags, rows: Floats, counts: Longs, settings: Settings,
    rng: np.random.Generator,
) -> Flags:  # fmt: skip
    """The attack: which touched rows are taken for training items, bool [n, M].

    Args:
        task: the clients', for threads and memory.
        method: after its first round; its model and first parameters are known to the server.
        touched: which rows each client sent, bool [n, M].
        rows: these rows, float32 [n, M, d].
        counts: how many training items each client has.
        settings: the attack's numbers.
        rng: draws labels.
    """
    positive, settled = np.zeros_like(touched), np.zeros_like(touched)
    at_a_time = np.maximum(1, (settings.keep * touched.sum(axis=1)).astype(np.int64))
    for turn in range(settings.passes):
        labels = _drawn_labels(touched & ~settled, positive, counts, rng)
        shadow = _shadow(task, method, touched, labels, turn)
        away = np.linalg.norm((rows - shadow).astype(np.float64), axis=2)
        away[~touched | settled] = np.inf
        order = np.argsort(away, axis=1, kind="stable")
        for place, count in enumerate(at_a_time.tolist()):
            near = order[place, :count]
            near = near[np.isfinite(away[place, near])]
            settled[place, near] = True
            positive[place, near] = labels[place, near]
        if (settled | ~touched).all():
            break
    return positive


def _drawn_labels(free: Flags, positive: Flags, counts: Longs, rng: np.random.Generator) -> Flags:
    """The settled positives, and of the free rows so many drawn that each client has `counts`."""
    out = positive.copy()
    draw = np.where(free, rng.random(free.shape), np.inf)
    order = np.argsort(draw, axis=1)
    for place, wanted in enumerate((counts - positive.sum(axis=1)).tolist()):
        some = order[place, : max(wanted, 0)]
        out[place, some[free[place, some]]] = True
    return out


def _shadow(task: Task, method: Method, touched: Flags, labels: Flags, turn: int) -> Floats:
    """The tables of copies trained with these labels, float32 [n, M, d]."""
    assert isinstance(method, SharedTable | OwnTables)
    model, count = method.model, len(touched)
    initial = model.initial
    nobody = np.full(count, NONE, np.int32)
    population = Population(
        task.population.name, task.population.items, _ragged(labels), nobody, nobody
    )
    # Negatives are drawn among the rows labelled so.
    shadow = Task(
        population, _ragged(labels | ~touched), task.seed + 1 + turn, task.threads, task.memory
    )
    tables = Tables.shared(Shared(initial.items, initial.network), count)
    own = np.zeros((count, population.items, model.sizes.own) if model.sizes.own else (0, 0, 0))
    work = Work(
        tables, np.tile(initial.user, (count, 1)), 1, own.astype(np.float32),
        extra=method.extra(1),
    )  # fmt: skip
    out: Floats = np.repeat(initial.items[None], count, axis=0)
    for chunk in engine.train(shadow, model, work, np.arange(count)):
        owner = np.repeat(chunk.clients, np.diff(chunk.indptr))
        out[owner, chunk.items] = chunk.rows
    return out


def _ragged(flags: NDArray[np.bool_]) -> Ragged:
    return Ragged(offsets(flags.sum(axis=1)), np.nonzero(flags)[1].astype(np.int32))
