"""Methods whose server adds something up, mostly once, and whose clients score with the result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.engine import Candidates
from isthmus.fedrec.method import Arrays, Method, RoundReport, Watch
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Task

Words = NDArray[np.uint64]
Halves = NDArray[np.uint32]
Counts = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, eq=False)
class WordSum:
    """A sum over clients in words modulo 2^64, which comes out the same under masks and without."""

    name: str
    words: int
    """How many."""
    mine: Callable[[], Words]
    """What the clients at hand add, uint64 [words]."""
    possible: Callable[[Words, int], bool]
    """Whether these words can be the sum of so many clients."""
    noised: Callable[[int], Words] | None = None
    """`mine` with our share of the noise on the sum, given the number of shards; None without."""
    given: Arrays = field(default_factory=dict)
    """What is made anew each round and clients need for it, as `taught`; a sum without is always
    the same, and is given once."""


class OneRound(Method):
    """One round: `learn` gives what the server learns; `client_scores` is done on each device."""

    def sum_of(self, what: str) -> WordSum | None:
        """The sum called `what`, which a server may ask devices for; None: there is none."""
        return None

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.learned: Floats = np.zeros(0, np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of `learned`."""
        return (self.task.population.items,) * 2

    def taught(self) -> Arrays:
        """What clients score with."""
        return self.state()

    @abstractmethod
    def learn(self) -> tuple[Floats, int]:
        """What the server makes of the sums, and the bytes that each client sends up for it."""

    @abstractmethod
    def client_scores(self, clients: Longs) -> Floats:
        """The clients' scores of all items, float32 [n, M]."""

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Learn, in whichever round; a second one would find the same."""
        self.learned, up = self.learn()
        fleet = self.task.fleet
        count = self.task.population.clients if fleet is None else fleet.took_part()
        return RoundReport(None, count, count * up, count * self.learned.nbytes)

    def score(self, clients: Longs, candidates: Candidates) -> Floats:
        """The scores of the candidates among those of all items."""
        out = []
        step = max(1, self.task.memory // (16 * self.task.population.items))
        for first in range(0, len(clients), step):
            last = min(first + step, len(clients))
            table = self.client_scores(clients[first:last])
            some = candidates.part(first, last)
            owner = np.repeat(np.arange(last - first), some.count)
            begin = np.cumsum(some.count) - some.count
            place = np.arange(len(owner)) - np.repeat(begin - some.begin, some.count)
            out.append(table[owner, some.items[place]])
        return np.concatenate(out) if out else np.zeros(0, np.float32)

    def state(self) -> Arrays:
        """What was learned."""
        return {"learned": self.learned}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.learned = state["learned"]


def interaction_rows(task: Task, clients: Longs) -> Floats:
    """x_u, the training items of `clients` as rows of 0 and 1, float32 [n, M]."""
    lists = task.population.train.take(clients)
    out = np.zeros((len(clients), task.population.items), np.float32)
    out[np.repeat(np.arange(len(clients)), lists.counts), lists.items] = 1
    return out


def row_sums(task: Task, clients: Longs, table: Floats) -> Floats:
    """x_u `table`, float32 [n, M]: the sum of the rows of the items that a client has."""
    lists = task.population.train.take(clients)
    out = np.zeros((len(clients), table.shape[1]), np.float32)
    _add_rows(lists.indptr, lists.items, np.ascontiguousarray(table, np.float32), out)
    return out


def gram(task: Task) -> Floats:
    """G = sum_u x_u x_u', how many clients have both items, float32 [M, M]: a sum over clients.

    Counts are whole numbers below 2^24, so the sum is exact in any order.
    """
    if task.fleet is not None:
        items = task.population.items
        return whole(halves(task.fleet.words(gram_sum(task)), corner(items)), items, np.float32)
    train, items = task.population.train, task.population.items
    out = np.zeros((items, items), np.float32)
    _add_pairs(train.indptr, train.items, out)
    return out


def gram_sum(task: Task) -> WordSum:
    """`gram` as words: its upper triangle by rows."""
    items = task.population.items
    size = corner(items)

    def possible(words: Words, clients: int) -> bool:
        found = halves(words, size)
        own = found[diagonal(items)]
        return int(own.max(initial=0)) <= clients and below_rarer(found, own)

    return WordSum("gram", words_for(size), lambda: packed(triangle(gram(task))), possible)


def corner(items: int) -> int:
    """Numbers in an upper triangle with its diagonal."""
    return items * (items + 1) // 2


def diagonal(items: int) -> Longs:
    """Where the diagonal stands in `triangle`, int64 [M]."""
    row = np.arange(items)
    return row * items - row * (row - 1) // 2


def triangle(matrix: NDArray[np.generic]) -> Halves:
    """The upper triangle of whole numbers [M, M] by rows, uint32 [M (M + 1) / 2]."""
    parts = [matrix[row, row:].astype(np.uint32) for row in range(len(matrix))]
    return np.concatenate([np.zeros(0, np.uint32), *parts])


def whole(corners: NDArray[Any], items: int, kind: type[np.generic]) -> NDArray[Any]:
    """The symmetric matrix [M, M] of an upper triangle."""
    out = np.zeros((items, items), kind)
    for row, at in enumerate(diagonal(items).tolist()):
        out[row, row:] = corners[at : at + items - row]
        out[row:, row] = out[row, row:]
    return out


def below_rarer(corners: Counts, own: Counts) -> bool:
    """Whether no pair of a triangle is had more often than the rarer of its items."""
    return all(
        bool((corners[at : at + len(own) - row] <= np.minimum(own[row], own[row:])).all())
        for row, at in enumerate(diagonal(len(own)).tolist())
    )


def words_for(count: int) -> int:
    """Words that hold so many numbers of 32 bits."""
    return -(-count // 2)


def packed(numbers: Halves) -> Words:
    """Two numbers to a word. Sums below 2^32 do not carry over from one to the other."""
    odd = np.zeros(len(numbers) % 2, np.uint32)
    return np.concatenate([numbers, odd]).view(np.uint64)


def halves(words: Words, count: int) -> Halves:
    """The inverse of `packed`."""
    return np.ascontiguousarray(words).view(np.uint32)[:count]


@compiled
def _add_rows(indptr: np.ndarray, items: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    for client in range(len(indptr) - 1):
        sums = out[client]
        for place in range(indptr[client], indptr[client + 1]):
            row = table[items[place]]
            for column in range(len(sums)):
                sums[column] += row[column]


@compiled
def _add_pairs(indptr: np.ndarray, items: np.ndarray, out: np.ndarray) -> None:
    for client in range(len(indptr) - 1):
        own = items[indptr[client] : indptr[client + 1]]
        for first in own:
            row = out[first]
            for second in own:
                row[second] += np.float32(1)
