"""Methods whose server works on the tables of all clients, of which it holds a copy each.

A round has three parts, which may lie in different processes: clients train and send the rows that
they touched, which the server puts into its copies; the server works out one table, and who is to
take it (`blend`); these take it (`take`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from isthmus.fedrec.algorithms._uploaded import uploaded
from isthmus.fedrec.method import Arrays, RoundReport, Watch
from isthmus.fedrec.own_tables import OwnTables, see_fits
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.shared_table import Tally
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Uploads

_COPIES = 3
"""A round of devices may take so many times the memory of all tables: the copies, the uploads as
they came, and those in the order of the clients."""


@dataclass(frozen=True, eq=False)
class Blend:
    """What the server made of all tables, and the clients that take it."""

    clients: Longs
    """int64 [n], ascending."""
    table: Floats
    """float32 [M, k]"""


class CopiedTables(OwnTables):
    """Own tables; the server knows all of them. With clients elsewhere `items` are its copies."""

    PRIVATE: ClassVar = ("items", "network", "user")
    """What of `state()` is the clients'."""

    def __init__(self, task: Task, model: Model, *, share: float = 1.0) -> None:
        super().__init__(task, model, share=share)
        if task.fleet is not None:
            see_fits(_COPIES * task.population.clients * model.initial.items.nbytes)

    @abstractmethod
    def blend(self, tables: Floats, number: int) -> Blend:
        """At the server: who of the clients takes what, by their places in `tables`.

        Args:
            tables: of the clients that took part, float32 [n, M, d]; not to be changed.
            number: the round.
        """

    def news(self) -> Arrays:
        """At the server: what clients need to know in the next round."""
        return {}

    def hear(self, news: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> None:
        """On the devices: take `news()`. Raises BadMessage where it cannot be."""
        return

    @property
    def width(self) -> int:
        """k, the columns of `Blend.table`."""
        return int(self.model.initial.items.shape[1])

    def take(self, found: Blend) -> None:
        """On the devices, and by the server for its copies; `clients` are places in `items`."""
        self.items[found.clients] = found.table

    def mix(self, uploads: Iterator[Uploads], number: int) -> int:
        """Have all clients' tables blended, all being here."""
        found = self.blend(uploaded(self, uploads), number)
        self.take(found)
        return len(found.clients)

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Train the round's clients, here or where they are, then blend."""
        if self.task.fleet is None:
            return super().round(number, watch)
        return self._round_elsewhere(number)

    def _round_elsewhere(self, number: int) -> RoundReport:
        fleet, count = self.task.fleet, self.task.population.clients
        assert fleet is not None
        if not len(self.items):
            self.items = np.repeat(self.model.initial.items[None], count, axis=0)
            self.network = np.tile(self.model.initial.network, (count, 1))
        took_part, tally = np.zeros(count, np.bool_), Tally()
        for chunk in fleet.train(self, self.work(number), self.task.sample(self.share, number)):
            tally.add(chunk.loss, chunk)
            took_part[chunk.clients] = True
            self.put(chunk)
        clients = np.flatnonzero(took_part)
        found = self.blend(self.items if took_part.all() else self.items[clients], number)
        found = Blend(clients[found.clients], found.table)
        self.take(found)
        fleet.give(number, found)
        down = len(found.clients) * (found.table.nbytes + self.network[0].nbytes)
        return RoundReport(fleet.loss(), fleet.took_part(), tally.up, down)
