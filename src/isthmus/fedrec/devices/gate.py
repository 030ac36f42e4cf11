"""Where shards come in: one listener, a place for each trusted shard, rounds with a deadline.

A shard may come late, leave, be killed and come back; one whose messages are wrong is refused for
the rest of the run. None of that ends the run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from isthmus import __version__
from isthmus.errors import (
    BadMessage,
    IdentityError,
    IsthmusError,
    JobError,
    PartnerAbsent,
    PartnerSlow,
)
from isthmus.fedrec.devices.carrier import Request
from isthmus.fedrec.devices.crew import Say
from isthmus.fedrec.devices.parcels import Packer
from isthmus.fedrec.devices.parts import Census, ascending
from isthmus.fedrec.devices.wire import (
    DOWN,
    UP,
    VERSION,
    Answer,
    Joining,
    Order,
    Over,
    Refused,
    read,
    taken,
)
from isthmus.fedrec.population import Longs
from isthmus.link import Deadlines, Link, Listener, Message, open_links, trusted_partners

CONTEXT = f"fedrec/{VERSION}/{__version__}"
"""What both sides of a link must hold alike."""
_POLL = 1.0
_READ = 600.0
"""Seconds that a shard may take to read what is sent to it."""
_STOP = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long the server waits for what, in seconds, and for how many."""

    round: float = 600.0
    """For the answers of a round; who has not answered by then is left out of it."""
    wait: float = 600.0
    """For enough clients to come, at the start and between rounds."""
    reconnect: float = 10.0
    """For a broken line to come back before its shard counts as gone."""
    begin_with: int | None = None
    """Clients that must be there before the first round; None: all. After `wait` it begins
    without, if there are `min_clients`."""
    min_clients: int = 1
    """Fewer in a round end the run."""


@dataclass(eq=False)
class _Pending:
    request: Request
    done: bool = False
    failed: str = ""


@dataclass(eq=False)
class _Seat:
    """One shard that is connected."""

    name: str
    link: Link
    clients: Longs
    outbox: queue.SimpleQueue[tuple[BaseModel, Mapping[str, object]] | None] = field(
        default_factory=queue.SimpleQueue
    )
    busy: _Pending | None = None


class Gate:
    """The carrier over links; use as a context.

    Args:
        folder: the server's identity folder; `me`: its name.
        listener: where shards dial.
        census: what all shards must agree on.
        order: what a shard that joins is told, made when it joins.
        shards: who may join, each with its clients, or None for any clients; None: all partners
            that are trusted.
        limits: how long to wait.
        clock: seconds that only go forward.
        say: told in sentences who comes and goes.

    Raises:
        JobError, IdentityError: see `who_may_join`.
    """

    def __init__(
        self,
        folder: Path,
        me: str,
        listener: Listener,
        census: Census,
        order: Callable[[], Order],
        *,
        shards: Mapping[str, Longs | None] | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Say = lambda text: None,
    ) -> None:
        self._folder, self._me, self._listener, self._census = folder, me, listener, census
        self._order, self._limits, self._clock, self._say = order, limits or Limits(), clock, say
        self._places = who_may_join(folder, shards)
        self._owner = np.full(census.clients, -1, np.int32)
        self._lock = threading.Condition()
        self._seats: dict[str, _Seat] = {}
        self._refused: dict[str, str] = {}
        self._closing = threading.Event()
        self.traffic: dict[str, tuple[int, int]] = {}
        """Bytes up and down of each shard, links that have ended included."""
        self._threads = [
            threading.Thread(target=self._attend, args=(name,), daemon=True, name=f"seat-{name}")
            for name in self._places
        ]

    def __enter__(self) -> Gate:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._closing.set()
        with self._lock:
            seats = list(self._seats.values())
        for seat in seats:
            if error is None:
                seat.outbox.put((Over(), {}))
                seat.outbox.put(_STOP)
            else:
                seat.link.fail(error)
        for one in self._threads:
            one.join(5 * _POLL)

    @property
    def expected(self) -> list[str]:
        """The names of the shards that may join."""
        return list(self._places)

    @property
    def refused(self) -> dict[str, str]:
        """Shards that sent what cannot be, and what it was."""
        with self._lock:
            return dict(self._refused)

    def present(self) -> dict[str, Longs]:
        """See `Carrier.present`; a shard that is late with an earlier answer is not there."""
        with self._lock:
            return {name: one.clients for name, one in self._seats.items() if one.busy is None}

    def wait_for(self, clients: int, shards: int = 1) -> int:
        """Wait until so many clients, of so many shards, can take a request; how many can then."""
        until = self._clock() + self._limits.wait

        def there() -> list[int]:
            return [len(one.clients) for one in self._seats.values() if one.busy is None]

        with self._lock:
            told = False
            while (sum(there()) < clients or len(there()) < shards) and self._clock() < until:
                if not told:
                    few = f", of {len(there())} of {shards} shards" if len(there()) < shards else ""
                    self._say(f"waiting for clients: {sum(there())} of {clients} are there{few}")
                    told = True
                self._lock.wait(0.1)
            return sum(there())

    def ask(self, requests: Mapping[str, Request]) -> dict[str, str]:
        """See `Carrier.ask`."""
        left_out: dict[str, str] = {}
        pending: dict[str, _Pending] = {}
        with self._lock:
            for name, request in requests.items():
                seat = self._seats.get(name)
                if seat is None or seat.busy is not None:
                    left_out[name] = "is gone"
                    continue
                pending[name] = seat.busy = _Pending(request)
                seat.outbox.put((request.ask, request.arrays))
            until = self._clock() + self._limits.round
            while any(not one.done and not one.failed for one in pending.values()):
                if self._clock() >= until:
                    break
                self._lock.wait(0.1)
            for name, one in pending.items():
                if not one.done:
                    late = f"had not answered after {self._limits.round:g} s"
                    left_out[name] = one.failed or late
        for name, why in left_out.items():
            self._say(f"{name} is left out: {why}")
        return left_out

    def _attend(self, name: str) -> None:
        """One shard's place, for as long as the run goes; it may come and go."""
        deadlines = Deadlines(connect=2 * _POLL, recv=_READ, reconnect=self._limits.reconnect)
        while not self._closing.is_set():
            try:
                links = open_links(
                    self._folder, self._me, {name: None}, listen=self._listener,
                    context=CONTEXT, deadlines=deadlines,
                )  # fmt: skip
            except PartnerAbsent:
                continue
            except IsthmusError as error:
                self._say(f"{name} cannot join: {error.message}")
                self._closing.wait(_POLL)
                continue
            self._serve(name, links[name])

    def _serve(self, name: str, link: Link) -> None:
        why = "has left"
        try:
            seat = self._welcome(name, link)
            if seat is None:
                return
            self._listen(seat)
        except BadMessage as error:
            why = f"was refused: {error.message}"
            with self._lock:
                self._refused[name] = error.message
            _refuse(link, error.message)
        except IsthmusError as error:
            if not self._closing.is_set():
                link.fail(error)
            why = f"is gone: {error.message}"
        finally:
            self._leave(name, link, why)

    def _welcome(self, name: str, link: Link) -> _Seat | None:
        """Read the shard's first words; None where it cannot take part."""
        message = link.recv(UP, timeout=max(30.0, 3 * self._limits.reconnect))
        joining = read(Joining, message.header, name)
        clients = np.array(taken(message.tensors, "clients", np.int64, (-1,)))
        reason = self._objection(name, joining, clients)
        if reason:
            self._say(f"{name} cannot take part: {reason}")
            _refuse(link, reason)
            return None
        seat = _Seat(name, link, clients)
        with self._lock:
            # Made with the lock held: no round may begin between the order and the seat.
            seat.outbox.put((self._order(), {}))
            self._owner[clients] = list(self._places).index(name)
            self._seats[name] = seat
            self._lock.notify_all()
        threading.Thread(target=self._send, args=(seat,), daemon=True).start()
        self._say(f"{name} takes part with {len(clients)} clients")
        return seat

    def _objection(self, name: str, joining: Joining, clients: Longs) -> str:
        """Why a shard cannot take part, or nothing."""
        if name in self._refused:
            return f"it was refused before: {self._refused[name]}"
        if joining.version != VERSION:
            return f"it speaks version {joining.version}, this side {VERSION}"
        if joining.census != self._census:
            return "its part is of another population, seed or protocol"
        if not len(clients) or not ascending(clients, self._census.clients):
            return "its clients are not ascending numbers below the number of clients"
        expected = self._places[name]
        if expected is not None and not np.isin(clients, expected).all():
            return "it stands for clients that are not its own"
        owner = self._owner[clients]
        if ((owner >= 0) & (owner != list(self._places).index(name))).any():
            return "it stands for clients of another shard"
        return ""

    def _send(self, seat: _Seat) -> None:
        packer = Packer()
        try:
            while True:
                item = seat.outbox.get()
                if item is _STOP:
                    seat.link.close()
                    return
                words, arrays = item
                tensors, header = packer.pack(words, arrays)  # type: ignore[arg-type]
                seat.link.send(DOWN, tensors, header)
        except IsthmusError as error:
            seat.link.fail(error)

    def _listen(self, seat: _Seat) -> None:
        while True:
            try:
                message = seat.link.recv(UP, timeout=_POLL)
            except PartnerSlow:
                continue
            self._take(seat, message)

    def _take(self, seat: _Seat, message: Message) -> None:
        answer = read(Answer, message.header, seat.name)
        pending = seat.busy
        if pending is None or answer.number != pending.request.ask.number:
            raise BadMessage("it answered what nobody asked")
        try:
            pending.request.collector.add(answer, message.tensors)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise BadMessage("it sent arrays that cannot be read") from error
        if answer.last:
            with self._lock:
                pending.done = True
                seat.busy = None
                self._lock.notify_all()

    def _leave(self, name: str, link: Link, why: str) -> None:
        counts = link.meter.total()
        with self._lock:
            up, down = self.traffic.get(name, (0, 0))
            self.traffic[name] = (up + counts.received_bytes, down + counts.sent_bytes)
            seat = self._seats.pop(name, None)
            if seat is not None and seat.busy is not None and not seat.busy.done:
                seat.busy.failed = why
            self._lock.notify_all()
        if seat is not None:
            seat.outbox.put(_STOP)
            if not self._closing.is_set():
                self._say(f"{name} {why}")


def _refuse(link: Link, reason: str) -> None:
    """Tell the shard why, as far as it listens."""
    with suppress(IsthmusError):
        link.send(DOWN, {}, Refused(reason=reason[:500]).model_dump())
    link.close()


def who_may_join(
    folder: Path, shards: Mapping[str, Longs | None] | None
) -> Mapping[str, Longs | None]:
    """`shards`, or all partners that are trusted in the identity folder.

    Raises:
        JobError: nobody may join, or one of `shards` is not trusted, so that it never could.
        IdentityError: a trusted certificate cannot be used.
    """
    faults: list[IdentityError] = []
    trusted = trusted_partners(folder, on_fault=faults.append)
    wanted = dict.fromkeys(trusted) if shards is None else shards
    unknown = [name for name in wanted if name not in trusted]
    if faults and (shards is None or unknown):
        raise faults[0]
    if unknown:
        raise JobError(
            f"the certificate of {', '.join(unknown)} is not trusted in {folder}",
            mend="Trust it first: `isthmus identity trust FILE`.",
        )
    if not wanted:
        raise JobError("no shard may join", mend="Trust their certificates first.")
    return wanted
