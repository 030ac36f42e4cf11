"""Files of what was fitted: JSON of one party's part, bounded, and checked when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from isthmus.errors import DataError, StorageError
from isthmus.files import write_text

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
"""For `__pydantic_config__` of a dataclass that is read back."""
LARGEST = 1 << 28
"""Bytes of a file, at most."""


def parsed(kind: type[T], text: str | bytes, what: str, sound: Callable[[T], bool]) -> T:
    """A dataclass from its JSON.

    Args:
        kind: the dataclass.
        text: the JSON.
        what: it is, for the error.
        sound: whether its fields agree with one another.

    Raises:
        DataError: the text is something else.
    """
    try:
        found = TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise DataError(f"no {what} is in this text: {error.error_count()} faults") from error
    if not sound(found):
        raise DataError(f"the {what} in this text contradicts itself")
    return found


def save(path: str | Path, text: str) -> None:
    """Write the JSON, whole or not at all. Raises StorageError."""
    write_text(Path(path), text + "\n")


def load(path: str | Path, parse: Callable[[bytes], T]) -> T:
    """What `save` wrote.

    Raises:
        StorageError: the file cannot be read, is larger than `LARGEST`, or holds something else.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        if len(data) > LARGEST:
            raise DataError(f"it is larger than {LARGEST} bytes")
        return parse(data)
    except DataError as error:
        raise StorageError(
            f"{path} is damaged, or is another kind of file: {error}",
            mend="Make it again.",
        ) from error
