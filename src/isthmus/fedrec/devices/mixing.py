"""The server's side of methods that mix clients' own tables, on devices.

Tables of the clients that are mixed go up whole, in the clear: the server compares them. Those of
the others stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec.devices.carrier import Request
from isthmus.fedrec.devices.notes import RoundNotes
from isthmus.fedrec.devices.wire import (
    LARGEST,
    MESSAGE_LIMIT,
    Answer,
    Array,
    Arrays,
    Ask,
    check_loss,
    numbers,
    places_of,
    taken,
)
from isthmus.fedrec.mixed_tables import MixedTables, Mixtures, Sent
from isthmus.fedrec.population import Longs

if TYPE_CHECKING:
    from isthmus.fedrec.devices.crew import Crew


def tables(crew: Crew, method: MixedTables, number: int, clients: Longs) -> list[Sent]:
    """What the clients send that are mixed in round `number`, see `Fleet.tables`.

    Raises:
        TrainError: too few took part.
    """
    crew.ready(number)
    note = RoundNotes(number, len(clients))
    crew.notes.append(note)
    chosen = np.intersect1d(clients, method.chosen(number))
    ask, found, requests = Ask(kind="train", number=number), {}, {}
    there = crew.carrier.present()
    for name, own in there.items():
        asked = np.intersect1d(own, clients, assume_unique=True)
        if len(asked):
            mixed = np.intersect1d(asked, chosen, assume_unique=True)
            found[name] = _Tables(method, asked, mixed)
            arrays = {"clients": asked, "mixed": mixed}
            requests[name] = Request(ask, arrays, found[name])
    note.left_out = crew.carrier.ask(requests)
    note.absent = len(clients) - sum(len(one.asked) for one in found.values())
    came = {name: one for name, one in found.items() if name not in note.left_out}
    note.trained = sum(len(one.asked) for one in came.values())
    crew.units = sum(one.units for one in came.values())
    crew.trained_by = {name: one.mixed for name, one in came.items()}
    crew.enough(note)
    return sorted((one for it in came.values() for one in it.sent), key=lambda one: one.client)


def hand(crew: Crew, number: int, mixtures: Mixtures | None) -> None:
    """Give each client of the round its mixture, see `Fleet.hand`.

    A shard that is lost here keeps its clients' tables as they were trained.

    Raises:
        JobError: those for one shard are more than a message holds.
    """
    note, requests = crew.notes[-1], {}
    ask = Ask(kind="mix", number=number, keep=number % crew.keep_every == 0)
    for name, mixed in crew.trained_by.items():
        arrays: dict[str, Array] = {}
        if mixtures is not None:
            own = mixtures.part(np.flatnonzero(np.isin(mixtures.clients, mixed)))
            arrays = {
                "clients": own.clients, "items": own.items, "network": own.network,
                "more": own.more,
            }  # fmt: skip
            if own.items.nbytes > MESSAGE_LIMIT:
                raise JobError(
                    f"the tables of {len(own.clients)} clients of {name} are more than a message "
                    "holds",
                    mend="Take more shards, or mix fewer clients: --set mixed=0.05.",
                )
        requests[name] = Request(ask, arrays, Taken())
    for name, why in crew.carrier.ask(requests).items():
        note.left_out.setdefault(name, f"did not take its mixtures: {why}")


@dataclass(eq=False)
class _Tables:
    """The tables that a shard sends of its clients that are mixed."""

    method: MixedTables
    asked: Longs
    mixed: Longs
    sent: list[Sent] = field(default_factory=list)
    units: int = 0

    def add(self, answer: Answer, arrays: Arrays) -> None:
        if answer.kind != "train":
            raise BadMessage(f"it answered {answer.kind} where train was asked")
        if answer.last:
            if len(self.sent) != len(self.mixed):
                raise BadMessage("tables of clients that are to be mixed are missing")
            self.units = check_loss(answer.loss, len(self.asked))
            return
        first = len(self.sent)
        clients: Longs = taken(arrays, "clients", np.int64, (-1,))
        if not len(clients) or not np.array_equal(
            clients, self.mixed[first : first + len(clients)]
        ):
            raise BadMessage("it sent tables of clients that were not asked, or out of order")
        self.sent += self._read(arrays, clients)

    def _read(self, arrays: Arrays, clients: Longs) -> list[Sent]:
        count, initial = len(clients), self.method.model.initial
        items = numbers(arrays, "items", (count, *initial.items.shape))
        network = numbers(arrays, "network", (count, len(initial.network)))
        weight = taken(arrays, "weight", np.float64, (count,))
        if not ((weight >= 0) & (weight <= len(initial.items))).all():
            raise BadMessage("a client's number of training items is impossible")
        more = taken(arrays, "more", np.float64, (count, *self.method.more_up))
        # Sums over a client's rows and samples of products of their numbers.
        if more.size and not float(np.abs(more).max()) <= LARGEST**3:
            raise BadMessage("more holds NaN, infinity or a number that is too large")
        return [
            Sent(client, np.array(items[k]), np.array(network[k]), float(weight[k]),
                 np.array(more[k]))
            for k, client in enumerate(clients.tolist())
        ]  # fmt: skip


@dataclass(eq=False)
class Taken:
    """That a shard's clients have taken what they were given."""

    def add(self, answer: Answer, arrays: Arrays) -> None:
        """Raises BadMessage where it does not say so."""
        if answer.kind != "mix" or not answer.last or arrays:
            raise BadMessage("it did not say that it took what it was given")


def read_mixtures(method: MixedTables, arrays: Arrays, own: Longs, mixed: Longs) -> Mixtures:
    """At the shard: what its clients are to take, by their places.

    Args:
        method: the shard's.
        arrays: what `hand` sends.
        own: the shard's clients.
        mixed: places of those that sent their tables in this round.

    Raises:
        BadMessage: it is not for these clients, or of another shape.
    """
    places = places_of(own, arrays)
    if not np.isin(places, mixed).all():
        raise BadMessage("the server mixes clients that have not sent their tables")
    count, initial = len(places), method.model.initial
    items = numbers(arrays, "items", (count, *initial.items.shape))
    network = numbers(arrays, "network", (count, len(initial.network)))
    more = numbers(arrays, "more", (count, method.more_down))
    if (more < 0).any():
        raise BadMessage("more holds a number below 0")
    return Mixtures(places, np.array(items), np.array(network), np.array(more))
