"""A line that is slow is not a partner that is slow, gone or dead."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from benchmarks.shaped_line import Line, ShapedLine

from isthmus.errors import PartnerGone, PartnerSlow

BLOCK = np.arange(2_000_000, dtype=np.uint32).view(np.uint8)[:2_000_000]


@pytest.fixture
def slow(pair):
    """Opens a pair over a line of so many Mbit/s: (alice, bob); bob's messages are the large."""
    opened = []

    def open_(mbit, **deadlines):
        def through(address):
            opened.append(ShapedLine(address, Line(20.0, mbit)))
            return opened[0].address

        alice, bob = pair.open(through=through, **deadlines)
        opened[:0] = (alice, bob)
        return alice, bob

    yield open_
    *links, line = opened
    ends = [threading.Thread(target=link.close) for link in links]
    for end in ends:
        end.start()
    for end in ends:
        end.join()
    line.close()


def test_the_deadline_of_recv_is_for_a_line_that_brings_nothing(slow):
    alice, bob = slow(5.5, recv=2)
    began = time.monotonic()
    bob.send("t", {"x": BLOCK})
    with pytest.raises(PartnerSlow):
        alice.recv("t", timeout=0.1)  # a caller's own deadline holds
    np.testing.assert_array_equal(alice.recv("t").tensors["x"], BLOCK)
    assert time.monotonic() - began > 2.7
    with pytest.raises(PartnerSlow, match=r"sent no t within 2 s"):
        alice.recv("t")


def test_the_deadline_of_send_is_for_a_window_that_does_not_move(slow):
    alice, bob = slow(5.5, recv=2, window=1 << 21)
    reading = threading.Thread(target=lambda: [alice.recv("t", timeout=60) for _ in range(2)])
    reading.start()
    began = time.monotonic()
    bob.send("t", {"x": BLOCK})
    bob.send("t", {"x": BLOCK})
    assert time.monotonic() - began > 2.7
    reading.join()
    bob.send("t", {"x": BLOCK})  # alice has it, and does not read it
    with pytest.raises(PartnerSlow, match="read nothing"):
        bob.send("t", {"x": BLOCK})
    alice.recv("t", timeout=60)


def test_close_delivers_for_as_long_as_the_line_carries(slow):
    alice, bob = slow(4, close=2)
    for _ in range(4):
        bob.send("t", {"x": BLOCK[:500_000]})
    closing = threading.Thread(target=bob.close)
    closing.start()
    for _ in range(4):
        alice.recv("t")
    with pytest.raises(PartnerGone, match="bob has finished"):
        alice.recv("t")
    closing.join()


def test_a_frame_that_outlasts_three_heartbeats_does_not_break_the_line(slow):
    alice, bob = slow(2, heartbeat=0.5, recv=60)
    words = []
    alice._say = words.append
    wire = alice._wire
    bob.send("t", {"x": BLOCK[:600_000]})
    np.testing.assert_array_equal(alice.recv("t").tensors["x"], BLOCK[:600_000])
    assert alice._wire is wire
    assert words == []
