"""Hostile clients: accounts made up among honest clients, and guards that change what they send."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from isthmus.fedrec import randomness
from isthmus.fedrec.population import NONE, Floats, Ints, Longs, Population, Ragged, offsets
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads

UNPOPULAR = 0.45
"""Share of the items, the least popular ones, that targets are drawn from (as in PipAttack)."""
_TARGETS, _PROFILES = 1, 2


def popularity(population: Population) -> Longs:
    """How many clients have each item in training, int64 [M]."""
    return np.bincount(population.train.items, minlength=population.items)


def draw_targets(task: Task, count: int) -> Longs:
    """`count` items of the least popular ones, drawn by the task's seed, ascending."""
    order = np.argsort(popularity(task.population), kind="stable")
    pool = order[: max(count, int(UNPOPULAR * len(order)))]
    rng = task.generator(randomness.ATTACK, _TARGETS)
    return np.sort(rng.choice(pool, count, replace=False))


def profiles(
    task: Task, targets: Longs, accounts: int, fillers: int, by_popularity: bool
) -> Ragged:
    """What made-up accounts claim to have: the targets and `fillers` other items.

    Fillers are drawn evenly, or in proportion to popularity, as people choose.
    """
    rng = task.generator(randomness.ATTACK, _PROFILES)
    items = task.population.items
    weight = popularity(task.population) + 1.0 if by_popularity else np.ones(items)
    weight[targets] = 0
    count = min(fillers, items - len(targets))
    lists = [
        np.sort(np.concatenate([targets, rng.choice(items, count, False, weight / weight.sum())]))
        for _ in range(accounts)
    ]
    sizes = np.array([len(one) for one in lists], np.int64)
    flat = np.concatenate(lists) if lists else np.zeros(0)
    return Ragged(offsets(sizes), flat.astype(np.int32))


def infiltrate(task: Task, accounts: Ragged) -> Task:
    """The task with these accounts as further clients, after the honest ones.

    Honest clients keep their numbers, so that they draw what they drew without; the made-up ones
    have nothing held out and are never judged.
    """
    population, extra = task.population, len(accounts.indptr) - 1
    held = np.full(extra, NONE, np.int32)
    joined = Population(
        population.name, population.items, _joined(population.train, accounts),
        np.concatenate([population.valid, held]), np.concatenate([population.test, held]),
    )  # fmt: skip
    return replace(task, population=joined, avoid=_joined(task.avoid, accounts))


def _joined(first: Ragged, second: Ragged) -> Ragged:
    indptr = np.concatenate([first.indptr, first.indptr[-1] + second.indptr[1:]])
    return Ragged(indptr, np.concatenate([first.items, second.items]))


@dataclass(frozen=True, eq=False)
class Trained:
    """What one hostile client has after training honestly on its profile."""

    client: int
    items: Ints
    """int32 [k], the items it touched, ascending."""
    rows: Floats
    """float32 [k, d], as trained."""
    start: Floats
    """float32 [M, d], the table that it was sent."""
    user: Floats
    """float32 [d], its own vector."""
    limit: float
    """The 2-norm that the change of a row may have."""

    def trained_row(self, item: int) -> Floats:
        """The item's row as trained, as sent by the server where it was not touched."""
        at = int(np.searchsorted(self.items, item))
        found = at < len(self.items) and self.items[at] == item
        row: Floats = self.rows[at] if found else self.start[item]
        return row

    def with_rows(self, items: Longs, rows: Floats) -> tuple[Ints, Floats]:
        """Its trained rows with those of `items` put in place."""
        kept = ~np.isin(self.items, items)
        all_items = np.concatenate([self.items[kept], items]).astype(np.int32)
        all_rows = np.concatenate([self.rows[kept], rows]).astype(np.float32)
        order = np.argsort(all_items)
        return all_items[order], all_rows[order]


class Crafting(ABC):
    """A guard that leaves honest clients alone and has hostile ones send what `craft` makes.

    A hostile client trains as any other first. The change of each row that it sends is at most
    `boost` times the largest change among its honestly trained rows (2-norms): at 1 no row moves
    further than an honest one might. It claims as many training items as its profile has.
    """

    def __init__(self, first: int, targets: Longs, boost: float) -> None:
        self.first, self.targets, self.boost = first, targets, boost

    @abstractmethod
    def craft(self, own: Trained, number: int) -> tuple[Ints, Floats]:
        """The items, ascending, and rows that a hostile client sends in round `number`."""

    @abstractmethod
    def begin(self, start: Floats, number: int) -> None:
        """Told of the table once a chunk, before its hostile clients."""

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """The uploads with those of hostile clients, which come last, made anew."""
        honest = int(np.searchsorted(uploads.clients, self.first))
        if honest == len(uploads.clients):
            return uploads
        end = int(uploads.indptr[honest])
        items, rows, sizes = [uploads.items[:end]], [uploads.rows[:end]], []
        for place in range(honest, len(uploads.clients)):
            own = self._trained(uploads, place)
            if place == honest:
                self.begin(own.start, number)
            sent = self.craft(own, number)
            items.append(sent[0])
            rows.append(sent[1])
            sizes.append(len(sent[0]))
        indptr = np.concatenate([uploads.indptr[: honest + 1], end + np.cumsum(sizes)])
        counts = np.ones(int(indptr[-1]), np.int32)
        counts[:end] = uploads.counts[:end]
        return replace(
            uploads, indptr=indptr.astype(np.int64), items=np.concatenate(items),
            rows=np.concatenate(rows), counts=counts,
        )  # fmt: skip

    def _trained(self, uploads: Uploads, place: int) -> Trained:
        part = slice(int(uploads.indptr[place]), int(uploads.indptr[place + 1]))
        start = uploads.starts.items[uploads.starts.of[uploads.clients[place]]]
        items, rows = uploads.items[part], uploads.rows[part]
        moved = np.linalg.norm(rows - start[items], axis=1)
        limit = self.boost * float(moved.max(initial=0.0))
        client = int(uploads.clients[place])
        return Trained(client, items, rows, start, uploads.user[place, : rows.shape[1]], limit)


def within(change: Floats, limit: float) -> Floats:
    """Changes [..., d] shortened to the 2-norm `limit`."""
    size = np.linalg.norm(change, axis=-1, keepdims=True)
    return np.asarray(change * np.minimum(1.0, limit / np.maximum(size, 1e-12)), np.float32)
