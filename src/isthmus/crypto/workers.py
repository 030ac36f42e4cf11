"""Several child processes that hash and multiply points, since one Python process uses one core.

Threads alone do not help: `cryptography` holds the interpreter's lock during an exchange (two
threads took 2.2 times as long as one for twice the work). The children are plain
`python -m isthmus.crypto` on pipes and not a `multiprocessing` pool: they start in a tenth
of a second, import nothing but numpy and `cryptography`, and need no `__main__` guard in the
user's script.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

import isthmus
from isthmus.crypto.curve25519 import POINT_BYTES, LowOrderPoint, Points
from isthmus.crypto.requests import (
    HEADER,
    LOW_ORDER,
    MASK_IDS,
    MULTIPLY,
    REPLY,
    pack_ids,
    perform,
)
from isthmus.errors import IsthmusError

_WORTH_A_PROCESS = 20_000
"""Below this number of ids (about a second of work) starting processes does not pay."""


def default_workers(ids: int) -> int:
    """How many child processes are worth starting for `ids` ids; 0 means work in this process."""
    if ids < _WORTH_A_PROCESS:
        return 0
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class PointWorkers:
    """Hashes and multiplies points in `processes` child processes, or in this one when there are 0.

    A context manager; leaving it ends the children.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._free: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        if processes > 0:
            self._all = [_start() for _ in range(processes)]
            self._free = list(self._all)
            self._threads = ThreadPoolExecutor(processes, thread_name_prefix="points")

    def mask_ids(self, secret: bytes, ids: Sequence[bytes]) -> Future[Points]:
        """The masked points H(id)^secret, uint8 `[n, 32]`."""
        return self._submit(MASK_IDS, secret, len(ids), pack_ids(ids))

    def multiply(self, secret: bytes, points: Points) -> Future[Points]:
        """The points times `secret`, uint8 `[n, 32]`; the future raises `LowOrderPoint`."""
        return self._submit(MULTIPLY, secret, len(points), points.tobytes())

    def __enter__(self) -> PointWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._all:
            if error is not None:
                child.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for child in self._all:
            _end(child)

    def _submit(self, task: int, secret: bytes, count: int, payload: bytes) -> Future[Points]:
        if self._threads is not None:
            return self._threads.submit(self._ask, task, secret, count, payload)
        future: Future[Points] = Future()
        try:
            future.set_result(perform(task, secret, count, payload))
        except LowOrderPoint as error:
            future.set_exception(error)
        return future

    def _ask(self, task: int, secret: bytes, count: int, payload: bytes) -> Points:
        # As many threads as children, so one is always free here.
        with self._lock:
            child = self._free.pop()
        try:
            return _exchange(child, HEADER.pack(task, count, len(payload)) + secret + payload)
        finally:
            with self._lock:
                self._free.append(child)


def _start() -> subprocess.Popen[bytes]:
    package_root = str(Path(isthmus.__file__).parent.parent)
    paths = [package_root, os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", "isthmus.crypto"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
        # An interrupt is for the parent: the child ends when its pipe closes.
        start_new_session=True,
    )


def _exchange(child: subprocess.Popen[bytes], request: bytes) -> Points:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(request)
        child.stdin.flush()
        status, size = REPLY.unpack(child.stdout.read(REPLY.size))
        result = child.stdout.read(size)
    except (BrokenPipeError, struct.error) as error:
        raise _ended_early() from error
    if len(result) != size:
        raise _ended_early()
    if status == LOW_ORDER:
        raise LowOrderPoint("a point has low order")
    return np.frombuffer(result, dtype=np.uint8).reshape(-1, POINT_BYTES)


def _ended_early() -> IsthmusError:
    return IsthmusError(
        "a child process for key agreement ended early",
        mend="It may have run out of memory: close other programs, or use fewer workers.",
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    child.wait()
