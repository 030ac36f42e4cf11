"""Frames: a head of 48 bytes and a chunk of a message or a JSON text.

Every frame carries how much its sender has received and read, so that traffic in both directions
acknowledges itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from isthmus.errors import BadMessage
from isthmus.link.codec import Buffer, Encoded

_HEAD = struct.Struct("<BBxxIQQQQQ")
HEAD_BYTES = _HEAD.size
MAX_FRAME_BYTES = 1 << 20
"""The largest frame, its head included, in bytes."""
BODY_BYTES = 512 << 10
"""Where a message is cut: each frame carries anew what its sender has received and read."""
MAX_NOTE_BYTES = 4096
"""The longest JSON text of a control frame."""
_MARK = 0x49


class Kind(IntEnum):
    """What a frame is. Those from DATA to FAIL have a sequence number and are resent when lost."""

    HELLO = 1
    REFUSE = 2
    ACK = 3
    """Only counters; also the heartbeat."""
    ASK = 4
    """The window is full: report at once what you read."""
    DATA = 16
    GOODBYE = 17
    FAIL = 18


class Counters(NamedTuple):
    """How far the sender of a frame has come with what it was sent."""

    received: int = 0
    """It has every sequenced item below this number."""
    read: int = 0
    """Cost of all messages its application has read."""
    came: int = 0
    """Bytes of large frames that have come to it, modulo 2^32: progress within a long message."""


class Frame(NamedTuple):
    """One parsed frame."""

    kind: Kind
    sequence: int
    total: int
    """Bytes of the whole message."""
    offset: int
    """Where this chunk begins in the message."""
    counters: Counters
    body: memoryview


def pack(
    kind: Kind,
    counters: Counters,
    body: Iterable[Buffer] = (),
    *,
    sequence: int = 0,
    total: int = 0,
    offset: int = 0,
) -> bytes:
    """A frame as bytes; `body` is joined once."""
    received, read, came = counters
    head = _HEAD.pack(_MARK, kind, came, sequence, total, offset, received, read)
    return b"".join((head, *body))


def pack_message(encoded: Encoded, sequence: int, counters: Counters) -> list[bytes]:
    """A message as the frames that carry it, of `BODY_BYTES` each: one where it fits."""
    size = BODY_BYTES
    total = encoded.size
    if total <= size:
        return [pack(Kind.DATA, counters, encoded.pieces, sequence=sequence, total=total)]
    return [
        pack(Kind.DATA, counters, body, sequence=sequence, total=total, offset=i * size)
        for i, body in enumerate(_cut(encoded.pieces, size))
    ]


def pack_note(
    kind: Kind, note: Mapping[str, Any], counters: Counters | None = None, *, sequence: int = 0
) -> bytes:
    """A control frame with a JSON text."""
    text = json.dumps(note, separators=(",", ":")).encode()
    return pack(kind, counters or Counters(), (text,), sequence=sequence, total=len(text))


def parse(data: Buffer) -> Frame:
    """Read a frame.

    Raises:
        BadMessage: it is too short, too long or of no known kind.
    """
    if not HEAD_BYTES <= len(data) <= MAX_FRAME_BYTES:
        raise BadMessage(f"a frame of {len(data)} bytes came")
    mark, kind, came, sequence, total, offset, received, read = _HEAD.unpack_from(data)
    if mark != _MARK or kind not in _KINDS:
        raise BadMessage("a frame of no known kind came")
    body = memoryview(data)[HEAD_BYTES:]
    return Frame(_KINDS[kind], sequence, total, offset, Counters(received, read, came), body)


def read_note(frame: Frame) -> dict[str, Any]:
    """The JSON text of a control frame.

    Raises:
        BadMessage: it is none, or too long.
    """
    try:
        if len(frame.body) > MAX_NOTE_BYTES:
            raise ValueError
        note = json.loads(bytes(frame.body))
    except (ValueError, RecursionError):
        raise BadMessage(f"a malformed {frame.kind.name} frame came") from None
    if not isinstance(note, dict):
        raise BadMessage(f"a malformed {frame.kind.name} frame came")
    return note


_KINDS = {kind.value: kind for kind in Kind}


def _cut(pieces: Iterable[Buffer], size: int) -> Iterator[list[Buffer]]:
    """`pieces` regrouped so that each group, but the last, holds exactly `size` bytes."""
    group: list[Buffer] = []
    free = size
    for piece in pieces:
        view = _as_bytes(piece)
        while len(view):
            part, view = view[:free], view[free:]
            group.append(part)
            free -= len(part)
            if not free:
                yield group
                group, free = [], size
    if group:
        yield group


def _as_bytes(piece: Buffer) -> memoryview:
    view = memoryview(piece)
    # A view of an array without elements cannot be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")
