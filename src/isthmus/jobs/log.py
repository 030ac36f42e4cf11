"""The job's log: JSON lines with party and job bound; never ids, values or secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import structlog

from isthmus.files import storage_error


class Log(Protocol):
    """Where events go, each a short name and plain values."""

    def info(self, event: str, **fields: Any) -> Any:
        """Something happened."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Something looks wrong."""

    def error(self, event: str, **fields: Any) -> Any:
        """Something failed."""


class _Silent:
    def info(self, event: str, **fields: Any) -> None:
        del event, fields

    def warning(self, event: str, **fields: Any) -> None:
        del event, fields

    def error(self, event: str, **fields: Any) -> None:
        del event, fields


def silent_log() -> Log:
    """A log that keeps nothing."""
    return _Silent()


@contextmanager
def open_log(path: Path, *, job: str, party: str) -> Iterator[Log]:
    """Append to the JSON-lines file at `path`, a line an event. Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A line is written at once or not at all: nothing is left in a buffer to fail on closing.
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise storage_error(path, error) from error
    with file:
        yield structlog.wrap_logger(
            structlog.BytesLogger(file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=_as_line),
            ],
            job=job,
            party=party,
        )


def _as_line(event: Any, **options: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False, **options).encode()
