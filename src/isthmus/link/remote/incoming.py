"""The incoming half of a TLS stream: bytes put together to frames, by one thread after another."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress

import numpy as np

from isthmus.link.codec import Buffer
from isthmus.link.remote.frames import MAX_FRAME_BYTES

LENGTH = struct.Struct("<I")
"""What stands before each frame: its bytes."""
RECORD = 16 << 10
"""Bytes of a TLS record, at most."""
_BUFFER = 8 * RECORD
_LARGE = 2 * RECORD
"""Frames from this size on are read into memory of their own."""


class Incoming:
    """Reads frames. One thread at a time may call `next`; `wake` and the rest anybody.

    Args:
        line: connected, its handshake done, not blocking.
        tls: held during each call into TLS: OpenSSL does not allow two threads in one stream.
    """

    def __init__(self, line: ssl.SSLSocket, tls: threading.Lock) -> None:
        self.heard = time.monotonic()
        """When bytes came last, in seconds of the monotonic clock."""
        self.came = 0
        """Bytes of large frames that have come."""
        self._line = line
        self._tls = tls
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0
        self._large: memoryview | None = None
        """A large frame of which `_filled` bytes have come."""
        self._filled = 0
        self._waker, self._alarm = socket.socketpair()
        self._alarm.setblocking(False)
        self._waker.setblocking(False)
        self._readable = selectors.DefaultSelector()
        self._readable.register(line, selectors.EVENT_READ)
        self._readable.register(self._alarm, selectors.EVENT_READ)

    def next(self, until: float | None) -> Buffer | None:
        """The next frame; None once `wake` is called, or at `until` on the monotonic clock.

        In place of a frame longer than any may be the empty one is given, which nobody takes for
        valid.

        Raises:
            EOFError: the partner has ended its half.
            OSError: the stream broke; `ssl.SSLError`, where TLS says why.
        """
        while (frame := self._whole()) is None:
            view = self._room()
            count = self._read(view, until)
            if count is None:
                return None
            if not count:
                raise EOFError
            if self._large is None:
                self._end += count
            else:
                self._filled += count
                self.came += count
        return frame

    def wake(self) -> None:
        """Let whoever waits in `next` return at once, or the next one who would."""
        with suppress(OSError):  # full: somebody has woken it already; or closed
            self._waker.send(b"\0")

    def close(self) -> None:
        """Give back everything but the line."""
        self._readable.close()
        self._waker.close()
        self._alarm.close()

    def _whole(self) -> Buffer | None:
        """A frame that has come whole."""
        if self._large is not None:
            if self._filled < len(self._large):
                return None
            frame, self._large = self._large, None
            return frame
        held = self._end - self._start
        if held < LENGTH.size:
            return None
        (size,) = LENGTH.unpack_from(self._buffer, self._start)
        if size > MAX_FRAME_BYTES:
            return b""
        begin = self._start + LENGTH.size
        if begin + size <= self._end:
            self._start = begin + size
            return bytes(self._buffer[begin : self._start])
        if size >= _LARGE:
            self._large = np.empty(size, np.uint8).data
            self._filled = self._end - begin
            self._large[: self._filled] = self._buffer[begin : self._end]
            self._start = self._end = 0
        return None

    def _room(self) -> memoryview:
        """Where the next bytes go."""
        if self._large is not None:
            return self._large[self._filled :]
        if self._start:
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        return self._buffer[self._end :]

    def _read(self, view: memoryview, until: float | None) -> int | None:
        """Bytes put into `view`, 0 at the end of the stream; None once woken or at `until`."""
        while True:
            try:
                with self._tls:
                    count = self._line.recv_into(view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                left = None if until is None else until - time.monotonic()
                if (left is not None and left <= 0) or self._is_woken(left):
                    return None
                continue
            self.heard = time.monotonic()
            return count

    def _is_woken(self, seconds: float | None) -> bool:
        """Wait until there is something to read, or somebody calls `wake`."""
        for key, _ in self._readable.select(seconds):
            if key.fileobj is self._alarm:
                with suppress(OSError):
                    self._alarm.recv(64)
                return True
        return False
