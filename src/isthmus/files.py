"""Whole-or-nothing files: written beside their final name, synced, then renamed.

A reader never sees half a file under its final name, and an error from the disk becomes one
`StorageError` that names the file.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from isthmus.errors import StorageError


def storage_error(path: Path, error: OSError) -> StorageError:
    """An OSError on `path` as a StorageError that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"no space left on the disk that holds {path}",
            mend="Free some space or choose another folder, then run the same command again.",
        )
    return StorageError(f"cannot write {path}: {error.strerror or error}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on error it is removed.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Let `write` fill a binary file that appears under `path` only when it is whole."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        write(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    write_file(path, lambda file: _write_all(file, content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _write_all(file: IO[bytes], content: bytes) -> None:
    file.write(content)
