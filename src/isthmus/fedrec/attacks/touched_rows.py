"""Intersection of touched rows: what a server that does nothing but look learns of training items.

A client's upload changes the rows of its training items and of that round's negatives. Training
items change in every round that it takes part in; negatives drawn afresh do not. The rows that
changed in all rounds so far are the guess; no model is needed. Beside it two guesses of a server
that knows how many training items the client has: of those rows, so many whose changes add up to
the most, and so many that are most popular. Under a secure sum no rows are seen; what is left is
to guess the items that most clients touched. Ours, and trivial.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from isthmus.fedrec.attacks._targets import Flags, Guess, drawn, judged, largest, truth
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.population import Interactions, Longs
from isthmus.fedrec.privacy.defences import Defences
from isthmus.fedrec.protocols import make_task, protocol
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads


@dataclass(frozen=True)
class Step:
    """What the server can say after so many rounds."""

    rounds: int
    rows: Guess
    """All rows that changed in all rounds."""
    told: Guess
    """Of these, as many as the client has items, those that changed most."""
    popular: Guess
    """Likewise, those that most clients have."""


@dataclass(frozen=True)
class TouchedRows:
    """The outcome."""

    data: str
    algorithm: str
    clients: int
    """Clients attacked."""
    blind: Guess
    """Without any upload: the most popular items, as many as the client has."""
    hidden: bool
    """Under a secure sum: then `steps` guess from the sum alone."""
    steps: list[Step] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """What to print."""
        out = [
            f"{self.algorithm} on {self.data}: training items of {self.clients} clients guessed "
            f"from the rows that they send"
            + (", of which the server sees the sum alone" if self.hidden else "")
        ]
        for one in self.steps:
            out.append(
                f"after {one.rounds} round{'s' * (one.rounds > 1)}: F1 {one.rows.f1:.2f} "
                f"(precision {one.rows.precision:.2f}, recall {one.rows.recall:.2f}); "
                f"told how many, those that changed most F1 {one.told.f1:.2f}, the most popular "
                f"F1 {one.popular.f1:.2f}"
            )
        out.append(f"without any upload, by popularity: F1 {self.blind.f1:.2f}")
        return out


class Watcher:
    """A guard that changes nothing: what a server sees of some clients."""

    def __init__(self, task: Task, targets: Longs) -> None:
        self.targets = targets
        count, items = len(targets), task.population.items
        self.rounds = np.zeros(count, np.int64)
        self.seen = np.zeros((count, items), np.int64)
        self.changed = np.zeros((count, items, 0), np.float32)
        self.total = np.zeros(items, np.int64)
        """How many clients touched each item, all rounds together: what a sum tells."""

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """Note which rows the targets sent and how far these moved."""
        self.total += np.bincount(uploads.items, minlength=len(self.total))
        if not self.changed.shape[2]:
            self.changed = np.zeros((*self.seen.shape, uploads.rows.shape[1]), np.float32)
        for place in np.flatnonzero(np.isin(uploads.clients, self.targets)).tolist():
            client = uploads.clients[place]
            at = int(np.searchsorted(self.targets, client))
            own = slice(uploads.indptr[place], uploads.indptr[place + 1])
            items = uploads.items[own]
            start = uploads.starts.items[uploads.starts.of[client], items]
            self.rounds[at] += 1
            self.seen[at, items] += 1
            self.changed[at, items] += uploads.rows[own] - start
        return uploads

    def always(self) -> Flags:
        """The rows that each target sent in all rounds that it took part in, bool [n, M]."""
        return np.asarray((self.seen == self.rounds[:, None]) & (self.rounds > 0)[:, None])


def run(
    data: Interactions,
    recipe: Recipe,
    defences: Defences | None = None,
    *,
    rounds: int = 6,
    seed: int = 0,
    targets: int = 200,
    threads: int = 1,
    memory: int = 1 << 30,
) -> TouchedRows:
    """Train for some rounds and guess after each.

    Args:
        data: the interactions.
        recipe: the algorithm; its clients must send item rows.
        defences: what the clients do against it.
        rounds: how many.
        seed: names all random streams.
        targets: clients that are attacked, drawn; all of them train.
        threads: over clients.
        memory: bytes for a chunk of clients.

    Raises:
        JobError: the algorithm sends no item rows, or the defences do not fit it.
    """
    defences = defences or Defences()
    task = make_task(data, protocol("full-ranking"), seed, threads=threads, memory=memory)
    chosen = drawn(task, targets)
    watcher, true = Watcher(task, chosen), truth(task, chosen)
    method = recipe.build(defences.protect(replace(task, guards=(watcher,))))
    counts = task.population.train.counts[chosen]
    everything = np.ones(true.shape, np.bool_)
    popular = np.bincount(task.population.train.items, minlength=true.shape[1]).astype(np.float64)
    popularity = np.tile(popular, (len(chosen), 1))
    blind = judged(largest(popularity, everything, counts), true)
    found = TouchedRows(
        data.name, recipe.algorithm.called(recipe.backbone), len(chosen), blind,
        defences.secure_sum,
    )  # fmt: skip
    for number in range(1, rounds + 1):
        method.round(number, lambda clients, score: None)
        if defences.secure_sum:
            summed = np.tile(watcher.total.astype(np.float64), (len(chosen), 1))
            rows = told = likely = judged(largest(summed, everything, counts), true)
        else:
            always = watcher.always()
            size = np.linalg.norm(watcher.changed.astype(np.float64), axis=2)
            rows = judged(always, true)
            told = judged(largest(size, always, counts), true)
            likely = judged(largest(popularity, always, counts), true)
        found.steps.append(Step(number, rows, told, likely))
    return found
