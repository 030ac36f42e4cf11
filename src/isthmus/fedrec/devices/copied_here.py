"""A shard's side of methods whose server holds a copy of each client's table.

The server puts the rows that it is sent into its copies. A client whose last rows may not have come
there, or whose table it cannot know, sends its whole table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import BadMessage
from isthmus.fedrec import engine
from isthmus.fedrec.copied_tables import CopiedTables
from isthmus.fedrec.devices.copying import read_blend
from isthmus.fedrec.devices.wire import MESSAGE, Answer, Array, Arrays, Ask, pack_uploads, places_of
from isthmus.fedrec.population import Floats, Ints, Longs, offsets
from isthmus.fedrec.shared_table import loss_units, part_of
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads


class CopiedHere:
    """The clients of a part, each with a table that the server has a copy of.

    Args:
        method: holds their tables.
        drawing: the task with the seed that clients draw with, and with the guards.
        clients: their numbers in the whole population.
    """

    def __init__(self, method: CopiedTables, drawing: Task, clients: Longs) -> None:
        self.method, self._drawing, self._clients = method, drawing, clients
        self._trained: tuple[int, Longs] = (0, clients[:0])
        # Whose table the server knows as it is here.
        self._known = np.zeros(len(clients), np.bool_)
        self._step = max(1, MESSAGE // method.model.initial.items.nbytes)

    def train(self, ask: Ask, arrays: Arrays) -> Iterator[tuple[Answer, dict[str, Array]]]:
        """Train, and send the touched rows, or whole tables where the server's copies may differ.

        Raises:
            BadMessage: clients are not ours, or the server's news cannot be.
            NotFinite: training diverged.
        """
        method, units = self.method, 0
        places = places_of(self._clients, arrays)
        method.hear(arrays)
        # Before the first round the server has what all begin from. What guards have changed it
        # could not complete: its copies hold guarded rows alone.
        self._known |= ask.number == 1
        whole = ~self._known if not self._drawing.guards else np.ones(len(self._known), np.bool_)
        self._known[places] = False
        for chunk in engine.train(self._drawing, method.model, method.work(ask.number), places):
            units += loss_units(chunk.loss)
            for part in self._parts(self._drawing.guarded(chunk, ask.number), whole):
                named = replace(part, clients=self._clients[part.clients])
                yield Answer(kind="train", number=ask.number, last=False), pack_uploads(named)
            # Only now: `chunk.starts` are these tables before the round.
            method.put(chunk)
        self._trained = ask.number, places
        yield Answer(kind="train", number=ask.number, last=True, loss=units), {}

    def _parts(self, chunk: Uploads, whole: NDArray[np.bool_]) -> Iterator[Uploads]:
        if not whole[chunk.clients].any():
            yield chunk
            return
        for first in range(0, len(chunk.clients), self._step):
            some = chunk.clients[first : first + self._step]
            yield filled(part_of(chunk, some), whole[some])

    def take(self, ask: Ask, arrays: Arrays) -> None:
        """Take what the server made of all tables; from then on it knows ours.

        Raises:
            BadMessage: it is of another round, or not ours.
        """
        number, trained = self._trained
        if ask.number != number:
            raise BadMessage("the server sends a table of a round that was not trained")
        self._trained = 0, trained[:0]
        if arrays:
            self.method.take(read_blend(self.method, arrays, self._clients, trained))
        self._known[trained] = True


def filled(chunk: Uploads, whole: NDArray[np.bool_]) -> Uploads:
    """The chunk with all rows of those clients for which `whole`, bool [n], is true."""
    items: list[Ints] = []
    rows: list[Floats] = []
    for place, every in enumerate(whole):
        own = slice(chunk.indptr[place], chunk.indptr[place + 1])
        if every:
            rows.append(chunk.row_table(place))
            items.append(np.arange(len(rows[-1]), dtype=np.int32))
        else:
            rows.append(chunk.rows[own])
            items.append(chunk.items[own])
    indptr = offsets(np.array([len(one) for one in items], np.int64))
    return replace(chunk, indptr=indptr, items=np.concatenate(items), rows=np.concatenate(rows))
