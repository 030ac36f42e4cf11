"""A shard's side of FedCA from noised sketches: its clients' tables and sketches are here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from isthmus.errors import BadMessage
from isthmus.fedrec import engine
from isthmus.fedrec.algorithms._one_round import Words, WordSum
from isthmus.fedrec.algorithms.fedca_sketched import Matrix, SketchedFedCA
from isthmus.fedrec.devices.grouping import GROUPS
from isthmus.fedrec.devices.wire import (
    MESSAGE_LIMIT,
    Answer,
    Array,
    Arrays,
    Ask,
    numbers,
    places_of,
    taken,
)
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.shared_table import loss_units
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads


class GroupedHere:
    """The clients of a part, each with a table of its own, of which sums by group go up.

    Args:
        method: holds their tables and sketches.
        drawing: the task with the seed that clients draw with, and with the guards.
        clients: their numbers in the whole population.
    """

    def __init__(self, method: SketchedFedCA, drawing: Task, clients: Longs) -> None:
        self.method, self._drawing, self._clients = method, drawing, clients
        self._trained = 0
        self._sent: tuple[Floats, Floats] = (method.items[:0], method.network[:0])
        self._directions: Matrix = method.directions[:0]

    def train(self, ask: Ask, arrays: Arrays) -> Iterator[tuple[Answer, dict[str, Array]]]:
        """Train; nothing but the sum of losses goes up.

        Raises:
            BadMessage: not all of our clients are to train.
            NotFinite: training diverged.
        """
        method, units = self.method, 0
        places = self._everyone(arrays)
        self._trained = 0

        def stream() -> Iterator[Uploads]:
            nonlocal units
            for chunk in engine.train(self._drawing, method.model, method.work(ask.number), places):
                units += loss_units(chunk.loss)
                yield self._drawing.guarded(chunk, ask.number)
                # Only now: `chunk.starts` are these tables before the round.
                method.put(chunk)

        self._sent = method.sent(stream())
        self._trained, self._directions = ask.number, method.directions[:0]
        yield Answer(kind="train", number=ask.number, last=True, loss=units), {}

    def sketches(self, ask: Ask, arrays: Arrays) -> dict[str, Array]:
        """The noised sketches of those that are asked; the same ones whenever they are.

        Raises:
            BadMessage: clients are not ours, or have not just trained.
        """
        self._see(ask)
        places = places_of(self._clients, arrays)
        self._sketch(ask.number)
        return {"sketches": self.method.noised(places, self._drawing)}

    def sum_of(self, ask: Ask, arrays: Arrays) -> WordSum | None:
        """What our clients add to the sums by group; None of other sums.

        Raises:
            BadMessage: these are no groups of our clients, or they have not just trained.
        """
        if ask.what != GROUPS:
            return None
        self._see(ask)
        everyone, settings = self._everyone(arrays), self.method.settings
        directions = taken(arrays, "directions", np.float64, (-1, settings.sketch))
        groups = len(directions)
        if not 1 <= groups <= settings.groups or not float(np.abs(directions).max()) <= 1 + 1e-6:
            raise BadMessage("directions are none of so many groups")
        size = groups * (self.method.size + 1)
        if 8 * size > MESSAGE_LIMIT:
            raise BadMessage("the sums of so many groups are more than a message holds")
        of = np.array(taken(arrays, "of", np.int64, (len(everyone),)))
        if of.min() < 0 or of.max() >= groups:
            raise BadMessage("a client's group is out of range")
        # Of clients that come back without their state the server knows the group already.
        self._sketch(ask.number)
        self._directions = np.array(directions)
        sent = self._sent

        def mine() -> Words:
            return self.method.group_words(*sent, of, groups)

        return WordSum(GROUPS, size, mine, lambda words, clients: True, given=dict(arrays))

    def take(self, ask: Ask, arrays: Arrays) -> None:
        """Mix each client's own table with the groups' means.

        Raises:
            BadMessage: they are of another round, or no means of these groups.
        """
        self._see(ask)
        method, known = self.method, self._directions
        directions = taken(arrays, "directions", np.float64, (-1, method.settings.sketch))
        groups = len(directions)
        if not groups or not all((known == one).all(axis=1).any() for one in directions):
            raise BadMessage("directions are not those of the round's groups")
        means = numbers(arrays, "means", (groups, method.size))
        sizes = taken(arrays, "sizes", np.float64, (groups,))
        if not ((sizes >= 1) & (sizes <= method.task.everybody)).all():
            raise BadMessage("sizes are no numbers of clients")
        self._trained = 0
        method.take(np.array(means), np.array(sizes), np.array(directions))

    def _everyone(self, arrays: Arrays) -> Longs:
        places = places_of(self._clients, arrays)
        if len(places) != len(self._clients):
            raise BadMessage("the server leaves some of our clients out")
        return places

    def _see(self, ask: Ask) -> None:
        if ask.number != self._trained:
            raise BadMessage("the server asks about groups in a round that was not trained")

    def _sketch(self, number: int) -> None:
        self.method.sketch(np.flatnonzero(self.method.first == 0), number)
