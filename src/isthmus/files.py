"""Whole-or-nothing files: written beside their final name, synced, then renamed.

A reader never sees half a file under its final name, and an error from the disk becomes one
`StorageError` that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from isthmus.errors import StorageError


def storage_error(path: Path, error: OSError) -> StorageError:
    """An OSError on `path` as a StorageError that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"no space left on the disk that holds {path}",
            mend="Free some space or choose another folder, then run the same command again.",
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}",
        mend="See that its folder can be written, or choose another with --out.",
    )


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
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        # Only clears up: what went wrong before is the error to tell.
        with suppress(OSError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` outlast a power failure, where the file system can.

    Raises:
        OSError: it can, and has failed to.
    """
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # A folder that may be written but not listed, or a file system that syncs files alone.
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_digest(path: Path) -> str:
    """The first 32 hexadecimal digits of the SHA-256 of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def write_digested(new: Path, write: Callable[[Path], None], name: Callable[[str], str]) -> Path:
    """Write a file whose name carries its digest, so that a damaged one is never taken for good.

    Args:
        new: where it lies until its digest is known.
        write: writes the content to the path that it is given; may raise OSError.
        name: the file's name, from its digest.

    Returns:
        Its path, beside `new`.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(new) as temporary:
        write(temporary)
        digest = file_digest(temporary)
    path = new.with_name(name(digest))
    try:
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def files_named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files of a folder whose whole name matches, sorted; none where there is no folder.

    Raises:
        StorageError: the folder cannot be read.
    """
    try:
        if not folder.is_dir():
            return []
        return sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name) and p.is_file())
    except OSError as error:
        raise StorageError(
            f"cannot read the files in {folder}: {error.strerror}",
            mend="See that the folder can be read, or remove it to train from the beginning.",
        ) from error


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files that may be gone already. Raises StorageError."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
