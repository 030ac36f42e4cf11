"""Methods whose server mixes the whole tables of some clients, and gives each its own mixture.

A round has three parts, which may lie in different processes: clients train, and those that are to
be mixed send their tables (`sent`); the server works out a mixture for each (`mixtures`); each
takes its own (`take`). The server keeps nothing of a client's from round to round.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec import randomness
from isthmus.fedrec.method import RoundReport, Watch
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.uploads import Uploads

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sent:
    """What one of the clients that are to be mixed sends, guards included."""

    client: int
    table: Floats
    """float32 [M, d]"""
    network: Floats
    """float32 [t]"""
    weight: float
    """n_u, its number of training items."""
    more: Matrix
    """float64 [a, b], what else the server needs; [0, 0] where that is nothing."""

    @property
    def nbytes(self) -> int:
        """Bytes that go up."""
        return self.table.nbytes + self.network.nbytes + 8 + self.more.nbytes


@dataclass(frozen=True, eq=False)
class Mixtures:
    """What n clients are sent back."""

    clients: Longs
    """int64 [n], ascending."""
    items: Floats
    """float32 [n, M, d]"""
    network: Floats
    """float32 [n, t]"""
    more: Floats
    """float32 [n, k], what else a client needs to take its mixture."""

    def part(self, places: Longs) -> Mixtures:
        """Those of some of the clients."""
        clients, items, network = (self.clients[places], self.items[places], self.network[places])
        return Mixtures(clients, items, network, self.more[places])


class MixedTables(OwnTables):
    """Own tables; a share of the clients, drawn anew each round, is mixed with each other."""

    mixed: float
    """That share."""
    more_up: tuple[int, int] = (0, 0)
    """The shape of `Sent.more`."""
    more_down = 0
    """The columns of `Mixtures.more`."""

    def chosen(self, number: int) -> Longs:
        """The clients that are mixed in round `number`, ascending."""
        count = self.task.population.clients
        rng = self.task.generator(randomness.AGGREGATION, number)
        return np.sort(rng.choice(count, int(count * self.mixed), replace=False))

    def sent(self, chunk: Uploads, place: int) -> Sent:
        """On the devices: what client number `place` of the chunk sends."""
        return Sent(
            int(chunk.clients[place]),
            chunk.row_table(place),
            chunk.network[place].copy(),
            float(chunk.weight[place]),
            np.zeros((0, 0)),
        )

    def prepare(self, clients: Longs) -> int:
        """On the devices, before a round's training; the bytes that this adds to the uploads."""
        return 0

    def forget(self, clients: Longs) -> None:
        """On the devices, after it: what was taken from the last mixture holds no longer."""
        return

    @abstractmethod
    def mixtures(self, sent: Sequence[Sent]) -> Mixtures:
        """At the server: a mixture for each of these clients, two or more, ascending."""

    @abstractmethod
    def take(self, mixtures: Mixtures) -> None:
        """On the devices: take up mixtures; `clients` are places in `self.items`."""

    def mix(self, uploads: Iterator[Uploads], number: int) -> int:
        """Mix the round's chosen clients."""
        chosen = self.chosen(number)
        sent = [
            self.sent(chunk, place)
            for chunk in uploads
            for place in np.flatnonzero(np.isin(chunk.clients, chosen)).tolist()
        ]
        self.forget(np.arange(len(self.items)))
        if len(sent) < 2:
            return 0
        self.take(self.mixtures(sent))
        return len(sent)

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Train the round's clients, here or where they are, then mix."""
        if self.task.fleet is not None:
            return self._round_elsewhere(number)
        more = self.prepare(np.arange(len(self.items)))
        report = super().round(number, watch)
        return RoundReport(report.loss, report.clients, report.up + more, report.down)

    def _round_elsewhere(self, number: int) -> RoundReport:
        """The server's part; up go the whole tables of those that are mixed, and no other rows."""
        fleet = self.task.fleet
        assert fleet is not None
        clients = self.task.sample(self.share, number)
        sent = fleet.tables(self, number, clients)
        mixtures = self.mixtures(sent) if len(sent) > 1 else None
        fleet.hand(number, mixtures)
        down = 0
        if mixtures is not None:
            down = mixtures.items.nbytes + mixtures.network.nbytes
        up = sum(one.nbytes for one in sent)
        return RoundReport(fleet.loss(), fleet.took_part(), up, down)
