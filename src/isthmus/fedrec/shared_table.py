"""Methods whose clients begin each round from the server's parameters: client step x aggregator.

State is one item table and the clients' vectors; no table a client is ever laid out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import engine
from isthmus.fedrec.engine import Candidates, Work
from isthmus.fedrec.method import Arrays, Method, RoundReport, Score, Watch
from isthmus.fedrec.population import Floats, Longs, offsets
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.uploads import Aggregator, Reference, Sealed, Shared, Tables, Uploads

if TYPE_CHECKING:
    from isthmus.fedrec.algorithms._one_round import WordSum

Judged = Literal["aggregated", "trained"]
"""Whether clients are judged with the server's new parameters or with their own as trained."""


@dataclass(frozen=True, eq=False)
class Scoring:
    """What clients are judged with after a round."""

    work: Work
    beside: Mapping[str, Tables] = field(default_factory=dict)
    """Further tables of the server's that their scores take."""
    trained: Sequence[Uploads] = ()
    """What clients sent in the round, where they keep it."""


class SharedTable(Method):
    """Each round: sampled clients train from the shared parameters, the aggregator makes new ones.

    To vary it, give an own `aggregator`, or override `tables` (what each client begins from),
    `reference` (what it is pulled to), `extra` (constants of the gradient), or `scoring` and
    `scored` (what it is judged with, and how). What is done to uploads before the server sees them
    are the task's guards. Clients may be elsewhere: then `user` and `own` are theirs.
    """

    takes_guards = masks_sums = True
    sends_vectors: ClassVar[bool] = False
    """Whether users' vectors leave the device: the server then has them, in `user`."""
    moves_vectors: ClassVar[bool] = False
    """Whether the server changes them: clients begin from, and score with, what it sends."""
    keeps_trained: ClassVar[bool] = False
    """Whether clients keep what they sent until they have been judged, see `Scoring.trained`."""
    tables_down: ClassVar[int] = 1
    """Tables that a client is sent in a round."""

    def __init__(
        self,
        task: Task,
        model: Model,
        aggregator: Aggregator,
        *,
        share: float = 1.0,
        judged: Judged = "aggregated",
    ) -> None:
        super().__init__(task)
        self.model = model
        self.aggregator = aggregator
        self.share = share
        self.judged = judged
        count = task.population.clients
        self.shared = Shared(model.initial.items, model.initial.network)
        self.user: Floats = np.tile(model.initial.user, (count, 1))
        width = model.sizes.own
        self.own: Floats = np.zeros(
            (count, task.population.items, width) if width else (0, 0, 0), np.float32
        )

    def tables(self, number: int) -> Tables:
        """What each client begins round `number` from, and is judged with."""
        return Tables.shared(self.shared, self.task.population.clients)

    def reference(self, number: int) -> Reference | None:
        """What clients are pulled to in round `number`."""
        return None

    def extra(self, number: int) -> Floats:
        """Constants for the backbone's gradient and score in round `number`."""
        return np.zeros(0, np.float32)

    def sum_of(self, what: str) -> WordSum | None:
        """The sum over clients called `what` that the server needs beside the uploads, if any."""
        return None

    def clients(self, number: int) -> Longs:
        """The clients of round `number`, ascending."""
        return self.task.sample(self.share, number)

    def aggregate(self, uploads: Iterator[Uploads], number: int) -> None:
        """Take the round's uploads into the server's state."""
        self.shared = self.aggregator.aggregate(self.shared, uploads)

    def work(self, number: int) -> Work:
        """The client step of round `number`."""
        return Work(
            self.tables(number), self.user, number, self.own, self.reference(number),
            self.extra(number),
        )  # fmt: skip

    def round(self, number: int, watch: Watch) -> RoundReport:
        """Train the round's clients and aggregate what they send."""
        work, tally = self.work(number), Tally()
        clients = self.clients(number)

        def stream() -> Iterator[Uploads]:
            for chunk in self._trained(work, clients):
                if self.judged == "trained" and self.task.fleet is None:
                    for some, score in self.as_trained(work, chunk):
                        watch(some, score)
                if self.sends_vectors:
                    self.user[chunk.clients] = chunk.user
                for part in self._pieces(chunk):
                    sent = self.task.guarded(part, number)
                    tally.add(part.loss, sent)
                    yield sent

        uploads = stream()
        self.aggregate(self._sealed(uploads, number, tally), number)
        # An aggregator that stops early must not leave clients untrained.
        for _ in uploads:
            pass
        if tally.sealed is not None and not tally.sealed.used:
            raise JobError(
                "the aggregator looks at clients' uploads, which a secure sum hides",
                mend="Add them up with `Sums`.",
            )
        fleet = self.task.fleet
        loss = tally.mean if fleet is None else fleet.loss()
        # Of devices under masks some may have been lost since they trained.
        trained = tally.clients if fleet is None else fleet.took_part()
        table = self.shared.items.nbytes + self.shared.network.nbytes
        down = tally.clients * self.tables_down * table
        up = tally.up if tally.sealed is None else tally.sealed.up
        up += trained * self.user[0].nbytes if self.sends_vectors else 0
        return RoundReport(loss, trained, up, down)

    def _trained(self, work: Work, clients: Longs) -> Iterator[Uploads]:
        """The round's uploads, from here or from where the clients are."""
        fleet = self.task.fleet
        if fleet is None:
            return engine.train(self.task, self.model, work, clients)
        return fleet.train(self, work, clients)

    def as_trained(self, work: Work, chunk: Uploads) -> Iterator[tuple[Longs, Score]]:
        """On the devices: clients of the chunk, with the score of what they have just trained."""
        yield chunk.clients, Trained(self, work, chunk)

    def _pieces(self, chunk: Uploads) -> Iterator[Uploads]:
        """The chunk; before guards, which may add all rows, in pieces that fit the memory."""
        step = max(1, self.task.memory // (4 * self.shared.items.nbytes))
        if not self.task.guards or len(chunk.clients) <= step:
            yield chunk
            return
        for first in range(0, len(chunk.clients), step):
            yield part_of(chunk, chunk.clients[first : first + step])

    def _sealed(self, uploads: Iterator[Uploads], number: int, tally: Tally) -> Iterator[Uploads]:
        """The uploads as the server gets them: under a secure sum one, without rows."""
        if self.task.sealing is None:
            yield from uploads
            return
        chunks = list(uploads)
        if not chunks:
            return
        whole = self.task.sealing.seal(chunks, number)
        assert whole.sealed is not None
        tally.sealed = whole.sealed
        yield whole

    def score(self, clients: Longs, candidates: Candidates) -> Floats:
        """The scores with the parameters after the last round."""
        return self.scored(self.scoring(), clients, candidates)

    def scoring(self) -> Scoring:
        """What clients are judged with after the round."""
        return Scoring(self.work(0))

    def scored(self, scoring: Scoring, clients: Longs, candidates: Candidates) -> Floats:
        """On the devices: as `score`, with what the server sent."""
        return engine.score(self.task, self.model, scoring.work, clients, candidates)

    def state(self) -> Arrays:
        """Shared parameters, the clients' vectors and own rows."""
        return {
            "shared.items": self.shared.items,
            "shared.network": self.shared.network,
            "user": self.user,
            "own": self.own,
        }

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        self.shared = Shared(state["shared.items"], state["shared.network"])
        self.user, self.own = state["user"], state["own"]


class Trained:
    """Scores with a chunk's parameters as trained."""

    def __init__(self, method: SharedTable, work: Work, chunk: Uploads) -> None:
        self._method, self._work, self._chunk = method, work, chunk

    def __call__(self, clients: Longs, candidates: Candidates) -> Floats:
        """As `Score`, of clients of the chunk."""
        method = self._method
        chunk = part_of(self._chunk, clients)
        return engine.score(method.task, method.model, self._work, clients, candidates, chunk)


def part_of(chunk: Uploads, clients: Longs) -> Uploads:
    """The uploads of `clients`, some of the chunk's, ascending."""
    if len(clients) == len(chunk.clients):
        return chunk
    places = np.searchsorted(chunk.clients, clients)
    counts = np.diff(chunk.indptr)[places]
    indptr = offsets(counts)
    rows = np.repeat(chunk.indptr[places] - indptr[:-1], counts) + np.arange(indptr[-1])
    # From devices neither counts nor losses come.
    counted = chunk.counts[rows] if len(chunk.counts) else chunk.counts
    loss = chunk.loss[places] if len(chunk.loss) else chunk.loss
    return Uploads(
        clients, indptr, chunk.items[rows], chunk.rows[rows], chunk.network[places],
        chunk.weight[places], chunk.starts, chunk.user[places], counted, loss,
    )  # fmt: skip


LOSS_UNIT = 2.0**-24
"""Losses are added up in whole numbers of this, so that the sum is the same in any order."""
_LOSS_LIMIT = 2.0**18


def loss_units(loss: Floats) -> int:
    """The sum of clients' losses in `LOSS_UNIT`; each counts for at most 2^18, either way."""
    units = np.rint(np.clip(loss.astype(np.float64), -_LOSS_LIMIT, _LOSS_LIMIT) / LOSS_UNIT)
    return int(units.astype(np.int64).sum())


class Tally:
    """Adds up losses and bytes over a round's chunks."""

    def __init__(self) -> None:
        self.up = 0
        self.clients = 0
        self.sealed: Sealed | None = None
        self._units = 0

    def add(self, loss: Floats, sent: Uploads) -> None:
        """Count a chunk: touched rows with their item numbers, and the networks."""
        self.up += sent.rows.nbytes + sent.items.nbytes + sent.network.nbytes
        self.clients += len(sent.clients)
        self.sealed = sent.sealed
        self._units += loss_units(loss)

    @property
    def mean(self) -> float | None:
        """The mean loss, the same however the chunks are cut."""
        return self._units * LOSS_UNIT / self.clients if self.clients else None
