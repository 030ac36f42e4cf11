"""One TLS stream while it lives: frames out without waiting, frames in by whoever needs one.

A frame goes as its length, 4 bytes little-endian, and its bytes. Few threads are woken, since each
that is costs as much as a small message: whoever sends encrypts and writes itself as long as the
system takes the bytes at once, and whoever waits for a message reads itself.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress

from isthmus.link.codec import Buffer
from isthmus.link.remote.incoming import LENGTH, RECORD, Incoming

_LOOK_UP = 0.5
"""Seconds after which a writer that waits for room looks whether the stream is over."""
_STAND_BACK = 0.05
"""Seconds since somebody else read a frame after which the wire's own reader takes its turn."""
_GIVE_WAY = 0.01
"""Seconds that the wire's own reader is given to make way."""


class Wire:
    """One stream, alike for the side that listens and the side that dials.

    Only the thread that iterates `frames` calls `close`; all else may be called by any thread.

    Args:
        line: connected, its handshake done; the wire's own from now on.

    Raises:
        OSError: there are no file descriptors left; `line` is closed then.
    """

    def __init__(self, line: ssl.SSLSocket) -> None:
        self.spoke = False
        """Whether a frame left since the last heartbeat."""
        self._line = line
        line.setblocking(False)
        with suppress(OSError):  # some systems refuse it where the other side has hung up already
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = threading.Lock()
        self._out = threading.Condition(threading.Lock())
        self._backlog: deque[memoryview | None] = deque()
        """What the system has not taken; None where our half ends."""
        self._report: bytes | None = None
        self._over = False
        self._writer: threading.Thread | None = None
        try:
            self._incoming = Incoming(line, self._tls)
        except OSError:
            line.close()
            raise
        self._turn = threading.Lock()
        """Held by whoever reads, until what it has read is dealt with."""
        self._is_led = False
        """Whether somebody else than the wire's own reader has the turn, or is about to."""
        self._taken_at = -_STAND_BACK
        self._needed = threading.Event()
        self._failure: Exception | None = None

    @property
    def heard(self) -> float:
        """When bytes came last, in seconds of the monotonic clock."""
        return self._incoming.heard

    @property
    def came(self) -> int:
        """Bytes of large frames that have come."""
        return self._incoming.came

    # Out.

    def put(self, frame: Buffer) -> None:
        """Send a frame; never waits. Nothing happens where the stream has ended."""
        with self._out:
            self._send(frame)

    def put_report(self, frame: bytes) -> None:
        """Send a frame of counters; of those that find no room only the last one is kept.

        A partner that asks for reports and takes none cannot fill our memory with them.
        """
        with self._out:
            if self._backlog:
                self._report = frame
            else:
                self._send(frame)

    def end(self) -> None:
        """Send what is queued, then end our half of the stream."""
        with self._out:
            self._backlog.append(None)
            self._push()

    def cancel(self) -> None:
        """End the stream at once."""
        # Not the method of `ssl.SSLSocket`: after that one what follows would leave in the clear.
        with suppress(OSError):
            socket.socket.shutdown(self._line, socket.SHUT_RDWR)

    def close(self) -> None:
        """End the stream at once and give everything back."""
        with self._out:
            self._over = True
            self._backlog.clear()
            self._out.notify_all()
        self.cancel()
        if self._writer is not None:
            self._writer.join()
        with self._turn:
            self._failure = self._failure or EOFError()
            self._incoming.close()
            self._line.close()

    # In.

    def frames(self) -> Generator[Buffer, None, None]:
        """The frames that come and that nobody else reads, until the partner ends its half.

        Whoever has one in hand has the turn, lest the next one be dealt with before it. So close
        the generator before `linger` and `close`.

        Raises:
            OSError: the stream broke; `ssl.SSLError`, where TLS says why.
        """
        while True:
            self._stand_back()
            with self._turn:
                frame = None if self._failure else self._read(None)
                failure = self._failure
                if frame is not None:
                    yield frame
                    continue
            if isinstance(failure, EOFError):
                return
            elif failure is not None:
                raise failure

    def take_turn(self) -> bool:
        """Begin to read in place of the wire's reader; False where somebody else does.

        Whoever has it calls `read`, and then `give_turn`.
        """
        if not self._turn.acquire(blocking=False):
            if self._is_led:
                return False
            self._is_led = True
            self._taken_at = time.monotonic()
            self._needed.clear()
            self._incoming.wake()
            if not self._turn.acquire(timeout=_GIVE_WAY):
                self._is_led = False
                return False
        self._is_led = True
        self._needed.clear()
        self._taken_at = time.monotonic()
        if self._failure is None:
            return True
        self.give_turn()
        return False

    def read(self, until: float) -> Buffer | None:
        """The next frame; None at `until` on the monotonic clock, once woken, or at the end."""
        return self._read(until) if self._failure is None else None

    def give_turn(self, *, at_once: bool = False) -> None:
        """End reading; `at_once`, if somebody else waits for what the wire's reader will read."""
        self._taken_at = time.monotonic()
        self._is_led = False
        self._turn.release()
        if at_once or self._failure is not None:
            self.hurry()

    def hurry(self) -> None:
        """Let the wire's reader read on: somebody waits for what comes, and does not read.

        That holds until a turn is taken; whoever takes it looks whether somebody waits.
        """
        self._needed.set()

    def wake(self) -> None:
        """Let whoever reads look up."""
        self._incoming.wake()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self._failure is not None

    def linger(self, seconds: float) -> None:
        """End our half and wait until the partner ends its own, for `seconds` at most.

        A stream that is closed while something unread has come is reset, and then the partner may
        never see what was sent last.
        """
        self.end()
        until = time.monotonic() + seconds
        with self._turn:
            while self._failure is None and time.monotonic() < until:
                self._read(until)

    # Inside.

    def _read(self, until: float | None) -> Buffer | None:
        """With the turn: what `Incoming.next` gives; None at the end too, whose cause is kept."""
        try:
            frame = self._incoming.next(until)
        except (EOFError, OSError) as error:
            self._failure = error
            return None
        if frame is not None and not frame:
            self._failure = EOFError()  # what follows a frame too long cannot be read
        return frame

    def _stand_back(self) -> None:
        """Wait while others read: they take their turn again within moments."""
        while (left := self._taken_at + _STAND_BACK - time.monotonic()) > 0:
            if self._needed.wait(left):
                return

    # Called with `_out` held.

    def _send(self, frame: Buffer) -> None:
        if self._over:
            return
        first = RECORD - LENGTH.size
        view = memoryview(frame)
        # Joined only as far as one record goes: the length would be a record of its own.
        self._backlog.append(memoryview(LENGTH.pack(len(view)) + view[:first]))
        if len(view) > first:
            self._backlog.append(view[first:])
        if len(self._backlog) <= 2:
            self._push()

    def _push(self) -> None:
        """Write what the system takes; the writer will see to the rest."""
        if self._write_some():
            return
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_rest, name="wire", daemon=True)
            self._writer.start()
        self._out.notify()

    def _write_some(self) -> bool:
        """Write until the system takes no more; whether nothing is left."""
        backlog = self._backlog
        try:
            while backlog or self._report is not None:
                if not backlog:
                    report, self._report = self._report, None
                    assert report is not None
                    backlog.append(memoryview(LENGTH.pack(len(report)) + report))
                piece = backlog[0]
                if piece is None:
                    backlog.clear()
                    self._over = True
                    socket.socket.shutdown(self._line, socket.SHUT_WR)
                    return True
                with self._tls:
                    sent = self._line.send(piece)
                if sent == len(piece):
                    backlog.popleft()
                else:
                    backlog[0] = piece[sent:]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return False
        except OSError:
            self._over = True
            backlog.clear()
            self.cancel()  # so that whoever reads notices
        return True

    def _write_rest(self) -> None:
        with selectors.DefaultSelector() as writable:
            writable.register(self._line, selectors.EVENT_WRITE)
            while True:
                with self._out:
                    while not self._backlog and not self._over:
                        self._out.wait()
                    if self._over:
                        return
                    blocked = not self._write_some()
                if blocked:
                    writable.select(_LOOK_UP)
