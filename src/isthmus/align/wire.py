"""Messages of an alignment, checked before use: a partner's mistake is a clear `BadMessage`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage
from isthmus.link import Link, Message


def take(
    link: Link, topic: str, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The only tensor of the next message of `topic`.

    Raises:
        BadMessage: it is not called `name`, or has another dtype or shape than agreed.
    """
    return tensor(link, link.recv(topic), name, dtype, shape)


def tensor(
    link: Link, message: Message, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The only tensor of `message`, checked like `take`."""
    if set(message.tensors) != {name}:
        raise BadMessage(f"{link.partner} sent {message.topic} with other tensors than {name!r}")
    array = message.tensors[name]
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise BadMessage(
            f"{link.partner} sent {message.topic} as {array.dtype} {list(array.shape)}, "
            f"agreed was {np.dtype(dtype)} {list(shape)}"
        )
    return array


def number(link: Link, message: Message, name: str, most: int) -> int:
    """A whole number from 1 to `most` of the message's header.

    Raises:
        BadMessage: it is missing, or is not such a number.
    """
    value = message.header.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return value
