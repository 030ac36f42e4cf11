"""Messages of boosted trees, checked before use: a partner's mistake is a clear `BadMessage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage
from isthmus.link import Link, Message
from isthmus.session import PATIENCE

MOST_COLUMNS = 10_000
Bools = npt.NDArray[np.bool_]


def hear(link: Link, topic: str) -> Message:
    """The next message of `topic`, however long the partner works on it."""
    return link.recv(topic, timeout=PATIENCE)


def take(
    link: Link, message: Message, agreed: Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]]
) -> list[npt.NDArray[Any]]:
    """The tensors of `message`, each with the agreed dtype and shape, and no others.

    Raises:
        BadMessage: they are others.
    """
    if set(message.tensors) != set(agreed):
        names = " and ".join(map(repr, agreed)) or "none"
        raise BadMessage(f"{link.partner} sent {message.topic} with other tensors than {names}")
    for name, (dtype, shape) in agreed.items():
        array = message.tensors[name]
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise BadMessage(
                f"{link.partner} sent {message.topic} with {name!r} as {array.dtype} "
                f"{list(array.shape)}, agreed was {np.dtype(dtype)} {list(shape)}"
            )
    return [message.tensors[name] for name in agreed]


def take_bits(link: Link, message: Message, name: str, count: int) -> Bools:
    """The only tensor of `message`: bits as `packed` makes them, bool `[count]`.

    Raises:
        BadMessage: it is something else, or has bits set beyond the last.
    """
    (array,) = take(link, message, {name: (np.uint8, (packed_bytes(count),))})
    return unpacked(link, message, array, count)


def unpacked(link: Link, message: Message, array: npt.NDArray[np.uint8], count: int) -> Bools:
    """The bits of `packed`, bool `[count]`. Raises BadMessage where others are set."""
    bits = np.unpackbits(array, bitorder="little").astype(np.bool_)
    if bits[count:].any():
        raise BadMessage(f"{link.partner} sent {message.topic} with bits beyond the last")
    return bits[:count]


def unpacked_rows(link: Link, message: Message, array: npt.NDArray[np.uint8], count: int) -> Bools:
    """Bits packed row by row, bool `[n, count]`. Raises BadMessage where others are set."""
    bits = np.unpackbits(array, axis=1, bitorder="little").astype(np.bool_)
    if bits[:, count:].any():
        raise BadMessage(f"{link.partner} sent {message.topic} with bits beyond the last")
    return bits[:, :count]


def packed(bits: Bools) -> npt.NDArray[np.uint8]:
    """Bits eight to a byte, the first the lowest, the last byte filled with zeros."""
    return np.packbits(bits, bitorder="little")


def packed_bytes(count: int) -> int:
    """Bytes that `packed` makes of so many bits."""
    return -(-count // 8)
