"""A TCP proxy that behaves as a long line: a delay and a bit rate for each direction.

python -m benchmarks.shaped_line --target 127.0.0.1:7600 --rtt 20 --rate 100

Each direction is a first-in, first-out line. Bytes wait until the line is free, take their size
over the rate to go onto it, and come out half the round trip later. What waits is bounded, and a
full queue stops reading from the sender (back-pressure) where a router would drop packets. Bits are
those of TCP's payload, headers not counted; the TCP handshake itself takes no time. `tc netem` is
not in every kernel and needs root; this needs neither. One thread does it all. Where the system
lets it, it does not wait for a core (`SCHED_FIFO`), as a line would not. A message of 28 KB each
way takes some 0.3 ms of a core.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PIECE_SECONDS = 0.0025
"""What is put on the line at once. The last byte of a piece comes out at its exact time, those
before it up to this much late."""

MOST_AT_ONCE = 1 << 18
"""Bytes: so that a line faster than any other thing reads no more than a kernel's buffer holds."""


@dataclass(frozen=True)
class Line:
    """What a line is like, the same in both directions."""

    rtt_ms: float
    """Round trip without load, in milliseconds."""
    mbit: float
    """Rate of each direction, in 10^6 bits of TCP payload a second."""
    queue_ms: float | None = None
    """What may wait at the line's entrance, in milliseconds of its rate; None: one round trip, so
    that it holds one bandwidth-delay product."""

    @property
    def bytes_per_second(self) -> float:
        """Rate of each direction."""
        return self.mbit * 1e6 / 8

    @property
    def delay(self) -> float:
        """Seconds from one end to the other."""
        return self.rtt_ms / 2000

    @property
    def queue_seconds(self) -> float:
        """What may wait at the entrance, in seconds of the line's rate."""
        return (self.rtt_ms if self.queue_ms is None else self.queue_ms) / 1000

    def __str__(self) -> str:
        return f"{self.rtt_ms:g} ms, {self.mbit:g} Mbit/s"


class ShapedLine:
    """The proxy as a process of its own: a context, within which `address` leads to `target`."""

    def __init__(self, target: str, line: Line) -> None:
        command = [sys.executable, "-m", "benchmarks.shaped_line", "--target", target]
        command += ["--rtt", str(line.rtt_ms), "--rate", str(line.mbit)]
        command += ["--queue", str(line.queue_seconds * 1000)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = str(json.loads(self._process.stdout.readline())["address"])
        self.usage: dict[str, Any] = {}
        """After the end: `cpu_seconds`, `seconds` and `bytes`, to the target and back."""

    def close(self) -> None:
        """Cut the line. May be called twice."""
        if not self.usage:
            output, _ = self._process.communicate()
            self.usage = json.loads(output)

    def __enter__(self) -> ShapedLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Direction:
    """One direction of one connection."""

    def __init__(self, line: Line, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self._line = line
        self._piece = min(MOST_AT_ONCE, max(1448, int(line.bytes_per_second * PIECE_SECONDS)))
        # Of a sink that does not read, what was on the line waits too.
        self._most = 1 << 16
        self._most += 4 * int(line.bytes_per_second * (line.delay + line.queue_seconds))
        self._under_way: deque[tuple[float, memoryview]] = deque()
        self._held = 0
        self._free_at = 0.0
        self._has_ended = False
        self.carried = 0
        self.is_blocked = False
        """The sink takes no more: it is to be asked again when it can be written to."""
        self.is_over = False

    def takes(self, now: float) -> bool:
        """Whether the line's entrance has room."""
        return not self._has_ended and self._held < self._most and self._opens_at() <= now

    def due(self) -> float:
        """When there is something to do, if nothing comes and the sink does not stir before."""
        out = self._under_way[0][0] if self._under_way and not self.is_blocked else math.inf
        opens = math.inf if self._has_ended or self._held >= self._most else self._opens_at()
        return min(out, opens if opens > time.monotonic() else math.inf)

    def enter(self) -> None:
        """Put what has come onto the line."""
        try:
            data = self.source.recv(self._piece)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._has_ended = not data
        self._held += len(data)
        self._free_at = max(self._free_at, time.monotonic())
        self._free_at += len(data) / self._line.bytes_per_second
        self._under_way.append((self._free_at + self._line.delay, memoryview(data)))

    def leave(self, now: float) -> None:
        """Hand over what has come to the line's end."""
        self.is_blocked = False
        try:
            while self._under_way and self._under_way[0][0] <= now and not self.is_blocked:
                self._hand_over(*self._under_way.popleft())
        except OSError:
            # The sink is gone: end the source too.
            self._has_ended = self.is_over = True
            self._under_way.clear()
            with suppress(OSError):
                self.source.shutdown(socket.SHUT_RDWR)

    def _hand_over(self, due: float, data: memoryview) -> None:
        if not data:
            self.is_over = True
            self.sink.shutdown(socket.SHUT_WR)
            return
        try:
            sent = self.sink.send(data)
        except BlockingIOError:
            sent = 0
        self.carried += sent
        self._held -= sent
        if sent < len(data):
            self._under_way.appendleft((due, data[sent:]))
            self.is_blocked = True

    def _opens_at(self) -> float:
        return self._free_at - self._line.queue_seconds


def _serve(server: socket.socket, target: tuple[str, int], line: Line) -> None:
    """Carry until standard input ends: whoever started us closes it."""
    began = time.monotonic()
    pairs: list[tuple[_Direction, _Direction]] = []
    carried = [0, 0]
    stop = sys.stdin.fileno()
    while True:
        ready = _wait([direction for pair in pairs for direction in pair], server, stop)
        if stop in ready and not os.read(stop, 1):
            break
        if server in ready and (pair := _meet(server, target, line)):
            pairs.append(pair)
        for pair in [pair for pair in pairs if all(direction.is_over for direction in pair)]:
            pairs.remove(pair)
            carried = [before + way.carried for before, way in zip(carried, pair, strict=True)]
            for direction in pair:
                direction.source.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    usage = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "seconds": time.monotonic() - began,
        "bytes": [carried[way] + sum(pair[way].carried for pair in pairs) for way in (0, 1)],
    }
    print(json.dumps(usage), flush=True)


def _wait(directions: list[_Direction], *others: Any) -> list[Any]:
    """Do what there is to do next in all directions; the others that can be read from."""
    now = time.monotonic()
    sources = [way.source for way in directions if way.takes(now)]
    blocked = [way.sink for way in directions if way.is_blocked]
    due = min((way.due() for way in directions), default=math.inf)
    # Not a selector, which waits for whole milliseconds.
    timeout = None if due == math.inf else max(0.0, due - time.monotonic())
    readable, writable, _ = select.select([*others, *sources], blocked, [], timeout)
    now = time.monotonic()
    for way in directions:
        if way.source in readable:
            way.enter()
        if not way.is_blocked or way.sink in writable:
            way.leave(now)
    return readable


def _meet(
    server: socket.socket, target: tuple[str, int], line: Line
) -> tuple[_Direction, _Direction] | None:
    near, _ = server.accept()
    try:
        far = socket.create_connection(target)
    except OSError:
        near.close()  # nobody listens there yet
        return None
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return _Direction(line, near, far), _Direction(line, far, near)


def main() -> None:
    """Carry connections to the target until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--rtt", type=float, default=20.0, metavar="MS")
    parser.add_argument("--rate", type=float, default=100.0, metavar="MBIT/S")
    parser.add_argument("--queue", type=float, metavar="MS")
    args = parser.parse_args()
    _go_first()
    server = socket.create_server(_address(args.listen))
    host, port = server.getsockname()
    print(json.dumps({"address": f"{host}:{port}"}), flush=True)
    _serve(server, _address(args.target), Line(args.rtt, args.rate, args.queue))


def _go_first() -> None:
    """Do not wait for a core, where the system lets us: a line does not either."""
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
