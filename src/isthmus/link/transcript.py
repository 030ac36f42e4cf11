"""The record of every message that left a party; its content only on request."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

from isthmus.errors import StorageError
from isthmus.link.base import Array, Header, as_arrays
from isthmus.link.codec import Encoded


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that left."""

    sequence: int
    """Number of the message in this transcript, from 0."""
    seconds: float
    """Time since the transcript was opened."""
    partner: str
    topic: str
    tensors: Mapping[str, tuple[str, list[int]]]
    """dtype and shape of each tensor."""
    header: list[str]
    """Keys of the header; its values are content."""
    bytes: int
    """Size of the encoded message."""
    sha256: str
    """Digest of the encoded message."""
    payload: str | None = None
    """The encoded message (a safetensors file) in base 64; only on request."""


_NAMES = tuple(field.name for field in fields(Entry))


class Transcript:
    """Writes a JSON line per sent message to `path`; with None, keeps the entries in memory.

    One transcript may serve all links of a party. With `payload` the content is kept too: that file
    is then as secret as what it records.
    """

    def __init__(
        self,
        path: Path | None = None,
        payload: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.entries: list[Entry] = []
        """What was recorded, where no path was given."""
        self._payload = payload
        self._clock = clock
        self._opened = clock()
        self._count = 0
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        if path is not None:
            self._file = self._open(path)

    def record(
        self,
        partner: str,
        encoded: Encoded,
        tensors: Mapping[str, Array] | None,
        header: Header | None,
    ) -> None:
        """Note one message before it leaves.

        Raises:
            StorageError: the transcript cannot be written; the message must then not leave.
        """
        digest = hashlib.sha256()
        for piece in encoded.pieces:
            digest.update(piece)
        shapes = {
            name: (str(array.dtype), list(array.shape))
            for name, array in as_arrays(tensors).items()
        }
        with self._lock:
            entry = Entry(
                sequence=self._count,
                seconds=round(self._clock() - self._opened, 6),
                partner=partner,
                topic=encoded.topic,
                tensors=shapes,
                header=sorted(header or ()),
                bytes=encoded.size,
                sha256=digest.hexdigest(),
                payload=base64.b64encode(encoded.join()).decode() if self._payload else None,
            )
            self._write(entry)
            self._count += 1

    def close(self) -> None:
        """Flush and close the file. May be called twice."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, path: Path) -> IO[str]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write the transcript {path}: {error.strerror}") from error

    def _write(self, entry: Entry) -> None:
        if self._file is None:
            self.entries.append(entry)
            return
        # Not `asdict`, which copies deeply: this is on the way of every message.
        line = {name: value for name in _NAMES if (value := getattr(entry, name)) is not None}
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot write the transcript {self.path}: {error}") from error
