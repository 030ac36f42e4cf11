"""Lossless coding of a message's bytes: how many are sent depends on what they say."""

from __future__ import annotations

import zlib
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage

Bytes = npt.NDArray[np.uint8]


class Coder(Protocol):
    """Makes fewer bytes of many, where it can."""

    name: ClassVar[str]
    """In a job file."""

    def encode(self, body: Bytes) -> Bytes:
        """The coded bytes; they may be more than `body`'s."""

    def decode(self, coded: Bytes, whole: int) -> Bytes:
        """The `whole` bytes that were coded.

        Raises:
            BadMessage: `coded` does not stand for exactly so many.
        """


class Zeros:
    """A bit for each byte, which says whether it is the most frequent one, and the others.

    After a ReLU half of a cut tensor is zero, with dropout more, and a zero is one byte in all
    eight-bit formats of the guards. There this does most of what zlib does in a fraction of the
    time.
    """

    name: ClassVar[str] = "zeros"

    def encode(self, body: Bytes) -> Bytes:
        """See `Coder.encode`: uint8 [1 + bytes / 8 + others]."""
        # A sample tells what is frequent; a wrong guess costs bytes only.
        common = np.bincount(body[::16], minlength=256).argmax().astype(np.uint8)
        other = body != common
        bitmap = np.packbits(other, bitorder="little")
        return np.concatenate((common.reshape(1), bitmap, body[other]))

    def decode(self, coded: Bytes, whole: int) -> Bytes:
        """See `Coder.decode`."""
        start = 1 + -(-whole // 8)
        if len(coded) < start:
            raise BadMessage("a message is shorter than its bitmap")
        bits = np.unpackbits(coded[1:start], bitorder="little").view(bool)
        other, rest = bits[:whole], coded[start:]
        if bits[whole:].any() or np.count_nonzero(other) != len(rest):
            raise BadMessage("a message holds other bytes than its bitmap says")
        body = np.full(whole, coded[0])
        body[other] = rest
        return body


class Zlib:
    """zlib at its fastest level."""

    name: ClassVar[str] = "zlib"

    def encode(self, body: Bytes) -> Bytes:
        """See `Coder.encode`."""
        return np.frombuffer(zlib.compress(body.data, 1), np.uint8)

    def decode(self, coded: Bytes, whole: int) -> Bytes:
        """See `Coder.decode`; never makes more than `whole` + 1 bytes."""
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(np.ascontiguousarray(coded).data, whole + 1)
        except zlib.error:
            raise BadMessage("a deflated message is damaged") from None
        if len(content) != whole or not inflater.eof or inflater.unused_data:
            raise BadMessage(f"a deflated message does not hold the agreed {whole} bytes")
        return np.frombuffer(content, np.uint8)


CODERS: dict[str, Coder] = {coder.name: coder for coder in (Zeros(), Zlib())}
"""By name."""
