"""The sums over clients that ordered pairs needs, as words: C with G, or a sketch of C."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.algorithms import _pairs
from isthmus.fedrec.algorithms._one_round import (
    Halves,
    Words,
    WordSum,
    below_rarer,
    corner,
    diagonal,
    halves,
    packed,
    triangle,
    whole,
    words_for,
)
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy.discrete import share
from isthmus.fedrec.privacy.secure_terms import SHARDS
from isthmus.fedrec.task import Task

Integers = NDArray[np.integer[Any]]


class Settings(Protocol):
    """What of the settings of ordered pairs is of use here."""

    @property
    def decay(self) -> float:
        """What an item of the history counts by the one after it."""
        ...

    @property
    def clip(self) -> float:
        """The most that a client's sums may measure; 0: any."""
        ...

    @property
    def noise(self) -> float:
        """Deviation of the noise on the sums, in clips."""
        ...

    @property
    def sketch_words(self) -> int:
        """Words of the sketch."""
        ...

    @property
    def sketch_rows(self) -> int:
        """Words that a pair is added to."""
        ...


def shares(counts: Longs, power: _pairs.Doubles, clip: float) -> _pairs.Doubles:
    """What each client multiplies its sums by so that their 2-norm is at most `clip`."""
    if clip <= 0:
        return np.ones(len(counts))
    n = counts.astype(np.float64)
    square = n * (n + 1) / 2
    for gap, value in enumerate(power, 1):
        square += np.maximum(n - gap, 0) * value**2
    return np.minimum(1.0, clip / np.sqrt(np.maximum(square, 1e-300)))


def summed_pairs(task: Task, settings: Settings) -> tuple[Integers, Integers]:
    """C and the upper triangle of G over all clients, [M, M]; C is empty without order.

    In steps; uint32, and int64 where devices have added noise.
    """
    if task.fleet is None:
        return _pairs_here(task, settings)
    items, places = task.population.items, _places(task)
    words = task.fleet.words(pairs_sum(task, settings))
    size = places + corner(items)
    found: Integers = words.view(np.int64) if settings.noise else halves(words, size)
    ordered = found[:places].reshape((items, items) if places else (0, 0))
    return ordered, np.triu(whole(found[places:], items, found.dtype.type))


def _pairs_here(task: Task, settings: Settings) -> tuple[Halves, Halves]:
    population = task.population
    lists, count, bits = population.by_turn, population.items, _pairs.bits_for(task.everybody)
    timed = population.ordered
    power = _pairs.powers(settings.decay, bits, int(lists.counts.max(initial=1)))
    power = power if timed else power[:0]
    ordered = np.zeros((count, count) if timed else (0, 0), np.uint32)
    both = np.zeros((count, count), np.uint32)
    share = shares(lists.counts, power, settings.clip)
    one = float(1 << bits)
    _pairs.add_pairs(lists.indptr, lists.items, share, power, one, ordered, both)
    return ordered, both


def _places(task: Task) -> int:
    return task.population.items**2 if task.population.ordered else 0


def pairs_sum(task: Task, settings: Settings) -> WordSum:
    """`summed_pairs` as words: C by rows, then G. With noise each number has a word of its own."""
    items, places = task.population.items, _places(task)
    size = places + corner(items)
    one = 1 << _pairs.bits_for(task.everybody)

    def numbers() -> Halves:
        ordered, both = _pairs_here(task, settings)
        return np.concatenate([ordered.ravel(), triangle(both)])

    def noised(shards: int) -> Words:
        own = share(settings.clip * one, settings.noise, size, SHARDS.terms(shards))
        return own.added(numbers().astype(np.float64)).view(np.uint64)

    def bounded(words: Words, clients: int) -> bool:
        most = clients * one + 40 * settings.noise * settings.clip * one * max(clients, 1)
        return bool((np.abs(words.view(np.int64).astype(np.float64)) <= most).all())

    def possible(words: Words, clients: int) -> bool:
        found = halves(words, size)
        both = found[places:]
        own = both[diagonal(items)]
        if int(own.max(initial=0)) > clients * one or not below_rarer(both, own):
            return False
        return _fits(found[:places].reshape(items, items), both) if places else True

    if settings.noise:
        return WordSum("pairs", size, lambda: numbers().astype(np.uint64), bounded, noised)
    return WordSum("pairs", words_for(size), lambda: packed(numbers()), possible)


def _fits(ordered: Halves, both: Halves) -> bool:
    """Whether each client that has two items has them in one order, so that C stays below G."""
    items = len(ordered)
    for row, at in enumerate(diagonal(items).tolist()):
        beside = both[at + 1 : at + items - row]
        # Not C + C' <= G: that could pass 2^32.
        if (ordered[row, row + 1 :] > beside).any() or ordered[row, row]:
            return False
        if (ordered[row + 1 :, row] > beside - ordered[row, row + 1 :]).any():
            return False
    return True


def summed_sketch(task: Task, settings: Settings) -> tuple[Halves, Longs]:
    """A count-min sketch of C, uint32 [words], and the items' counts over all clients."""
    _see_quiet(task, settings)
    if task.fleet is None:
        return _sketch_here(task, settings)
    size = settings.sketch_words + task.population.items
    found = halves(task.fleet.words(sketch_sum(task, settings)), size)
    return found[: settings.sketch_words], found[settings.sketch_words :].astype(np.int64)


def _see_quiet(task: Task, settings: Settings) -> None:
    if settings.clip or settings.noise:
        raise JobError(
            f"noise cannot be put on a sketch, which {task.population.items} items need",
            mend="Raise whole_items, or keep the items that most clients have.",
        )


def _sketch_here(task: Task, settings: Settings) -> tuple[Halves, Longs]:
    population = task.population
    lists, bits = population.by_turn, _pairs.sketch_bits_for(task.everybody)
    longest = int(lists.counts.max(initial=1))
    power = _pairs.powers(settings.decay if population.ordered else 1.0, bits, longest)
    table = np.zeros(settings.sketch_words, np.uint32)
    count, one = population.items, float(1 << bits)
    _pairs.add_sketch(lists.indptr, lists.items, power, one, count, settings.sketch_rows, table)
    return table, np.bincount(lists.items, minlength=count).astype(np.int64)


def sketch_sum(task: Task, settings: Settings) -> WordSum:
    """`summed_sketch` as words. Raises JobError where there is to be noise, on devices too."""
    _see_quiet(task, settings)
    size = settings.sketch_words + task.population.items

    def mine() -> Words:
        table, popular = _sketch_here(task, settings)
        return packed(np.concatenate([table, popular.astype(np.uint32)]))

    def possible(words: Words, clients: int) -> bool:
        return int(halves(words, size)[settings.sketch_words :].max(initial=0)) <= clients

    return WordSum("sketch", words_for(size), mine, possible)
