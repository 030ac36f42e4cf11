"""What a party process tells the program that started it: JSON lines on its standard output.

Kinds: `task` (begins, with id, name, total), `at` (done so far), `note`, `end` (with `ok`, whether
the task was done), `say`, `error` (code, message, mend), `done` (the report's path).
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from isthmus.errors import IsthmusError, Stopped, code_of

INTERVAL = 0.1
"""Seconds between two `at` events of a task."""

Event = dict[str, Any]


Emit = Callable[[Event], None]
"""Takes an event; safe to call from several threads."""


def json_lines(stream: IO[str]) -> Emit:
    """Writes each event as a line of `stream`; falls silent once nobody reads any more."""
    lock = threading.Lock()

    def emit(event: Event) -> None:
        line = json.dumps(event, ensure_ascii=False) + "\n"
        with lock, suppress(BrokenPipeError, ValueError):
            stream.write(line)
            stream.flush()

    return emit


def error_event(error: BaseException) -> Event:
    """What the user is to read about `error`."""
    if isinstance(error, IsthmusError):
        return {"event": "error", "code": error.code, "message": error.message, "mend": error.mend}
    if (code := code_of(error)) == Stopped.code:
        return {"event": "error", "code": code, "message": Stopped.public, "mend": ""}
    said = f"unexpected {type(error).__name__}: {error}"
    mend = "Run it again with --debug and report the traceback."
    return {"event": "error", "code": code, "message": said, "mend": mend}


class EventProgress:
    """A session's progress as events. See `isthmus.session.Progress`."""

    def __init__(self, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._ids = itertools.count(1)

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[_Task]:
        """See `Progress.task`."""
        task = _Task(self._emit, next(self._ids), self._clock)
        self._emit({"event": "task", "id": task.id, "name": name, "total": total})
        done = False
        try:
            yield task
            done = True
        finally:
            self._emit({"event": "end", "id": task.id, "ok": done})

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        self._emit({"event": "say", "text": text})


@dataclass
class _Task:
    emit: Emit
    id: int
    clock: Callable[[], float]
    done: int = 0
    told: float = field(default=float("-inf"))

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self.clock() - self.told >= INTERVAL:
            self.told = self.clock()
            self.emit({"event": "at", "id": self.id, "done": self.done})

    def note(self, text: str) -> None:
        self.emit({"event": "note", "id": self.id, "text": text})


def read_event(line: str) -> Event | None:
    """The event of one line; None where the line is something else (a library's own print)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
