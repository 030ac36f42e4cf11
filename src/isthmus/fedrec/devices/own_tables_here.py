"""A shard's side of methods that mix clients' own tables: its clients' tables are here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from isthmus.errors import BadMessage
from isthmus.fedrec import engine
from isthmus.fedrec.devices.mixing import read_mixtures
from isthmus.fedrec.devices.wire import MESSAGE, Answer, Array, Arrays, Ask, places_of
from isthmus.fedrec.mixed_tables import MixedTables, Sent
from isthmus.fedrec.population import Longs
from isthmus.fedrec.shared_table import loss_units
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads


class OwnTablesHere:
    """The clients of a part, each with a table of its own.

    Args:
        method: holds their tables.
        drawing: the task with the seed that clients draw with, and with the guards.
        clients: their numbers in the whole population.
    """

    def __init__(self, method: MixedTables, drawing: Task, clients: Longs) -> None:
        self.method, self._drawing, self._clients = method, drawing, clients
        self._mixed: tuple[int, Longs] = (0, clients[:0])
        size = 4 * method.model.initial.items.size
        self._step = max(1, MESSAGE // max(size, 1))

    def train(self, ask: Ask, arrays: Arrays) -> Iterator[tuple[Answer, dict[str, Array]]]:
        """Train, and send the tables of those that are mixed.

        Raises:
            BadMessage: clients are not ours.
            NotFinite: training diverged.
        """
        method = self.method
        places = places_of(self._clients, arrays)
        mixed = places_of(self._clients, {"clients": arrays.get("mixed", self._clients[:0])})
        if not np.isin(mixed, places).all():
            raise BadMessage("the server mixes clients that are not to train")
        method.prepare(places)
        work, units = method.work(ask.number), 0
        for chunk in engine.train(self._drawing, method.model, work, places):
            units += loss_units(chunk.loss)
            for found in self._sent(self._drawing.guarded(chunk, ask.number), mixed):
                yield Answer(kind="train", number=ask.number, last=False), self._packed(found)
            # Only now: `chunk.starts` are these tables before the round.
            method.put(chunk)
        method.forget(places)
        self._mixed = ask.number, mixed
        yield Answer(kind="train", number=ask.number, last=True, loss=units), {}

    def _sent(self, chunk: Uploads, mixed: Longs) -> Iterator[list[Sent]]:
        places = np.flatnonzero(np.isin(chunk.clients, mixed))
        for first in range(0, len(places), self._step):
            some = places[first : first + self._step].tolist()
            yield [self.method.sent(chunk, place) for place in some]

    def _packed(self, found: list[Sent]) -> dict[str, Array]:
        return {
            "clients": self._clients[[one.client for one in found]],
            "items": np.stack([one.table for one in found]),
            "network": np.stack([one.network for one in found]),
            "weight": np.array([one.weight for one in found]),
            "more": np.stack([one.more for one in found]),
        }

    def take(self, ask: Ask, arrays: Arrays) -> None:
        """Take the round's mixtures.

        Raises:
            BadMessage: they are of another round, or not ours.
        """
        number, mixed = self._mixed
        if ask.number != number:
            raise BadMessage("the server sends mixtures of a round that was not trained")
        self._mixed = 0, mixed[:0]
        if arrays:
            self.method.take(read_mixtures(self.method, arrays, self._clients, mixed))
