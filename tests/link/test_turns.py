"""Several threads at one link: some read themselves, others wait for what these read."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from isthmus.errors import BadMessage, LinkError, PartnerSlow
from isthmus.link.remote import sockets
from isthmus.link.remote import wire as wire_module
from isthmus.link.remote.frames import Counters, Kind, pack, parse
from isthmus.link.remote.inflow import Inflow


def test_the_deadline_of_recv_holds_whatever_else_comes(pair):
    alice, bob = pair.open()
    wire, began = bob._wire, time.monotonic()

    def another(until):
        assert time.monotonic() < began + 10
        return pack(Kind.ACK, Counters())

    wire.read = another
    with pytest.raises(PartnerSlow, match=r"sent no t within 0.1 s"):
        bob.recv("t", timeout=0.1)
    del wire.read
    alice.send("t")
    bob.recv("t")
    alice.close()
    bob.close()


def test_recv_without_waiting_takes_what_has_come(pair, monkeypatch):
    monkeypatch.setattr(wire_module, "_STAND_BACK", 1000)  # only `recv` reads
    alice, bob = pair.open()
    alice.send("t")
    bob.recv("t")
    for i in range(50):
        alice.send("other", header={"i": i})
    alice.send("t")
    for _ in range(10):  # a busy machine may not carry all at once
        with suppress(PartnerSlow):
            bob.recv("t", timeout=0)
            break
        time.sleep(0.01)
    for i in range(50):
        assert bob.recv("other", timeout=0).header == {"i": i}
    alice.close()
    bob.close()


def test_who_waits_for_room_is_not_left_alone_by_who_reads(pair, monkeypatch):
    monkeypatch.setattr(wire_module, "_STAND_BACK", 1000)
    alice, bob = pair.open(window=10_000)
    block = np.zeros(9000, np.uint8)
    reading = threading.Thread(target=lambda: alice.recv("answer"))
    reading.start()
    while not alice._wire._is_led:
        time.sleep(0.001)
    alice.send("t", {"x": block})
    sending = threading.Thread(target=lambda: alice.send("t", {"x": block}))
    sending.start()
    while not alice._followers:
        time.sleep(0.001)
    bob.send("answer")
    reading.join()
    bob.recv("t")
    sending.join(5)
    assert not sending.is_alive()
    bob.recv("t")
    alice.close()
    bob.close()


@pytest.mark.parametrize("kind", [Kind.GOODBYE, Kind.FAIL])
def test_only_messages_come_in_chunks(kind):
    """Others are not charged to the window."""
    frame = pack(kind, Counters(), (b"x" * 100,), total=1 << 29)
    with pytest.raises(BadMessage, match="in chunks"):
        Inflow().take(parse(frame))


def test_an_address_that_this_machine_has_not_is_left_out(monkeypatch):
    found = sockets.socket.getaddrinfo

    def with_another(host, port, **kind):
        stranger = found("192.0.2.1", port, type=sockets.socket.SOCK_STREAM)
        return [*stranger, *([] if host == "elsewhere" else found(host, port, **kind))]

    monkeypatch.setattr(sockets.socket, "getaddrinfo", with_another)
    (door,) = sockets.bind("127.0.0.1:0")
    assert door.getsockname()[0] == "127.0.0.1"
    door.close()
    with pytest.raises(LinkError, match="cannot listen at elsewhere:0"):
        sockets.bind("elsewhere:0")
