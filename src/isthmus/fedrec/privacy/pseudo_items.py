"""Pseudo-items: rows of items that the client never had, sent among its own, always the same ones.

The rows that a client changes in a round are those of its training items and of its negatives. As
negatives are drawn afresh, the training items are the rows that change in every round: two or three
rounds give them away. Pseudo-items drawn *once* change in every round as well, so that rounds laid
over each other leave training items and pseudo-items, which the server cannot tell apart by *when*
they change. Drawn afresh each round they would protect nothing; `kept=False` is there to show it.

Training items are popular ones, so pseudo-items drawn evenly from the catalogue would stand out by
their rarity. They are drawn by popularity, without replacement (Efraimidis, Spirakis, Information
Processing Letters 2006), which takes how many clients have each item: a sum over clients, taken
once and public to all. `by="even"` does without.

By *how* a row changes training items and negatives can be told apart too (membership inference), so
a pseudo-item's change is made of those of two training items, mixed at random. It
costs some accuracy, as clients ask for items that they do not want. `like="any"` makes it of any
two touched rows, which costs less and hides less.

Hidden so is which `1 / (1 + each)` of the candidates are true. It is no differential privacy: who
knows something of the client beforehand learns more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec import randomness
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.population import Longs, Ragged, offsets
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads

_PSEUDO = randomness.PSEUDO_ITEMS
# Streams of values lie beside those of items, which have the round's number or 0.
_VALUES = 1 << 32


@dataclass(frozen=True, eq=False)
class PseudoItems:
    """The guard."""

    task: Task
    each: int = 4
    """Pseudo-items for each training item; fewer where the client has nearly all items."""
    kept: bool = True
    """The same in all rounds."""
    like: Literal["liked", "any"] = "liked"
    """Which of the client's rows a pseudo-item's change is made of."""
    by: Literal["popularity", "even"] = "popularity"
    """How they are drawn."""

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """The uploads with the pseudo-items among them."""
        lists = self.lists(uploads.clients, number)
        counts = np.zeros(len(uploads.clients), np.int64)
        _count_union(uploads.indptr, uploads.items, lists.indptr, lists.items, counts)
        indptr = offsets(counts)
        items = np.empty(indptr[-1], np.int32)
        rows = np.empty((indptr[-1], uploads.rows.shape[1]), np.float32)
        times = np.zeros(indptr[-1], np.int32)
        shard = self.task.shard
        starts, of = uploads.starts.items, uploads.starts.of[uploads.clients]
        _merge(
            uploads.indptr, uploads.items, uploads.rows, uploads.counts, lists.indptr, lists.items,
            starts, of, shard.indptr, shard.items, uploads.clients,
            shard.identity[uploads.clients], self.like == "liked", self.task.seed,
            number + _VALUES, indptr, items, rows, times,
        )  # fmt: skip
        return replace(uploads, indptr=indptr, items=items, rows=rows, counts=times)

    def lists(self, clients: Longs, number: int) -> Ragged:
        """The pseudo-items of these clients in round `number`."""
        return self._all.take(clients) if self.kept else self._drawn(clients, number)

    @cached_property
    def _all(self) -> Ragged:
        return self._drawn(np.arange(self.task.population.clients), 0)

    def _drawn(self, clients: Longs, number: int) -> Ragged:
        shard = self.task.shard
        has = self.task.population.train.counts[clients]
        indptr = offsets(np.minimum(self.each * has, shard.table - has))
        items = np.empty(indptr[-1], np.int32)
        _draw(
            shard.indptr, shard.items, self._weights, clients, shard.identity[clients],
            self.task.seed, number, indptr, items,
        )  # fmt: skip
        return Ragged(indptr, items)

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """What the chance of each item goes by, float64 [M]."""
        population = self.task.population
        if self.by == "even":
            return np.ones(population.items)
        counts = np.bincount(population.train.items, minlength=population.items)
        # An item that nobody has may still be drawn, last.
        return np.asarray(counts + 0.1, np.float64)


@compiled
def _draw(
    has_indptr: np.ndarray, has: np.ndarray, weights: np.ndarray, clients: np.ndarray,
    identity: np.ndarray, seed: int, number: int, indptr: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    keys = np.empty(len(weights))
    for place in range(len(clients)):
        # The items with the largest log(uniform) / weight are a draw by weight.
        state = randomness.stream(seed, _PSEUDO, number, identity[place])
        for item in range(len(weights)):
            state, drawn = randomness.uniform(state)
            keys[item] = -math.log(1.0 - drawn) / weights[item]
        for k in range(has_indptr[clients[place]], has_indptr[clients[place] + 1]):
            keys[has[k]] = np.inf
        first, last = indptr[place], indptr[place + 1]
        some = np.argsort(keys)[: last - first]
        some.sort()
        for k in range(last - first):
            out[first + k] = some[k]


@compiled
def _count_union(
    a_indptr: np.ndarray, a: np.ndarray, b_indptr: np.ndarray, b: np.ndarray, counts: np.ndarray
) -> None:
    for place in range(len(counts)):
        i, j = a_indptr[place], b_indptr[place]
        size = 0
        while i < a_indptr[place + 1] or j < b_indptr[place + 1]:
            more_a, more_b = i < a_indptr[place + 1], j < b_indptr[place + 1]
            if more_a and (not more_b or a[i] < b[j]):
                i += 1
            elif more_b and (not more_a or b[j] < a[i]):
                j += 1
            else:
                i += 1
                j += 1
            size += 1
        counts[place] = size


@compiled
def _merge(
    indptr: np.ndarray, items: np.ndarray, rows: np.ndarray, times: np.ndarray,
    p_indptr: np.ndarray, pseudo: np.ndarray, starts: np.ndarray, of: np.ndarray,
    has_indptr: np.ndarray, has: np.ndarray, clients: np.ndarray, identity: np.ndarray,
    liked_only: bool, seed: int, number: int,
    out_indptr: np.ndarray, out_items: np.ndarray, out_rows: np.ndarray, out_times: np.ndarray,
) -> None:  # fmt: skip
    models = np.empty(len(items), np.int64)
    for place in range(len(clients)):
        # The places of the rows that pseudo-items take after.
        found = 0
        h, h_last = has_indptr[clients[place]], has_indptr[clients[place] + 1]
        for k in range(indptr[place], indptr[place + 1]):
            while h < h_last and has[h] < items[k]:
                h += 1
            if not liked_only or (h < h_last and has[h] == items[k]):
                models[found] = k
                found += 1
        state = randomness.stream(seed, _PSEUDO, number, identity[place])
        table = of[place]
        i, j = indptr[place], p_indptr[place]
        for at in range(out_indptr[place], out_indptr[place + 1]):
            more_i, more_j = i < indptr[place + 1], j < p_indptr[place + 1]
            if more_i and (not more_j or items[i] < pseudo[j]):
                out_items[at] = items[i]
                out_times[at] = times[i]
                out_rows[at] = rows[i]
                i += 1
                continue
            # Where a negative of the round is a pseudo-item as well, it acts as one.
            item = pseudo[j]
            if more_i and items[i] == item:
                i += 1
            j += 1
            out_items[at] = item
            if found == 0:
                out_rows[at] = starts[table, item]
                continue
            state, one = randomness.below(state, found)
            state, two = randomness.below(state, found)
            state, part = randomness.uniform(state)
            one, two = models[one], models[two]
            for c in range(rows.shape[1]):
                first = np.float64(rows[one, c]) - starts[table, items[one], c]
                second = np.float64(rows[two, c]) - starts[table, items[two], c]
                out_rows[at, c] = starts[table, item, c] + part * first + (1 - part) * second
