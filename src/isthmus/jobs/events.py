"""What a party process tells the program that started it: JSON lines on its standard output.

Kinds: `task` (begins, with id, name, total), `at` (done so far), `note`, `end`, `say`, `error`
(code, message, mend), `done` (the report's path).
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from isthmus.errors import IsthmusError, code_of

INTERVAL = 0.1
"""Seconds between two `at` events of a task."""

Event = dict[str, Any]


class EventStream:
    """Writes events; safe to use from several threads, and silent once nobody reads any more."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, kind: str, **fields: Any) -> None:
        """Write one event."""
        line = json.dumps({"event": kind, **fields}, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                return

    def error(self, error: BaseException) -> None:
        """Write what the user is to read about `error`."""
        message = error.message if isinstance(error, IsthmusError) else f"{describe(error)}"
        mend = error.mend if isinstance(error, IsthmusError) else ""
        self.emit("error", code=code_of(error), message=message, mend=mend)


class EventProgress:
    """A session's progress as events. See `isthmus.session.Progress`."""

    def __init__(self, events: EventStream, clock: Callable[[], float] = time.monotonic) -> None:
        self._events = events
        self._clock = clock
        self._ids = itertools.count(1)

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[_Task]:
        """See `Progress.task`."""
        task = _Task(self._events, next(self._ids), self._clock)
        self._events.emit("task", id=task.id, name=name, total=total)
        try:
            yield task
        finally:
            self._events.emit("end", id=task.id)

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self._events.emit("say", text=text)


@dataclass
class _Task:
    events: EventStream
    id: int
    clock: Callable[[], float]
    done: int = 0
    told: float = field(default=float("-inf"))

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self.clock() - self.told >= INTERVAL:
            self.told = self.clock()
            self.events.emit("at", id=self.id, done=self.done)

    def note(self, text: str) -> None:
        self.events.emit("note", id=self.id, text=text)


def read_event(line: str) -> Event | None:
    """The event of one line; None where the line is something else (a library's own print)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def describe(error: BaseException) -> str:
    """An unforeseen exception in a line."""
    return f"unexpected {type(error).__name__}: {error}"
