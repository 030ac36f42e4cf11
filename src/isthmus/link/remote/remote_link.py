"""A link between processes: one lane that outlives the streams which carry it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty

from isthmus.errors import BadMessage, IsthmusError, PartnerGone, code_of, public_reason
from isthmus.link.codec import Buffer, Encoded
from isthmus.link.deadlines import Deadlines
from isthmus.link.lane import WINDOW, Inbox, Lane, partner_failed, partner_left
from isthmus.link.remote.frames import (
    Counters,
    Frame,
    Kind,
    pack,
    pack_message,
    pack_note,
    parse,
    read_note,
)
from isthmus.link.remote.handshake import PROTOCOL, Hello
from isthmus.link.remote.inflow import Inflow
from isthmus.link.remote.outbox import Outbox
from isthmus.link.remote.wire import Wire
from isthmus.link.transcript import Transcript

_REPORT_SHARE = 16
"""What was read is reported at the latest when it makes up this part of the window."""
_MISSED_HEARTBEATS = 3
_BETWEEN_WORDS = 10.0
"""Seconds between two breaks of the line that are told: one that flaps does not fill the screen."""
_OVERTIME = 0.05
"""Seconds beyond its deadline in which `recv` still reads what has come already."""


class RemoteLink(Lane):
    """The lane to one partner; a listener or dialler gives it streams."""

    def __init__(
        self,
        me: str,
        partner: str,
        *,
        incarnation: str,
        context: str,
        deadlines: Deadlines,
        window: int = WINDOW,
        transcript: Transcript | None = None,
        say: Callable[[str], None] = lambda text: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(me, partner, timeout=deadlines.recv, window=window, transcript=transcript)
        self.context = context
        self.incarnation = incarnation
        self.partner_incarnation = ""
        """That of the program we have a session with; empty before the first stream."""
        self.over = threading.Event()
        """Set once the link needs no stream any more."""
        self.release: Callable[[], None] = lambda: None
        """Ends the link's listener or dialler; set by whoever made the link."""
        self._deadlines = deadlines
        self._say = say
        self._changed = changed
        self._outbox = Outbox()
        self._inflow = Inflow()
        self._own_window = window
        self._wire: Wire | None = None
        # Lock order: `_receiving` before the outbox's lock and before `_state`.
        self._receiving = threading.RLock()
        self._told = Counters()
        self._told_read = 0
        self._partner_came = 0
        self._asked = False
        self._asking = False
        self._partner_ended = False
        self._distrusted = False
        self._said_goodbye = False
        self._attached_at = 0.0
        self._broken_since: float | None = None
        """Since when the line is of no use: broken, or back only for moments without data."""
        self._progress_at_break = (-1, -1, -1)
        self._told_break_at = -math.inf
        self._tells_break = False
        self._stirred = threading.Event()
        self._followers = 0
        """Threads that wait for a message, or for room, and do not read themselves."""

    # What the lane asks for.

    def _transmit(self, encoded: Encoded) -> None:
        self._outbox.add(pack_message(encoded, self._outbox.next, self._counters()))

    def _after_read(self) -> None:
        if self._asked:
            if self._read_cost == self._arrived_cost:
                self._asked = False
        elif self._read_cost - self._told_read <= self._window // _REPORT_SHARE:
            return
        self._acknowledge()

    def _ask_for_room(self) -> None:
        self._asking = True
        self._outbox.add_fleeting(pack(Kind.ASK, self._counters()))

    def _next(self, queue: Inbox, seconds: float) -> Buffer | None:
        until = time.monotonic() + seconds
        wire = self._wire
        if wire is not None and not self._followers and wire.take_turn():
            try:
                while not wire.has_ended:
                    with suppress(Empty):
                        return queue.get_nowait()
                    frame = wire.read(until)
                    if frame is not None:
                        self.on_frame(wire, frame)
                    late = time.monotonic() - until
                    if late >= (0.0 if frame is None else _OVERTIME):
                        return queue.get_nowait()
            finally:
                wire.give_turn(at_once=self._followers > 0 or self._closed)
        return self._follow(queue, until)

    def _follow(self, queue: Inbox, until: float) -> Buffer | None:
        """Wait for what another thread reads."""
        with self._state:
            self._followers += 1
        try:
            self._hurry()
            return queue.get(timeout=max(until - time.monotonic(), 0.0))
        finally:
            with self._state:
                self._followers -= 1

    def _wait_for_room(self, cost: int) -> bool:
        self._followers += 1  # `_state` is held
        try:
            self._hurry()
            return super()._wait_for_room(cost)
        finally:
            self._followers -= 1

    def _hurry(self) -> None:
        if (wire := self._wire) is not None:
            wire.hurry()

    def _say_goodbye(self, error: BaseException | None) -> None:
        self._put_goodbye(error)
        self._hurry()
        if self.is_connected and not self._partner_ended:
            self._flush(patient=error is None)
        self.over.set()
        self._stirred.set()
        if (wire := self._wire) is not None:
            wire.end()
        self.release()

    def _coming(self) -> object:
        return self._came()

    def _leaving(self) -> object:
        return (self._outbox.acknowledged, self._partner_came)

    def _finish(self, error: IsthmusError) -> None:
        super()._finish(error)
        if (wire := self._wire) is not None:
            wire.wake()
        self._changed()

    # What a listener or dialler asks for.

    def hello(self) -> Hello:
        """What to say first on a new stream."""
        return Hello(
            protocol=PROTOCOL,
            party=self.me,
            partner=self.partner,
            incarnation=self.incarnation,
            knows=self.partner_incarnation,
            context=self.context,
            window=self._own_window,
            received=self._inflow.expects,
            read=self._read_cost,
        )

    def attach(self, wire: Wire, hello: Hello, *, answer: bool) -> None:
        """Go on over a new stream on which the partner said `hello`; with `answer`, say ours first.

        Raises:
            BadMessage: the counters in the hello cannot be right.
        """
        with self._receiving:
            self._outbox.go_on_from(hello.received)
            self._freed(hello.read)
            old, self._wire = self._wire, wire
            self._attached_at = time.monotonic()
            self._inflow.forget_partial()
            self._window = min(self._own_window, hello.window)
            is_first = not self.partner_incarnation
            self.partner_incarnation = hello.incarnation
            first = [self.hello().frame()] if answer else []
            if self._asking:
                first.append(pack(Kind.ASK, self._counters()))
            self._outbox.attach(wire, first)
        if old is not None:
            old.cancel()
        self._stirred.set()
        if is_first:
            threading.Thread(target=self._watch, name=f"watch-{self.partner}", daemon=True).start()
            self._changed()
        elif self._tells_break:
            self._say(f"the line to {self.partner} is back")

    def on_frame(self, wire: Wire, data: Buffer) -> None:
        """A frame came over `wire`."""
        with self._receiving:
            if wire is not self._wire:
                return
            try:
                frame = parse(data)
                self._outbox.acknowledge(frame.counters.received)
                self._freed(frame.counters.read)
                self._partner_came = frame.counters.came
                if not self._distrusted and not self._partner_ended:
                    self._handle(frame)
            except BadMessage as error:
                self._distrust(error)

    def detach(self, wire: Wire) -> None:
        """The stream has ended."""
        with self._receiving:
            if wire is not self._wire:
                return
            self._wire = None
            self._inflow.forget_partial()
            self._outbox.detach()
            self._note_break(time.monotonic())
        if self._partner_ended:
            self._outbox.give_up()
        elif not self.over.is_set():
            if self._patience_left() <= 0:
                self.lose(self._gone())
            elif self._tells_break and not self._closed:
                self._say(f"the line to {self.partner} broke; waiting for it to come back")
        self._stirred.set()

    def lose(self, error: IsthmusError) -> None:
        """Give the partner up: there will be no other stream."""
        self._finish(error)
        self._outbox.give_up()
        self.over.set()
        self._stirred.set()

    @property
    def is_connected(self) -> bool:
        """Whether the partner has ever been here."""
        return bool(self.partner_incarnation)

    @property
    def ending(self) -> IsthmusError | None:
        """Why nothing more will arrive; None while the link is well."""
        return self._end

    @property
    def wants_stream(self) -> bool:
        """Whether a broken stream is worth replacing."""
        return not self.over.is_set() and not self._partner_ended

    # Inside.

    def _counters(self) -> Counters:
        """How far we have come, to be told now."""
        self._told_read = self._read_cost
        return self._tally()

    def _tally(self) -> Counters:
        return Counters(self._inflow.expects, self._read_cost, self._came())

    def _came(self) -> int:
        wire = self._wire
        return (self._inflow.came + (0 if wire is None else wire.came)) % (1 << 32)

    def _acknowledge(self) -> None:
        self._told = self._counters()
        self._outbox.report(pack(Kind.ACK, self._told))

    def _handle(self, frame: Frame) -> None:
        if frame.kind is Kind.ASK:
            self._asked = True
            self._acknowledge()
        elif frame.kind >= Kind.DATA:
            if self._inflow.starts_message(frame):
                self._admit(frame.total)
            whole = self._inflow.take(frame)
            if frame.kind is not Kind.DATA:
                self._partner_says_goodbye(frame)
            elif whole is not None:
                self._deliver(whole)
        elif frame.kind is not Kind.ACK:
            raise BadMessage(f"{self.partner} sent a {frame.kind.name} frame where none belongs")

    def _partner_says_goodbye(self, frame: Frame) -> None:
        note = read_note(frame)
        if frame.kind is Kind.FAIL:
            code, reason = str(note.get("code", "")), str(note.get("reason", ""))
            self._finish(partner_failed(self.partner, code, reason))
        else:
            self._finish(partner_left(self.partner))
        self._partner_ended = True
        self._acknowledge()

    def _distrust(self, error: BadMessage) -> None:
        """After garbage nothing more is read but counters; the partner hears that we stop."""
        if self._distrusted:
            return
        self._distrusted = True
        self._finish(BadMessage(f"{self.partner} broke the protocol: {error.message}"))
        self._put_goodbye(error)

    def _put_goodbye(self, error: BaseException | None) -> None:
        with self._sending:
            if self._said_goodbye or self._partner_ended:
                return
            self._said_goodbye = True
            sequence, counters = self._outbox.next, self._counters()
            if error is None:
                frame = pack_note(Kind.GOODBYE, {}, counters, sequence=sequence)
            else:
                note = {"code": code_of(error), "reason": public_reason(error)}
                frame = pack_note(Kind.FAIL, note, counters, sequence=sequence)
            self._outbox.add([frame])

    def _flush(self, *, patient: bool) -> None:
        """Wait until the partner has everything, or there is little hope that it will.

        The deadline `close` holds where the line is broken. Over one that stands a patient side
        waits on while frames leave or arrive there, and beyond that as long as for a message: what
        is in buffers below us is seen by nobody.
        """
        state, since = self._leaving(), time.monotonic()
        while not self._outbox.flush(min(0.1, self._deadlines.close)):
            now = time.monotonic()
            if patient and state != self._leaving():
                state, since = self._leaving(), now
            lives = patient and self._wire is not None
            if now - since > (self._timeout if lives else self._deadlines.close):
                return

    def _watch(self) -> None:
        """Heartbeats on a silent line, and the end of patience with a broken one."""
        while not self.over.is_set():
            self._stirred.wait(self._check_line())
            self._stirred.clear()

    def _check_line(self) -> float:
        """Do what is due now; the seconds until something is due again."""
        now = time.monotonic()
        wire = self._wire
        if wire is None:
            if self._partner_ended:
                return self._deadlines.heartbeat
            left = self._patience_left()
            if left <= 0:
                self.lose(self._gone())
            return max(left, 0.01)
        if now - wire.heard > _MISSED_HEARTBEATS * self._deadlines.heartbeat:
            wire.cancel()
        if not wire.spoke or self._told != self._tally():
            self._acknowledge()
        wire.spoke = False
        return self._deadlines.heartbeat

    def _note_break(self, now: float) -> None:
        """The line was of use if it carried data, or held until a heartbeat could be missed."""
        progress = (self._inflow.expects, self._outbox.acknowledged, self._freed_cost)
        held = now - self._attached_at > _MISSED_HEARTBEATS * self._deadlines.heartbeat
        if held or progress != self._progress_at_break or self._broken_since is None:
            self._broken_since = now
        self._progress_at_break = progress
        self._tells_break = now - self._told_break_at > _BETWEEN_WORDS
        if self._tells_break:
            self._told_break_at = now

    def _patience_left(self) -> float:
        """Seconds until a line that is broken now is given up."""
        since = time.monotonic() if self._broken_since is None else self._broken_since
        return since + self._deadlines.reconnect - time.monotonic()

    def _gone(self) -> PartnerGone:
        return PartnerGone(
            f"the line to {self.partner} broke and did not come back within "
            f"{self._deadlines.reconnect:g} s",
            mend=f"See whether {self.partner} still runs and can be reached, then start both sides "
            "again.",
        )
