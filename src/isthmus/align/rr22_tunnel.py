"""Two local connections of a program carried over a link, as messages like all others.

`spu` opens a connection to its partner's process and awaits one from it, both at sockets in a
folder of its own. Here is the other end of both sockets: what comes out of them goes to the partner
by the topics `align.tunnel.receiver`, the connection that the receiver of the result opened, and
`align.tunnel.sender`, both ways each::

    {"bytes": uint8 [n]}   the next bytes of the connection, at most `CHUNK`; none where it has
                           ended and the program has said that it is done

So everything crosses the one pinned line, is metered, and stands in the transcript.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from isthmus.align.wire import tensor
from isthmus.errors import BadMessage, PartnerSlow, StorageError
from isthmus.link import Link

CHUNK = 1 << 18
"""The most bytes of a message."""
GRACE = 30.0
"""Seconds between the end of a connection and that of the program."""
LAST = 300.0
"""Seconds between the answer of our program and the end of the partner's connections."""
POLL = 0.5
"""Seconds between two looks at whether all is over."""
MOST_BYTES, MOST_BYTES_PER_ID = 64 << 20, 200
"""The partner may send so much, and so much for each id of both sides: several times what it
needs, so that the program's memory cannot be filled without end."""
_T = TypeVar("_T")


@dataclass
class _Lane:
    """One connection."""

    topic: str
    ours: bool
    """Whether our program opens it."""
    socket: Future[socket.socket] = field(default_factory=Future)
    """Our end of it, once it is open."""


class Tunnel:
    """Carries the connections of one program, between two parties that both have such a tunnel.

    Args:
        link: to the partner.
        folder: the program finds us at the socket `partner` there, and we find it at `own`.
        receiver: whether our program is the receiver.
        ids: of both sides together.

    Raises:
        StorageError: there can be no socket in this folder.
    """

    def __init__(self, link: Link, folder: Path, *, receiver: bool, ids: int) -> None:
        self._link = link
        self._own = str(folder / "own")
        self._left = MOST_BYTES + MOST_BYTES_PER_ID * ids
        self._state = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lanes = (
            _Lane("align.tunnel.receiver", receiver),
            _Lane("align.tunnel.sender", not receiver),
        )
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(folder / "partner"))
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise StorageError(
                f"cannot make a socket in {folder}: {error}",
                mend="Let TMPDIR name a folder with a short path.",
            ) from error
        self._listener.settimeout(POLL)

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        with self._state:
            self._over.set()
        self._listener.close()
        for lane in self._lanes:
            if lane.socket.done():
                with contextlib.suppress(OSError):
                    lane.socket.result().shutdown(socket.SHUT_RDWR)
                lane.socket.result().close()
        for thread in self._threads:
            thread.join(timeout=10 * POLL)

    def carry(self, program: Callable[[], int]) -> int:
        """Carry until the program has answered and both connections have ended; its answer.

        Args:
            program: waits for the program's answer; must not outlive the program.

        Raises:
            BadMessage: the partner did not keep to the protocol.
            LinkError: the line failed, or the partner did, or it does not end.
            Exception: what `program` raised.
        """
        answer = self._start(program)
        pumps: list[Future[Any]] = [
            self._start(partial(pump, lane, answer))
            for lane in self._lanes
            for pump in (self._outward, self._inward)
        ]
        wait([answer, *pumps], return_when=FIRST_EXCEPTION)
        for one in (answer, *pumps):
            if one.done():
                one.result()
        return answer.result()

    def _start(self, work: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        thread = threading.Thread(target=_run, args=(work, future), name="tunnel", daemon=True)
        self._threads.append(thread)
        thread.start()
        return future

    def _outward(self, lane: _Lane, answer: Future[int]) -> None:
        if lane.ours:
            self._accept(lane)
        if (end := self._socket(lane)) is None:
            return
        while part := _received(end):
            self._link.send(lane.topic, {"bytes": np.frombuffer(part, dtype=np.uint8)})
        self._await(answer)
        self._link.send(lane.topic, {"bytes": np.empty(0, dtype=np.uint8)})

    def _inward(self, lane: _Lane, answer: Future[int]) -> None:
        while (part := self._next(lane, answer)) is not None and len(part):
            if not (lane.ours or lane.socket.done()):
                self._connect(lane)
            if (end := self._socket(lane)) is None:
                return
            # Where the program has ended the connection, its answer says why.
            with contextlib.suppress(OSError):
                end.sendall(part.data)
        if part is not None:
            self._await(answer)

    def _next(self, lane: _Lane, answer: Future[int]) -> npt.NDArray[np.uint8] | None:
        """The partner's next bytes, uint8 `[n]`; None where all is over.

        As long as our program runs, its own patience ends a silence; afterwards `LAST` does.
        """
        patience = LAST
        while not self._over.is_set():
            with contextlib.suppress(PartnerSlow):
                message = self._link.recv(lane.topic, timeout=POLL)
                size = sum(len(array) for array in message.tensors.values() if array.ndim == 1)
                part = tensor(self._link, message, "bytes", np.uint8, (min(size, CHUNK),))
                self._count(size)
                return part
            if answer.done():
                patience -= POLL
            if patience < 0:
                raise PartnerSlow(f"{self._link.partner} is done, and does not say so")
        return None

    def _count(self, size: int) -> None:
        with self._state:
            self._left -= size
            if self._left < 0:
                raise BadMessage(f"{self._link.partner} sent more than so many ids can need")

    def _await(self, answer: Future[int]) -> None:
        """See that the program is done, or nearly so, once a connection has ended."""
        try:
            answer.result(timeout=GRACE)
        except TimeoutError:
            if not self._over.is_set():
                raise BadMessage(
                    f"{self._link.partner} sent what ended a connection early"
                ) from None

    def _accept(self, lane: _Lane) -> None:
        while not self._over.is_set():
            try:
                self._open(lane, self._listener.accept()[0])
            except TimeoutError:
                continue
            except OSError:
                if not self._over.is_set():
                    raise
            return

    def _connect(self, lane: _Lane) -> None:
        """Connect to the program, which may not be there yet."""
        while not self._over.is_set():
            end = socket.socket(socket.AF_UNIX)
            try:
                end.connect(self._own)
            except OSError:
                end.close()
                time.sleep(0.01)
            else:
                self._open(lane, end)
                return

    def _open(self, lane: _Lane, end: socket.socket) -> None:
        with self._state:
            if self._over.is_set():
                end.close()
            else:
                lane.socket.set_result(end)

    def _socket(self, lane: _Lane) -> socket.socket | None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                return lane.socket.result(timeout=POLL)
        return None


def _run(work: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _received(end: socket.socket) -> bytes:
    """The next bytes of a connection; none where it has ended."""
    try:
        return end.recv(CHUNK)
    except OSError:
        return b""
