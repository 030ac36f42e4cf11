"""The record of every message that left a party; its content only on request."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.errors import StorageError
from isthmus.files import storage_error
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


_KILLED = b',"sha256":null}\n'
"""Ends the line of a message on whose way its party was killed."""


_to_json = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=256)
def _what(
    partner: str,
    topic: str,
    shapes: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...],
    header: tuple[str, ...],
) -> str:
    """The part of a line that messages of one kind share, as JSON without its braces."""
    tensors = {name: (str(dtype), list(shape)) for name, dtype, shape in shapes}
    shared = {"partner": partner, "topic": topic, "tensors": tensors, "header": header}
    return _to_json(shared)[1:-1]


class Transcript:
    """Writes a JSON line per sent message to `path`; with None, keeps the entries in memory.

    What a message is, is handed to the operating system before it leaves: it is there even if the
    program is killed the moment after; then its digest is missing, and `null` once the file is
    opened again. (Nothing is synced: a power failure can take the last lines.)

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
        self._file = None if path is None else self._open(path)
        self._closed = False

    @contextmanager
    def recording(
        self,
        partner: str,
        encoded: Encoded,
        tensors: Mapping[str, Array] | None,
        header: Header | None,
    ) -> Iterator[None]:
        """Note a message; it leaves within this context.

        What it is stands in the file before it leaves. Its digest follows while it is on its way:
        the partner is waiting, and a digest takes as long as a good part of the way.

        Raises:
            StorageError: the transcript cannot be written. If that is before the context is
                entered, the message must not leave.
        """
        shapes = tuple((n, a.dtype, a.shape) for n, a in as_arrays(tensors).items())
        what = _what(partner, encoded.topic, shapes, tuple(sorted(header or ())))
        with self._lock:
            # Not by way of an `Entry`: this is on the way of every message.
            line = (
                f'{{"sequence":{self._count},"seconds":{self._clock() - self._opened:.6f},{what},'
                f'"bytes":{encoded.size}'
            )
            self._count += 1
            if self._file is not None:
                self._write(self._file, line.encode())
            try:
                yield
            finally:
                self._finish(line, encoded)

    def _finish(self, line: str, encoded: Encoded) -> None:
        digest = hashlib.sha256()
        for piece in encoded.pieces:
            digest.update(piece)
        rest = f',"sha256":"{digest.hexdigest()}"'
        if self._payload:
            rest += f',"payload":"{base64.b64encode(encoded.join()).decode()}"'
        if self._file is None:
            self.entries.append(Entry(**json.loads(line + rest + "}")))
        else:
            self._write(self._file, (rest + "}\n").encode())

    def close(self) -> None:
        """Close the file. May be called twice.

        Raises:
            StorageError: the file system reports only now that it could not keep what was written.
        """
        with self._lock:
            if self._file is None or self._closed:
                return
            self._closed = True
            try:
                os.close(self._file)
            except OSError as error:
                raise self._cannot_write(error) from error

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, path: Path) -> int:
        # Anybody may read what left, as the user's other files, but not its content.
        mode = 0o600 if self._payload else 0o666
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                os.write(file, _KILLED)
            return file
        except OSError as error:
            raise StorageError(f"cannot write the transcript {path}: {error.strerror}") from error

    def _write(self, file: int, text: bytes) -> None:
        if self._closed:
            raise StorageError(f"cannot write the transcript {self.path}: it is closed")
        try:
            written = os.write(file, text)
            while written < len(text):  # a signal, or a disk that fills up right now
                written += os.write(file, text[written:])
        except OSError as error:
            # The last line may be half there: nothing may follow it.
            self._closed = True
            with suppress(OSError):
                os.close(file)
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> StorageError:
        assert self.path is not None
        told = storage_error(self.path, error)
        return StorageError(f"cannot write the transcript: {told.message}", mend=told.mend)
