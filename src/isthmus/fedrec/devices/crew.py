"""The server's side of rounds on devices, whatever carries the messages: asks, checks, adds up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import BadMessage, JobError, NotFinite
from isthmus.fedrec.algorithms._one_round import OneRound, Words, WordSum
from isthmus.fedrec.algorithms.fedca_sketched import SketchedFedCA
from isthmus.fedrec.copied_tables import Blend, CopiedTables
from isthmus.fedrec.devices import copying, grouping, mixing, one_round
from isthmus.fedrec.devices.carrier import Carrier, Collector, Request
from isthmus.fedrec.devices.masking import Adding, unpacked
from isthmus.fedrec.devices.notes import RoundNotes, too_few
from isthmus.fedrec.devices.parts import Census
from isthmus.fedrec.devices.summing import ShardSums
from isthmus.fedrec.devices.wire import (
    LARGEST,
    MESSAGE_LIMIT,
    Answer,
    Array,
    Arrays,
    Ask,
    Shard,
    check_counts,
    check_loss,
    joined,
    pack_scoring,
    pack_work,
)
from isthmus.fedrec.engine import Work
from isthmus.fedrec.evaluate import CUTS
from isthmus.fedrec.method import Arrays as State
from isthmus.fedrec.method import Method, Score
from isthmus.fedrec.mixed_tables import MixedTables, Mixtures, Sent
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy.secure_wire import Keys
from isthmus.fedrec.protocols import PARTS, EvalProtocol, Part, fewer_drawn
from isthmus.fedrec.shared_table import LOSS_UNIT, SharedTable
from isthmus.fedrec.uploads import Tables, Uploads

Say = Callable[[str], None]


@dataclass(eq=False)
class Crew:
    """Clients on devices, as methods (`Fleet`) and the run (`Judge`) want them."""

    carrier: Carrier
    census: Census
    protocols: tuple[EvalProtocol, ...]
    min_clients: int = 1
    """Fewer in a round (or fewer than all that were wanted, if that is less) end the run."""
    keep_every: int = 10
    ready: Callable[[int], None] = lambda number: None
    """Called before each round: may wait for shards."""
    notes: list[RoundNotes] = field(default_factory=list)
    masked: bool = False
    """Shards are added up under masks."""
    resumable: Callable[[], bool] = lambda: False
    """Whether there is a checkpoint to go on from."""
    judging: bool = True
    wall: float = 0.0
    cpu: float = 0.0
    kept: State = field(default_factory=dict)
    sums: dict[str, Words] = field(default_factory=dict)
    """Sums of words that were opened under masks: shards give each once."""
    units: int = 0
    """The sum of the last round's losses."""
    trained_by: dict[str, Longs] = field(default_factory=dict)
    """Shards that trained in the last round, with their clients; where tables are mixed with those
    that are."""
    _judged: dict[str, Longs] = field(default_factory=dict)
    _seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        self.begin()

    def train(
        self, method: SharedTable | CopiedTables, work: Work, clients: Longs
    ) -> Iterator[Uploads]:
        """See `Fleet.train`.

        Raises:
            JobError: what one shard is to be sent is more than a message holds.
            TrainError: too few took part.
        """
        self.ready(work.number)
        note = RoundNotes(work.number, len(clients))
        self.notes.append(note)
        ask = self._training(method, work.number)
        collectors: dict[str, _Trained] = {}
        requests: dict[str, Request] = {}
        for name, own in self.carrier.present().items():
            asked = np.intersect1d(own, clients, assume_unique=True)
            if len(asked):
                vectors = isinstance(method, SharedTable) and method.sends_vectors
                shard = Shard(own, self.census.items, method.model.sizes, vectors)
                keys = self._keys() if ask.judge else []
                kind = _Keyed if self.masked else _Trained
                collectors[name] = kind(shard, asked, work.tables, keys)
                arrays = _work_of(method, work, asked)
                requests[name] = Request(ask, _sendable(arrays, name, asked), collectors[name])
        _, note.left_out = self._asked(requests)
        found = {name: one for name, one in collectors.items() if name not in note.left_out}
        self.units = sum(one.units for one in found.values())
        self.trained_by = {name: one.trained for name, one in found.items()}
        whole = joined([chunk for one in found.values() for chunk in one.chunks])
        note.trained = 0 if whole is None else len(whole.clients)
        for one in found.values() if ask.judge else ():
            self._take(one.counts, one.trained)
        note.absent = len(clients) - sum(len(one.asked) for one in collectors.values())
        self.enough(note)
        if whole is None:
            return
        if self.masked:
            sealed = self._sealed(note, found)
            whole = replace(whole, weight=np.full(len(whole.clients), np.nan), sealed=sealed)
        yield whole

    def _training(self, method: SharedTable | CopiedTables, number: int) -> Ask:
        if not isinstance(method, SharedTable):
            # Clients are judged, and keep their state, when they have taken what they are given.
            return Ask(kind="train", number=number)
        judge = method.judged == "trained" and self.judging
        return Ask(kind="train", number=number, judge=judge, keep=number % self.keep_every == 0)

    def _sealed(self, note: RoundNotes, found: dict[str, _Trained]) -> ShardSums:
        """What adds these shards up; then the round counts those that are in the sum."""

        def settle(survivors: set[str], lost: dict[str, str]) -> None:
            note.left_out |= lost
            some = [one for name, one in found.items() if name in survivors]
            self.units = sum(one.units for one in some)
            note.trained = sum(one.count for one in some)
            self.enough(note)

        keys = {name: one.keys_sent for name, one in found.items() if one.count}
        return ShardSums(Adding(self.carrier, note.number, keys), settle)

    def loss(self) -> float | None:
        """See `Fleet.loss`."""
        trained = self.notes[-1].trained if self.notes else 0
        return self.units * LOSS_UNIT / trained if trained else None

    def words(self, one: WordSum, number: int = 1) -> Words:
        """See `Fleet.words`. Raises JobError, TrainError: see `one_round.words`."""
        return one_round.words(self, one, number)

    def gains(self, candidates: Iterator[State], clients: Longs) -> list[int]:
        """See `Fleet.gains`. Raises TrainError where nobody judges."""
        return one_round.gains(self, candidates, clients)

    def tables(self, method: MixedTables, number: int, clients: Longs) -> list[Sent]:
        """See `Fleet.tables`. Raises TrainError where too few took part."""
        return mixing.tables(self, method, number, clients)

    def hand(self, number: int, mixtures: Mixtures | None) -> None:
        """See `Fleet.hand`. Raises JobError where a message cannot hold them."""
        mixing.hand(self, number, mixtures)

    def give(self, number: int, found: Blend) -> None:
        """See `Fleet.give`."""
        copying.give(self, number, found)

    def by_groups(self, method: SketchedFedCA, number: int) -> tuple[int, int]:
        """See `Fleet.by_groups`. Raises JobError, TrainError: see `grouping.by_groups`."""
        return grouping.by_groups(self, method, number)

    def remarks(self) -> list[str]:
        """Protocols for which no client can have enough items to draw."""
        # A client that is judged has two items or more itself.
        items, clients = self.census.items, self.census.clients
        return [
            sentence
            for one in self.protocols
            if one.candidates is not None and items - 2 < one.candidates
            for sentence in fewer_drawn(one, clients, clients)
        ]

    def took_part(self) -> int:
        """See `Fleet.took_part`."""
        return self.notes[-1].trained if self.notes else 0

    def begin(self) -> None:
        """Forget the last round's judging."""
        self.wall, self.cpu = 0.0, 0.0
        self._seen = np.zeros(self.census.clients, np.bool_)
        self._judged = {key: np.zeros(CUTS[-1] + 1, np.int64) for key in self._keys()}

    def watch(self, clients: Longs, score: Score) -> None:
        """Nothing: clients that are judged in the middle of a round do so at home."""

    def finish(self, method: Method) -> None:
        """Have all clients that are there judged at home."""
        wall, cpu = time.perf_counter(), time.process_time()
        requests = {}
        number = self.notes[-1].number if self.notes else 0
        for name, own in self.carrier.present().items():
            rest = own[~self._seen[own]]
            if not len(rest):
                continue
            if isinstance(method, SharedTable):
                packed = pack_scoring(method.scoring(), rest) | _moved(method, rest)
                arrays: Mapping[str, Array] = _sendable(packed, name, rest)
            elif isinstance(method, OwnTables):
                arrays = {"clients": rest}
            else:
                assert isinstance(method, OneRound)
                arrays = method.taught() | {"clients": rest}
            collector = _Judged(self._keys(), rest)
            requests[name] = Request(Ask(kind="judge", number=number), arrays, collector)
        came, left_out = self._asked(requests)
        for name, why in left_out.items():
            self.notes[-1].left_out.setdefault(name, f"not judged: {why}")
        for one in came:
            if isinstance(one, _Judged):
                self._take(one.counts, one.clients)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def counts(self, protocol: str, part: Part) -> Longs:
        """See `Judge.counts`."""
        return self._judged[f"{protocol}.{part}"]

    def keep(self, protocol: str) -> None:
        """Nothing: ranks of single clients stay with them."""

    def _take(self, counts: dict[str, Longs], clients: Longs) -> None:
        for key, found in counts.items():
            self._judged[key] += found
        self._seen[clients] = True

    def _keys(self) -> list[str]:
        return [f"{one.name}.{part}" for one in self.protocols for part in PARTS]

    def enough(self, note: RoundNotes) -> None:
        """Raises TrainError: too few clients took part in a round."""
        if note.trained < min(self.min_clients, note.wanted):
            raise too_few(note, self.min_clients, resumable=self.resumable())

    def _asked(self, requests: dict[str, Request]) -> tuple[list[Collector], dict[str, str]]:
        left_out = self.carrier.ask(requests)
        return [one.collector for name, one in requests.items() if name not in left_out], left_out


def _work_of(method: SharedTable | CopiedTables, work: Work, clients: Longs) -> dict[str, Array]:
    """What these clients are sent to train with."""
    if isinstance(method, SharedTable):
        return pack_work(work, clients) | _moved(method, clients)
    return {"clients": clients, **method.news()}


def _moved(method: SharedTable, clients: Longs) -> dict[str, Array]:
    """Users' vectors that the server has changed."""
    return {"user": method.user[clients]} if method.moves_vectors else {}


def _sendable(arrays: dict[str, Array], name: str, clients: Longs) -> dict[str, Array]:
    if sum(one.nbytes for one in arrays.values()) > MESSAGE_LIMIT:
        raise JobError(
            f"what the {len(clients)} clients of {name} are sent is more than a message holds",
            mend="Take more shards, each with fewer clients.",
        )
    for one in arrays.values():
        # NaN is not below anything.
        if one.dtype == np.float32 and one.size and not float(np.abs(one).max()) <= LARGEST:
            raise NotFinite(
                "what the server has made of what it was sent holds NaN, infinity or a number "
                f"above {LARGEST:g}, which no shard takes",
                mend="Lower the rates; or one of the shards sends wrong numbers, which an "
                "aggregator such as trimmed means withstands.",
            )
    return arrays


def _same(answer: Answer, kind: str) -> None:
    if answer.kind != kind:
        raise BadMessage(f"it answered {answer.kind} where {kind} was asked")


@dataclass(eq=False)
class _Trained:
    shard: Shard
    asked: Longs
    starts: Tables
    keys: list[str]
    chunks: list[Uploads] = field(default_factory=list)
    counts: dict[str, Longs] = field(default_factory=dict)
    units: int = 0
    after: int = -1
    count: int = 0
    keys_sent: bytes = b""

    @property
    def trained(self) -> Longs:
        """The clients that did."""
        return np.concatenate([np.zeros(0, np.int64), *(one.clients for one in self.chunks)])

    def add(self, answer: Answer, arrays: Arrays) -> None:
        _same(answer, "train")
        if answer.last:
            self.units = check_loss(answer.loss, self.count)
            self.counts = {key: check_counts(arrays, key, self.count) for key in self.keys}
            return
        chunk = self.shard.uploads(arrays, self.asked, self.after, self.starts)
        if not len(chunk.clients):
            raise BadMessage("a message without clients")
        self.after = int(chunk.clients[-1])
        self.count += len(chunk.clients)
        self.chunks.append(chunk)


@dataclass(eq=False)
class _Keyed(_Trained):
    """What a shard sends first under masks: who trained, and its keys of the sum."""

    def add(self, answer: Answer, arrays: Arrays) -> None:
        _same(answer, "train")
        if not answer.last:
            raise BadMessage("it sent rows where a sum under masks was asked")
        self.shard.places(arrays)
        clients: Longs = np.array(arrays["clients"])
        if not np.isin(clients, self.asked).all():
            raise BadMessage("clients were not asked to train in this round")
        self.count = len(clients)
        self.units = check_loss(answer.loss, self.count)
        self.counts = {key: check_counts(arrays, key, self.count) for key in self.keys}
        self.keys_sent = Keys.unpack(unpacked(arrays)).pack()
        self.chunks.append(self.shard.nothing(clients, self.starts))


@dataclass(eq=False)
class _Judged:
    keys: list[str]
    clients: Longs
    counts: dict[str, Longs] = field(default_factory=dict)

    def add(self, answer: Answer, arrays: Arrays) -> None:
        _same(answer, "judge")
        self.counts = {key: check_counts(arrays, key, len(self.clients)) for key in self.keys}
