"""What both carriers share: inbox per topic, window, deadlines, meter, transcript, endings.

A carrier moves encoded messages and says how the partner's end came about; everything a user of a
link can observe is decided here, so that both carriers behave alike.
"""

from __future__ import annotations

import copy
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue

from isthmus.errors import (
    BadMessage,
    IsthmusError,
    LinkError,
    PartnerFailed,
    PartnerGone,
    PartnerSlow,
)
from isthmus.link.base import Array, Header, Link, Message
from isthmus.link.codec import Buffer, Encoded, check, decode, encode_pieces
from isthmus.link.meter import Meter
from isthmus.link.printable import printable
from isthmus.link.transcript import Transcript

WINDOW = 64 << 20
"""Default window: bytes of messages that the partner's application has not read yet."""
OVERHEAD = 1024
"""Charged to the window per message, so that countless empty messages are bounded too."""
MAX_TOPICS = 4096
"""The most topics a partner may begin on one link: each takes memory as long as the link lasts."""

Inbox = SimpleQueue[Buffer | None]
"""Encoded messages of one topic; None where nothing more will come."""


def cost_of(size: int) -> int:
    """What a message of `size` bytes takes of the window."""
    return size + OVERHEAD


class Lane(Link):
    """A link without its carrier."""

    def __init__(
        self,
        me: str,
        partner: str,
        *,
        timeout: float = 60.0,
        window: int = WINDOW,
        transcript: Transcript | None = None,
    ) -> None:
        self.me = me
        self.partner = partner
        self.meter = Meter()
        self._timeout = timeout
        self._window = window
        self._transcript = transcript
        # Lock order: `_sending` before `_state`; the `_state` locks of two lanes are never nested.
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._room = threading.Condition(self._state)
        self._inbox: dict[str, Inbox] = {}
        self._begun_topics = 0
        self._sent_cost = 0
        self._freed_cost = 0
        self._arrived_cost = 0
        self._read_cost = 0
        self._end: IsthmusError | None = None
        self._closed = False

    # What a carrier provides.

    @abstractmethod
    def _transmit(self, encoded: Encoded) -> None:
        """Move one message; called in order, one at a time. Must not wait for the partner."""

    @abstractmethod
    def _after_read(self) -> None:
        """The application has read a message: let the partner know when it should."""

    @abstractmethod
    def _say_goodbye(self, error: BaseException | None) -> None:
        """Tell the partner, after all messages, that we leave, and why; then release."""

    # What a user sees.

    def send(
        self,
        topic: str,
        tensors: Mapping[str, Array] | None = None,
        header: Header | None = None,
    ) -> None:
        """See `Link.send`."""
        encoded = encode_pieces(topic, tensors, header)
        with self._sending:
            waited = self._take_room(topic, cost_of(encoded.size))
            if self._transcript is None:
                self._transmit(encoded)
            else:
                with self._transcript.recording(self.partner, encoded, tensors, header):
                    self._transmit(encoded)
        self.meter.sent(topic, encoded.size, waited)

    def recv(self, topic: str, *, timeout: float | None = None) -> Message:
        """See `Link.recv`."""
        queue = self._inbox.get(topic) or self._open_inbox(topic)
        if self._closed:
            raise self._ending()
        try:
            payload = queue.get_nowait()
        except Empty:
            payload = self._wait_for(topic, queue, timeout)
        if payload is None or self._closed:
            queue.put(None)  # for whoever asks next
            raise self._ending()
        message = decode(payload)
        with self._state:
            self._read_cost += cost_of(len(payload))
        self._after_read()
        return message

    def close(self) -> None:
        """See `Link.close`."""
        self._leave(None)

    def fail(self, error: BaseException) -> None:
        """See `Link.fail`."""
        self._leave(error)

    # What a carrier calls.

    def _deliver(self, payload: Buffer) -> None:
        """A whole message has arrived.

        It is checked, but waits as bytes: parsed, it could take many times the memory that the
        window was charged for it.

        Raises:
            BadMessage: it is malformed, does not fit the window, or begins too many topics.
        """
        if self._is_over():
            return
        topic = check(payload)
        size = len(payload)
        self._admit(size)
        queue = self._inbox.get(topic) or self._begin_topic(topic)
        self.meter.received(topic, size)
        with self._state:
            if self._end is not None:
                return
            self._arrived_cost += cost_of(size)
        queue.put(payload)

    def _admit(self, size: int) -> None:
        """Check that a message of `size` bytes keeps within the window.

        Raises:
            BadMessage: the partner sends more than it may.
        """
        with self._state:
            unread = self._arrived_cost - self._read_cost
        if unread and unread + cost_of(size) > self._window:
            raise BadMessage(f"{self.partner} sent more than the agreed window of unread messages")

    def _freed(self, total: int) -> None:
        """The partner has read messages of `total` cost since the beginning."""
        with self._room:
            if total > self._sent_cost:
                raise BadMessage(f"{self.partner} acknowledged more than was sent")
            if total > self._freed_cost:
                self._freed_cost = total
                self._room.notify_all()

    def _finish(self, error: IsthmusError) -> None:
        """Nothing more will arrive; whoever waits is told why, after what did arrive."""
        with self._room:
            if self._end is not None:
                return
            self._end = error
            for queue in self._inbox.values():
                queue.put(None)
            self._room.notify_all()

    def _next(self, queue: Inbox, seconds: float) -> Buffer | None:
        """What comes next in an inbox.

        Raises:
            Empty: nothing within `seconds`.
        """
        return queue.get(timeout=seconds)

    def _ask_for_room(self) -> None:
        """The window is full: a carrier may ask the partner to report what it reads at once."""

    def _coming(self) -> object:
        """Changes while a message is on its way in, chunk by chunk."""
        return None

    def _leaving(self) -> object:
        """Changes while messages are on their way out."""
        return None

    # Inside.

    def _leave(self, error: BaseException | None) -> None:
        with self._state:
            if self._closed:
                return
            self._closed = True
        self._finish(LinkError(f"the link to {self.partner} is closed on this side"))
        self._say_goodbye(error)

    def _begin_topic(self, topic: str) -> Inbox:
        """The inbox of a topic that this side has not asked for yet."""
        if self._begun_topics >= MAX_TOPICS:
            raise BadMessage(f"{self.partner} sent messages of more than {MAX_TOPICS} topics")
        self._begun_topics += 1
        return self._open_inbox(topic)

    def _open_inbox(self, topic: str) -> Inbox:
        with self._state:
            queue = self._inbox.get(topic)
            if queue is None:
                queue = self._inbox[topic] = SimpleQueue()
                if self._end is not None:
                    queue.put(None)
            return queue

    def _wait_for(self, topic: str, queue: Inbox, timeout: float | None) -> Buffer | None:
        began = time.perf_counter()
        seconds = self._timeout if timeout is None else max(timeout, 0.0)
        try:
            while True:
                came = self._coming()
                with suppress(Empty):
                    return self._next(queue, seconds)
                # A caller's own deadline holds as it is; ours is for a line that brings nothing.
                if timeout is not None or came == self._coming():
                    raise PartnerSlow(
                        f"{self.partner} is connected but sent no {topic} within {seconds:g} s",
                        mend="Look at what it is doing; a longer deadline can be set for the job.",
                    )
        finally:
            self.meter.waited(topic, time.perf_counter() - began)

    def _take_room(self, topic: str, cost: int) -> float:
        """Wait until `cost` fits into the window and take it; the seconds that took."""
        with self._room:
            if self._end is not None:
                raise self._ending()
            if self._fits(cost):
                self._sent_cost += cost
                return 0.0
        began = time.perf_counter()
        self._ask_for_room()
        with self._room:
            ready = self._wait_for_room(cost)
            if self._end is not None:
                raise self._ending()
            if not ready:
                raise PartnerSlow(
                    f"{self.partner} is connected but read nothing for {self._timeout:g} s, "
                    f"so {topic} cannot be sent",
                    mend="Look at what it is doing; a longer deadline can be set for the job.",
                )
            self._sent_cost += cost
        return time.perf_counter() - began

    def _wait_for_room(self, cost: int) -> bool:
        """Wait, with the lock held, while the window moves; whether there is an end or room."""
        while True:
            before = (self._freed_cost, self._leaving())
            if self._room.wait_for(lambda: self._end or self._fits(cost), self._timeout):
                return True
            if before == (self._freed_cost, self._leaving()):
                return False

    def _fits(self, cost: int) -> bool:
        outstanding = self._sent_cost - self._freed_cost
        return outstanding == 0 or outstanding + cost <= self._window

    def _is_over(self) -> bool:
        return self._end is not None

    def _ending(self) -> IsthmusError:
        """A fresh copy of the end's error: several threads may raise it."""
        end = self._end or LinkError(f"the link to {self.partner} is closed on this side")
        return copy.copy(end)


def partner_left(partner: str) -> PartnerGone:
    """The partner closed its side in good order, while we still wanted something of it."""
    return PartnerGone(
        f"{partner} has finished and closed the link",
        mend="Both sides must run the same job with the same version.",
    )


def partner_failed(partner: str, code: str, reason: str) -> PartnerFailed:
    """The partner said why it stopped; only short, printable words of it are shown."""
    error = PartnerFailed(
        f"{partner} stopped: {printable(reason, 200)} ({printable(code, 40)})",
        mend=f"Look at the messages at {partner}, mend it there, and run both sides again.",
    )
    error.partner_code = printable(code, 40)
    return error
