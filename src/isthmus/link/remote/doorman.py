"""How many streams a partner may hold open at a listener, and how long without a word."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Protocol

STREAMS_OF_A_PARTNER = 8
"""The most streams of one partner. It needs one; when a line breaks, the old one may still be there
for a while."""


class Stream(Protocol):
    """What the doorman uses of a stream."""

    def cancel(self) -> object:
        """End the stream at once."""


class Doorman:
    """Counts the streams of each partner and ends those that do not get on, with one thread."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stirred = threading.Condition(self._lock)
        self._due: dict[Stream, float] = {}
        """When each stream that is not welcome yet is ended, the earliest first."""
        self._closed = False
        threading.Thread(target=self._watch, name="isthmus-doorman", daemon=True).start()

    def admit(self, partner: str, stream: Stream) -> bool:
        """Whether one more stream of `partner` may stay; soon it ends unless it is welcomed.

        One that stays must be taken leave of when it has ended.
        """
        with self._lock:
            if self._closed or self._open[partner] >= STREAMS_OF_A_PARTNER:
                return False
            self._open[partner] += 1
            self._due[stream] = time.monotonic() + self._patience
            if len(self._due) == 1:
                self._stirred.notify()
        return True

    def welcome(self, stream: Stream) -> None:
        """The stream has been given to a link, which looks after it from now on."""
        with self._lock:
            self._due.pop(stream, None)

    def leave(self, partner: str, stream: Stream) -> None:
        """An admitted stream has ended."""
        with self._lock:
            self._open[partner] -= 1
            self._due.pop(stream, None)

    def close(self) -> None:
        """Admit nobody any more, and end the thread. May be called twice."""
        with self._lock:
            self._closed = True
            self._stirred.notify()

    def _watch(self) -> None:
        while (stream := self._next_due()) is not None:
            stream.cancel()

    def _next_due(self) -> Stream | None:
        """The next stream to end, once it is due; None once closed."""
        with self._lock:
            while not self._closed:
                stream = next(iter(self._due), None)
                left = None if stream is None else self._due[stream] - time.monotonic()
                if stream is not None and left is not None and left <= 0:
                    del self._due[stream]
                    return stream
                self._stirred.wait(left)
        return None
