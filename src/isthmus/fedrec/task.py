"""What a method is given: the population, which negatives it may draw, seed, threads and memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from isthmus.fedrec import randomness
from isthmus.fedrec.backbones import Backbone, Initial
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.kernels.samples import Shard
from isthmus.fedrec.population import Longs, Population, Ragged
from isthmus.fedrec.training import LocalTraining
from isthmus.fedrec.uploads import Guard, Sealing, Uploads

if TYPE_CHECKING:
    from isthmus.fedrec.fleet import Fleet

SLICES = 4
"""Slices a thread, so that a slow one does not keep the others waiting."""


@dataclass(frozen=True, eq=False)
class Task:
    """The clients at hand and how to work on them; the same for every method of a comparison."""

    population: Population
    avoid: Ragged
    """Items that are never drawn as training negatives, each client's training items among them."""
    seed: int
    threads: int = 1
    memory: int = 1 << 30
    """Bytes that a chunk of clients may take."""
    identity: Longs = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 [U], the clients' numbers in the whole population; empty: 0, 1, 2, ... Streams of
    random numbers follow it, so that a shard draws what the whole would."""
    whole: int = 0
    """Clients of the whole population, where this is a part of it; 0: those that are here."""
    guards: tuple[Guard, ...] = ()
    """Applied in this order to all that clients upload."""
    sealing: Sealing | None = None
    """Comes after the guards: the server sees sums alone."""
    fleet: Fleet | None = None
    """Where the clients are; None where they are here."""
    noise_key: bytes | None = field(default=None, repr=False)
    """Of noise on what single clients send, where only their device has it, see `privacy.keyed`;
    None: such noise follows from the seed as all else."""

    def guarded(self, uploads: Uploads, number: int) -> Uploads:
        """What the server sees of `uploads`."""
        for guard in self.guards:
            uploads = guard(uploads, number)
        return uploads

    @cached_property
    def shard(self) -> Shard:
        """The interactions as the kernels take them."""
        train, count = self.population.train, self.population.clients
        identity = self.identity if len(self.identity) else np.arange(count)
        return Shard(
            train.indptr, train.items, self.avoid.indptr, self.avoid.items, identity,
            self.population.items,
        )  # fmt: skip

    @property
    def everybody(self) -> int:
        """Clients of the whole population, those elsewhere included."""
        return self.whole or self.population.clients

    def part(self, clients: Longs) -> Task:
        """The task of these clients alone: what a process that stands for them works on."""
        return replace(
            self,
            whole=self.everybody,
            population=self.population.part(clients),
            avoid=self.avoid.take(clients),
            identity=self.shard.identity[clients],
        )

    def generator(self, purpose: int, number: int = 0) -> np.random.Generator:
        """A NumPy generator for draws of the server; purposes stand in `randomness`."""
        return randomness.generator(self.seed, purpose, number)

    def sample(self, share: float, number: int) -> Longs:
        """The clients of round `number`: a share of all, drawn, ascending; at least one."""
        count = self.population.clients
        wanted = max(1, int(count * share))
        if wanted >= count:
            return np.arange(count)
        drawn = self.generator(randomness.SAMPLING, number).choice(count, wanted, replace=False)
        return np.sort(drawn)

    def spread(self, work: Callable[[int, int], None], costs: Longs) -> None:
        """Call `work(first, last)` for slices of 0 .. n - 1 on this task's threads.

        `costs` int64 [n], roughly how long each takes. Slices must not touch each other's results.
        """
        count = len(costs)
        if self.threads == 1 or count < 2:
            work(0, count)
            return
        done = np.cumsum(costs + 1)
        goals = np.linspace(0, done[-1], min(count, self.threads * SLICES) + 1)[1:-1]
        cuts = np.unique(np.concatenate([[0], np.searchsorted(done, goals) + 1, [count]]))
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, cuts[:-1].tolist(), cuts[1:].tolist()))


@dataclass(frozen=True, eq=False)
class Model:
    """A backbone with its sizes, first parameters and the clients' training."""

    backbone: Backbone
    training: LocalTraining
    sizes: Sizes
    initial: Initial

    @staticmethod
    def new(backbone: Backbone, training: LocalTraining, task: Task) -> Model:
        """The model as drawn from the task's seed."""
        sizes = backbone.sizes(training.dim)
        rng = task.generator(randomness.START)
        initial = backbone.initial(rng, task.population.items, sizes, training.deviation)
        return Model(backbone, training, sizes, initial)
