"""What a child process of `PointWorkers` is asked, what it answers, and the work itself.

A request is `HEADER(task, ids, bytes)`, the secret and the payload; an answer is
`REPLY(status, bytes)` and the payload. They stay on this machine, between a process and its child.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from isthmus.crypto.curve25519 import POINT_BYTES, LowOrderPoint, Points, hash_to_points, multiply

HEADER = struct.Struct("<BIQ")
REPLY = struct.Struct("<BQ")
SECRET_BYTES = 32
MASK_IDS, MULTIPLY = 1, 2
DONE, LOW_ORDER = 0, 1


def pack_ids(ids: Sequence[bytes]) -> bytes:
    """Ids as one block: their lengths as uint32, then the ids themselves."""
    lengths = np.fromiter(map(len, ids), dtype="<u4", count=len(ids))
    return lengths.tobytes() + b"".join(ids)


def unpack_ids(block: bytes, count: int) -> list[bytes]:
    """The inverse of `pack_ids`."""
    lengths = np.frombuffer(block, dtype="<u4", count=count)
    ends = (np.cumsum(lengths, dtype=np.int64) + 4 * count).tolist()
    return [block[end - n : end] for n, end in zip(lengths.tolist(), ends, strict=True)]


def perform(task: int, secret: bytes, count: int, payload: bytes) -> Points:
    """One request: mask the ids of a block, or multiply points."""
    if task == MASK_IDS:
        return multiply(secret, hash_to_points(unpack_ids(payload, count)))
    return multiply(secret, np.frombuffer(payload, dtype=np.uint8).reshape(count, POINT_BYTES))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while header := requests.read(HEADER.size):
        task, count, size = HEADER.unpack(header)
        secret = requests.read(SECRET_BYTES)
        payload = requests.read(size)
        try:
            status, result = DONE, perform(task, secret, count, payload).tobytes()
        except LowOrderPoint:
            status, result = LOW_ORDER, b""
        answers.write(REPLY.pack(status, len(result)))
        answers.write(result)
        answers.flush()
