"""Messages of an alignment, checked before use: a partner's mistake is a clear `BadMessage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage
from isthmus.link import Link, Message


def take(
    link: Link,
    topic: str,
    name: str,
    dtype: npt.DTypeLike,
    shape: tuple[int, ...],
    *,
    timeout: float | None = None,
) -> npt.NDArray[Any]:
    """The only tensor of the next message of `topic`; waits as `Link.recv` does.

    Raises:
        BadMessage: it is not called `name`, or has another dtype or shape than agreed.
    """
    return tensor(link, link.recv(topic, timeout=timeout), name, dtype, shape)


def tensor(
    link: Link, message: Message, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The only tensor of `message`, checked like `take`."""
    return tensors(link, message, {name: (dtype, shape)})[0]


def tensors(
    link: Link, message: Message, agreed: Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]]
) -> list[npt.NDArray[Any]]:
    """The tensors of `message`, each with the agreed dtype and shape, and no others.

    Raises:
        BadMessage: they are others.
    """
    if set(message.tensors) != set(agreed):
        names = " and ".join(map(repr, agreed))
        raise BadMessage(f"{link.partner} sent {message.topic} with other tensors than {names}")
    for name, (dtype, shape) in agreed.items():
        array = message.tensors[name]
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise BadMessage(
                f"{link.partner} sent {message.topic} as {array.dtype} {list(array.shape)}, "
                f"agreed was {np.dtype(dtype)} {list(shape)}"
            )
    return [message.tensors[name] for name in agreed]


def number(link: Link, message: Message, name: str, most: int, *, least: int = 1) -> int:
    """A whole number from `least` to `most` of the message's header.

    Raises:
        BadMessage: it is missing, or is not such a number.
    """
    value = message.header.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadMessage(f"{link.partner} sent {message.topic} without a proper {name!r}")
    return value
