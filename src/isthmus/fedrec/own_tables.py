"""Methods whose clients keep a whole item table of their own: one array [U, M, d] in memory."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import engine
from isthmus.fedrec.engine import Candidates, Work
from isthmus.fedrec.kernels.sums import put_rows
from isthmus.fedrec.method import Arrays, Method, RoundReport, Watch
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.shared_table import Tally
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Reference, Tables, Uploads


class OwnTables(Method):
    """Each round all sampled clients train their own tables on; then `mix` changes some of them.

    All clients begin from the same table. `items` float32 [U, M, d] and `network` [U, t] hold the
    tables; when `mix` has gone through the uploads they hold what was trained. They are on the
    devices: a client may blend its own with what it is sent, but what the server makes of other
    clients' tables it must take from the uploads, which the guards have been through.
    """

    takes_guards = True

    def __init__(self, task: Task, model: Model, *, share: float = 1.0) -> None:
        super().__init__(task)
        self.model, self.share = model, share
        # A server whose clients are elsewhere holds no table of theirs.
        count, initial = 0 if task.fleet else task.population.clients, model.initial
        see_fits(count * initial.items.nbytes)
        self.items: Floats = np.empty((count, *initial.items.shape), np.float32)
        self.items[:] = initial.items
        self.network: Floats = np.tile(initial.network, (count, 1))
        self.user: Floats = np.tile(initial.user, (count, 1))

    @abstractmethod
    def mix(self, uploads: Iterator[Uploads], number: int) -> int:
        """The server's side of round `number`: change `items` and `network` of some clients.

        Returns how many clients were sent a table.
        """

    def reference(self, number: int) -> Reference | None:
        """What clients are pulled to in round `number`."""
        return None

    def extra(self, number: int) -> Floats:
        """Constants for the backbone's gradient and score in round `number`."""
        return np.zeros(0, np.float32)

    def work(self, number: int) -> Work:
        """The client step of round `number`."""
        tables = Tables.personal(self.items, self.network)
        return Work(
            tables, self.user, number, reference=self.reference(number), extra=self.extra(number)
        )

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Train the round's clients, then mix."""
        tally, work = Tally(), self.work(number)
        clients = self.task.sample(self.share, number)

        def stream() -> Iterator[Uploads]:
            for chunk in engine.train(self.task, self.model, work, clients):
                sent = self.task.guarded(chunk, number)
                tally.add(chunk.loss, sent)
                yield sent
                # Only now: `sent.starts` are these tables before the round.
                self.put(chunk)

        uploads = stream()
        told = self.mix(uploads, number)
        for _ in uploads:
            pass
        down = told * (self.items[0].nbytes + self.network[0].nbytes)
        return RoundReport(tally.mean, len(clients), tally.up, down)

    def put(self, chunk: Uploads) -> None:
        """Have these clients' tables, or a server's copies of them, as they were trained."""
        put_rows(self.items, chunk.clients, chunk.indptr, chunk.items, chunk.rows)
        self.network[chunk.clients] = chunk.network

    def score(self, clients: Longs, candidates: Candidates) -> Floats:
        """The scores with each client's own table."""
        return engine.score(self.task, self.model, self.work(0), clients, candidates)

    def state(self) -> Arrays:
        """Tables, networks and the clients' vectors."""
        return {"items": self.items, "network": self.network, "user": self.user}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.items, self.network, self.user = state["items"], state["network"], state["user"]


def see_fits(size: int) -> None:
    """See that this machine's memory can hold so many bytes of clients' item tables.

    Raises:
        JobError: it cannot.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return
    if size > 0.8 * memory:
        raise JobError(
            f"an item table for each client takes {size / 1e9:.0f} GB, this machine has "
            f"{memory / 1e9:.0f} GB",
            mend="Take a method with a shared table, a smaller dim, or fewer clients.",
        )
