"""The shaping proxy: round trip, rate, back-pressure and the end of a line."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from benchmarks.shaped_line import Line, ShapedLine

LINE = Line(20.0, 100.0)


@pytest.fixture
def ends():
    """Opens the two ends of a connection over a shaped line; closes all."""
    opened = []

    def open_(line: Line) -> tuple[socket.socket, socket.socket, ShapedLine]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            shaped = ShapedLine(f"127.0.0.1:{server.getsockname()[1]}", line)
            host, _, port = shaped.address.rpartition(":")
            near = socket.create_connection((host, int(port)))
            far, _ = server.accept()
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(20)
        opened.extend((near, far, shaped))
        return near, far, shaped

    yield open_
    for thing in opened:
        thing.close()


def take(end: socket.socket, count: int) -> None:
    while count:
        count -= len(end.recv(min(count, 1 << 16)))


def test_a_small_message_takes_the_round_trip(ends):
    near, far, _ = ends(LINE)
    trips = []
    for _ in range(20):
        began = time.monotonic()
        near.sendall(b"x")
        take(far, 1)
        far.sendall(b"y")
        take(near, 1)
        trips.append(1000 * (time.monotonic() - began))
    # A busy machine is late by a scheduler's slice or many; the best trip is nearly exact.
    assert 20 <= min(trips) < 20 * 1.5


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
def test_much_takes_its_size_over_the_rate(ends, both):
    near, far, shaped = ends(LINE)
    size = 5_000_000
    ways = [(near, far), (far, near)] if both else [(near, far)]
    rates = []
    while max(rates, default=0) < 95 and len(rates) < 5:  # a busy machine is late
        with ThreadPoolExecutor(4) as pool:
            began = time.monotonic()
            for source, sink in ways:
                pool.submit(source.sendall, bytes(size))
                pool.submit(take, sink, size)
        rates.append(size * 8 / (time.monotonic() - began - LINE.delay) / 1e6)
    assert 20 < max(rates) <= 100.5
    shaped.close()
    sent = size * len(rates)
    assert shaped.usage["bytes"] == [sent, sent if both else 0]


def test_a_receiver_that_does_not_read_stops_the_sender(ends):
    near, _, _ = ends(Line(2.0, 1000.0))
    near.settimeout(0.7)
    with pytest.raises(TimeoutError):
        near.sendall(bytes(200_000_000))


def test_the_end_of_one_side_reaches_the_other(ends):
    near, far, _ = ends(LINE)
    near.sendall(b"last")
    near.shutdown(socket.SHUT_WR)
    take(far, 4)
    assert far.recv(1) == b""
    far.sendall(b"answer")
    take(near, 6)
