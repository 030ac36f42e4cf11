"""Frames on their way out, kept until the partner has them, whatever becomes of a stream."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from isthmus.errors import BadMessage
from isthmus.link.remote.wire import Wire


class Outbox:
    """Numbers what is sent, keeps it until it is acknowledged, resends it on a new stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._kept: deque[tuple[int, list[bytes]]] = deque()
        self._next = 0
        self._acknowledged = 0
        self._wire: Wire | None = None
        self._hopeless = False

    @property
    def next(self) -> int:
        """The sequence number of the next item."""
        return self._next

    @property
    def acknowledged(self) -> int:
        """The partner has every item below this number."""
        return self._acknowledged

    def add(self, frames: list[bytes]) -> None:
        """Send a numbered item: `frames` carry the number `next`."""
        with self._lock:
            self._kept.append((self._next, frames))
            self._next += 1
            if self._wire is not None:
                self._wire.spoke = True
                for frame in frames:
                    self._wire.put(frame)

    def add_fleeting(self, frame: bytes) -> None:
        """Send a frame without a number; it is dropped where no stream is up."""
        with self._lock:
            if self._wire is not None:
                self._wire.spoke = True
                self._wire.put(frame)

    def report(self, frame: bytes) -> None:
        """Send a frame of counters, in place of an earlier one that has not left yet."""
        with self._lock:
            if self._wire is not None:
                self._wire.spoke = True
                self._wire.put_report(frame)

    def acknowledge(self, received: int) -> None:
        """The partner has every item below `received`.

        Raises:
            BadMessage: it claims to have what was never sent.
        """
        if received <= self._acknowledged:
            return
        with self._lock:
            if received > self._next:
                raise BadMessage("the partner acknowledged more than was sent")
            self._acknowledged = received
            while self._kept and self._kept[0][0] < received:
                self._kept.popleft()
            if not self._kept:
                self._changed.notify_all()

    def go_on_from(self, received: int) -> None:
        """A new stream begins: the partner expects item `received` next.

        Raises:
            BadMessage: it was never sent, or acknowledged before.
        """
        if received < self._acknowledged:
            raise BadMessage("the partner asks again for what it has acknowledged")
        self.acknowledge(received)

    def attach(self, wire: Wire, first: Iterable[bytes]) -> None:
        """Go on over `wire`: `first`, then every item that is not acknowledged."""
        with self._lock:
            self._wire = wire
            for frame in first:
                wire.put(frame)
            for _, frames in self._kept:
                for frame in frames:
                    wire.put(frame)

    def detach(self) -> None:
        """The stream has ended; keep what comes for the next one."""
        with self._lock:
            self._wire = None

    def give_up(self) -> None:
        """There will be no other stream: nobody needs to wait for acknowledgement."""
        with self._lock:
            self._hopeless = True
            self._kept.clear()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until the partner has everything or nobody will ask for it; whether that is so."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._kept or self._hopeless, timeout)
