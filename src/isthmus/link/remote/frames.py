"""Frames: what one gRPC message holds, a head of 48 bytes and a chunk of a message or a JSON text.

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
from isthmus.link.remote.runtime import MAX_FRAME_BYTES

_HEAD = struct.Struct("<BB6xQQQQQ")
HEAD_BYTES = _HEAD.size
BODY_BYTES = 512 << 10
"""Where a message is cut. Half of what a receiver takes: while one chunk is decrypted, the next is
encrypted, which nearly halves the time of a message of 1 MiB."""
SMALL_BODY_BYTES = 64 << 10
"""Where it is cut once the line has broken. A frame is heard of only when it is whole: on a line so
slow that one takes longer than three heartbeats, large ones would break it for ever."""
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
    head = _HEAD.pack(_MARK, kind, sequence, total, offset, counters.received, counters.read)
    return b"".join((head, *body))


def pack_message(
    encoded: Encoded, sequence: int, counters: Counters, size: int = BODY_BYTES
) -> list[bytes]:
    """A message as the frames that carry it, of `size` bytes each: one where it fits."""
    total = encoded.size
    if total <= size:
        return [pack(Kind.DATA, counters, encoded.pieces, sequence=sequence, total=total)]
    return [
        pack(Kind.DATA, counters, body, sequence=sequence, total=total, offset=i * size)
        for i, body in enumerate(_cut(encoded.pieces, size))
    ]


def cut_small(frames: list[bytes]) -> list[bytes]:
    """The same item in frames of at most `SMALL_BODY_BYTES`."""
    if all(len(frame) <= HEAD_BYTES + SMALL_BODY_BYTES for frame in frames):
        return frames
    return [part for frame in map(parse, frames) for part in _smaller(frame)]


def _smaller(frame: Frame) -> Iterator[bytes]:
    for at in range(0, len(frame.body), SMALL_BODY_BYTES):
        yield pack(
            frame.kind,
            frame.counters,
            (frame.body[at : at + SMALL_BODY_BYTES],),
            sequence=frame.sequence,
            total=frame.total,
            offset=frame.offset + at,
        )


def pack_note(
    kind: Kind, note: Mapping[str, Any], counters: Counters | None = None, *, sequence: int = 0
) -> bytes:
    """A control frame with a JSON text."""
    text = json.dumps(note, separators=(",", ":")).encode()
    return pack(kind, counters or Counters(), (text,), sequence=sequence, total=len(text))


def parse(data: bytes) -> Frame:
    """Read a frame.

    Raises:
        BadMessage: it is too short, too long or of no known kind.
    """
    if not HEAD_BYTES <= len(data) <= MAX_FRAME_BYTES:
        raise BadMessage(f"a frame of {len(data)} bytes came")
    mark, kind, sequence, total, offset, received, read = _HEAD.unpack_from(data)
    if mark != _MARK or kind not in _KINDS:
        raise BadMessage("a frame of no known kind came")
    body = memoryview(data)[HEAD_BYTES:]
    return Frame(_KINDS[kind], sequence, total, offset, Counters(received, read), body)


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
