"""What the server makes of all clients' tables, on its way to those that take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isthmus.errors import BadMessage
from isthmus.fedrec.copied_tables import Blend, CopiedTables
from isthmus.fedrec.devices.carrier import Request
from isthmus.fedrec.devices.mixing import Taken
from isthmus.fedrec.devices.wire import Array, Arrays, Ask, numbers, places_of
from isthmus.fedrec.population import Longs

if TYPE_CHECKING:
    from isthmus.fedrec.devices.crew import Crew


def give(crew: Crew, number: int, found: Blend) -> None:
    """Give each client of the round what it takes, see `Fleet.give`.

    All shards that trained are told, so that they know that what they sent has come. One that is
    lost here keeps its clients' tables as trained, and sends them whole the next time.
    """
    note, requests = crew.notes[-1], {}
    ask = Ask(kind="mix", number=number, keep=number % crew.keep_every == 0)
    for name, trained in crew.trained_by.items():
        own = np.intersect1d(found.clients, trained, assume_unique=True)
        arrays: dict[str, Array] = {"clients": own, "table": found.table} if len(own) else {}
        requests[name] = Request(ask, arrays, Taken())
    for name, why in crew.carrier.ask(requests).items():
        note.left_out.setdefault(name, f"did not take its table: {why}")


def read_blend(method: CopiedTables, arrays: Arrays, own: Longs, trained: Longs) -> Blend:
    """At the shard: what its clients are to take, by their places.

    Args:
        method: the shard's.
        arrays: what `give` sends.
        own: the shard's clients.
        trained: places of those that trained in this round.

    Raises:
        BadMessage: it is not for these clients, or of another shape.
    """
    places = places_of(own, arrays)
    if not np.isin(places, trained).all():
        raise BadMessage("the server sends a table to clients that have not trained")
    shape = (len(method.model.initial.items), method.width)
    return Blend(places, np.array(numbers(arrays, "table", shape)))
