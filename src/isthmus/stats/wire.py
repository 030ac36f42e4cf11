"""Messages of statistics, checked before use: a partner's mistake is a clear `BadMessage`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage, DataError, JobError
from isthmus.link import Link, Message
from isthmus.link.checks import whole
from isthmus.session import PATIENCE

MOST_ROWS = 2**31 - 1
MOST_COLUMNS = 10_000
_LONGEST_NAME = 200


def greet(link: Link, topic: str, rows: int, columns: int, same: Mapping[str, Any]) -> int:
    """Say what we are about to do, hear the same, and give the partner's number of columns.

    Args:
        link: to the partner.
        topic: of the message.
        rows: of the aligned table, at least 1.
        columns: of our own.
        same: what both sides must say alike: plain JSON values.

    Raises:
        DataError: the partner has another number of rows.
        JobError: it says otherwise in `same`.
        BadMessage: its message is malformed.
    """
    link.send(topic, header={"rows": rows, "columns": columns, "same": dict(same)})
    message = link.recv(topic, timeout=PATIENCE)
    theirs = whole(link, message, "rows", 1, MOST_ROWS)
    if theirs != rows:
        raise DataError(
            f"{link.partner} comes with {theirs} rows, {link.me} with {rows}",
            mend="Align the tables first and take the aligned rows on both sides.",
        )
    said = message.header.get("same")
    if not isinstance(said, Mapping):
        raise BadMessage(f"{link.partner} sent {topic} without what must be alike")
    for name, value in same.items():
        if said.get(name) != value:
            raise JobError(
                f"{link.partner} has {name} = {str(said.get(name))[:40]!r}, "
                f"{link.me} has {value!r}",
                mend="Give both sides the same options.",
            )
    return whole(link, message, "columns", 0, MOST_COLUMNS)


def shown_names(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Names of columns for a message, uint8: a header could not hold thousands."""
    return np.frombuffer(json.dumps(list(names)).encode(), np.uint8)


def names(link: Link, message: Message, count: int) -> tuple[str, ...]:
    """The `count` names of columns that `shown_names` made, all different.

    Raises:
        BadMessage: they are something else.
    """
    data = tensor_of_any_length(link, message, "names", np.uint8)
    # Twelve bytes are the most that JSON makes of a character.
    most = 2 + count * (12 * _LONGEST_NAME + 4)
    try:
        found = json.loads(data.tobytes()) if data.size <= most else None
    except (ValueError, RecursionError):
        found = None
    fits = (
        isinstance(found, list)
        and len(found) == count
        and all(isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME for name in found)
        and len(set(found)) == count
    )
    if not fits or not isinstance(found, list):
        raise BadMessage(f"{link.partner} sent {message.topic} without {count} names of columns")
    return tuple(found)


def tensor(
    link: Link, message: Message, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """A tensor of the message, finite.

    Raises:
        BadMessage: it is missing, of another dtype or shape, or has NaN or infinity.
    """
    array = message.tensors.get(name)
    if array is None or array.dtype != np.dtype(dtype) or array.shape != shape:
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadMessage(f"{link.partner} sent {message.topic} with a {name!r} that is not finite")
    return array


def tensor_of_any_length(
    link: Link, message: Message, name: str, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """A vector of the message, whose length its reader checks.

    Raises:
        BadMessage: it is missing, or is no vector of this dtype.
    """
    array = message.tensors.get(name)
    if array is None or array.dtype != np.dtype(dtype) or array.ndim != 1:
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return array
