"""Counts of item pairs in clients' sequences, whole or sketched, as words that a secure sum adds.

Every client adds to each pair at most 1, written as a whole number of steps of `2^-bits`, rounded
down. With fewer than `2^(32 - bits)` clients no word overflows, so a sum is the same in any order,
and the same whether masks were added and cancelled modulo 2^32 or never were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.compiled import compiled, inlined
from isthmus.fedrec.population import NONE, Floats, Ints, Longs, Ragged
from isthmus.fedrec.randomness import GOLDEN, mixed

Words = NDArray[np.uint32]
Doubles = NDArray[np.float64]


def bits_for(clients: int) -> int:
    """Bits behind the point: as many as fit, 20 at most."""
    return min(20, 32 - clients.bit_length())


def sketch_bits_for(clients: int) -> int:
    """The same for a sketch, where many pairs may share a word."""
    return min(12, bits_for(clients))


def powers(decay: float, bits: int, longest: int) -> Doubles:
    """1, decay, decay^2, ... float64, while they are a step of `2^-bits` or more."""
    out = np.power(decay, np.arange(max(longest - 1, 1), dtype=np.float64))
    return out[out >= 2.0**-bits]


@compiled
def add_pairs(
    indptr: np.ndarray,
    items: np.ndarray,
    share: np.ndarray,
    power: np.ndarray,
    one: float,
    ordered: np.ndarray,
    both: np.ndarray,
) -> None:
    """Add what each client uploads to `ordered` and `both`, uint32 [M, M].

    `items` are oldest first. `ordered[i, j]` gains `share * power[gap - 1]` for j that came `gap`
    after i; `both[i, j]`, i <= j by number, gains `share` where the client has both. `one` is the
    number of steps in 1. With no powers `ordered` is left alone and may be empty.
    """
    for client in range(len(indptr) - 1):
        whole = np.uint32(share[client] * one)
        end = indptr[client + 1]
        for a in range(indptr[client], end):
            first = items[a]
            both[first, first] += whole
            for b in range(a + 1, end):
                both[min(first, items[b]), max(first, items[b])] += whole
            for b in range(a + 1, min(end, a + 1 + len(power))):
                ordered[first, items[b]] += np.uint32(share[client] * power[b - a - 1] * one)


@inlined
def _place(pair: int | np.int64, row: int, width: int) -> int:
    """Where sketch row `row` keeps this pair; `width` is a power of two."""
    key = mixed(np.uint64(pair) + GOLDEN)
    step = (key >> np.uint64(32)) | np.uint64(1)
    return np.int64((key + np.uint64(row) * step) & np.uint64(width - 1))  # type: ignore[return-value]


@compiled
def add_sketch(
    indptr: np.ndarray,
    items: np.ndarray,
    power: np.ndarray,
    one: float,
    count: int,
    rows: int,
    table: np.ndarray,
) -> None:
    """Add each client's ordered pairs to a count-min sketch, uint32 [width].

    A pair is added at `rows` places; two rows may share a word, which only adds to it.
    """
    for client in range(len(indptr) - 1):
        end = indptr[client + 1]
        for a in range(indptr[client], end):
            for b in range(a + 1, min(end, a + 1 + len(power))):
                steps = np.uint32(power[b - a - 1] * one)
                pair = np.int64(items[a]) * count + items[b]
                for row in range(rows):
                    table[_place(pair, row, len(table))] += steps


@compiled
def _read_rows(
    table: np.ndarray,
    rows: int,
    first: int,
    last: int,
    present: np.ndarray,
    counts: np.ndarray,
    found: np.ndarray,
    values: np.ndarray,
) -> int:
    at = 0
    for i in range(first, last):
        if not present[i]:
            continue
        for j in range(len(present)):
            if not present[j] or i == j:
                continue
            pair = np.int64(i) * len(present) + j
            least = table[_place(pair, 0, len(table))]
            row = 1
            while least > 0 and row < rows:
                least = min(least, table[_place(pair, row, len(table))])
                row += 1
            if least > 0:
                found[at] = j
                values[at] = least
                counts[i] += 1
                at += 1
    return at


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix [M, M] by rows: those of row i are `items[indptr[i]:indptr[i + 1]]`."""

    indptr: Longs
    items: Ints
    values: Floats

    def transposed(self) -> Sparse:
        """The same with rows and columns changed over."""
        row = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        order = np.argsort(self.items, kind="stable")
        indptr = np.zeros_like(self.indptr)
        np.cumsum(np.bincount(self.items, minlength=len(indptr) - 1), out=indptr[1:])
        return Sparse(indptr, row[order].astype(np.int32), self.values[order])


def read_sketch(table: Words, rows: int, popular: Longs, one: float) -> Sparse:
    """All pairs whose words are above 0 in the sketch, each with the least of them.

    `popular` int64 [M] are the items' own counts: a pair cannot have more than its rarer item.
    """
    count = len(popular)
    counts = np.zeros(count, np.int64)
    step = max(1, (1 << 24) // count)
    found, values = np.empty(step * count, np.int32), np.empty(step * count, np.uint32)
    kept: list[tuple[Any, Any]] = []
    for first in range(0, count, step):
        last = min(first + step, count)
        size = _read_rows(table, rows, first, last, popular > 0, counts, found, values)
        kept.append((found[:size].copy(), values[:size].copy()))
    items = np.concatenate([one_part for one_part, _ in kept])
    number = np.concatenate([part for _, part in kept]) / one
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    rarer = np.minimum(np.repeat(popular, counts), popular[items])
    return Sparse(indptr, items, np.minimum(number, rarer).astype(np.float32))


@compiled
def multiply_into(
    out: np.ndarray, history: np.ndarray, indptr: np.ndarray, items: np.ndarray, values: np.ndarray
) -> None:
    """Add `history` [n, M] times the sparse matrix to `out` [n, M]."""
    for client in range(len(history)):
        for i in range(history.shape[1]):
            weight = history[client, i]
            if weight != 0:
                for k in range(indptr[i], indptr[i + 1]):
                    out[client, items[k]] += weight * values[k]


def times(rows: Floats, matrix: Floats) -> Floats:
    """`rows` [n, k] times `matrix` [k, m], float32 [n, m], each row as if it were alone.

    A library's product may add up a row in another order where other rows stand beside it: then
    a client would score otherwise in a shard than among all.
    """
    out = np.zeros((len(rows), matrix.shape[1]), np.float32)
    _times_into(out, np.ascontiguousarray(rows), np.ascontiguousarray(matrix))
    return out


@compiled
def _times_into(out: np.ndarray, rows: np.ndarray, matrix: np.ndarray) -> None:
    for client in range(len(rows)):
        sums = out[client]
        for k in range(rows.shape[1]):
            weight = rows[client, k]
            if weight != 0:
                row = matrix[k]
                for column in range(len(sums)):
                    sums[column] += weight * row[column]


def histories(sequence: Ragged, items: int, decay: float, clients: Longs) -> Floats:
    """What each client has, its newest item 1, the one before `decay`, ...; float32 [n, M]."""
    lists = sequence.take(clients)
    owner = np.repeat(np.arange(len(clients)), lists.counts)
    back = np.repeat(lists.indptr[1:], lists.counts) - 1 - np.arange(len(owner))
    out = np.zeros((len(clients), items), np.float32)
    out[owner, lists.items] = np.power(decay, back.astype(np.float64))
    return out


@compiled
def gains(
    scores: np.ndarray, wanted: np.ndarray, indptr: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """NDCG@10 of each client's wanted item among all that it does not know, float64 [n].

    An equal score counts half. Clients without a wanted item get 0.
    """
    out = np.zeros(len(scores))
    for client in range(len(scores)):
        if wanted[client] == NONE:
            continue
        own = scores[client, wanted[client]]
        rank = 0.5
        for item in range(scores.shape[1]):
            value = scores[client, item]
            rank += 1.0 if value > own else (0.5 if value == own else 0.0)
        for k in range(indptr[client], indptr[client + 1]):
            value = scores[client, known[k]]
            rank -= 1.0 if value > own else (0.5 if value == own else 0.0)
        if rank <= 10:
            out[client] = 1 / np.log2(1 + rank)
    return out
