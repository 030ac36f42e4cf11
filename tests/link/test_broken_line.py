"""What becomes of a link when the line under it breaks, or what comes over it is garbage."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest

from isthmus.errors import BadMessage, PartnerAbsent, PartnerFailed, PartnerGone
from isthmus.link import Deadlines, Listener, memory_links, open_links
from isthmus.link.codec import Encoded, encode, encode_pieces
from isthmus.link.lane import MAX_TOPICS
from isthmus.link.remote import remote_link
from isthmus.link.remote.frames import Counters, Kind, pack, pack_message, pack_note


def until(condition, seconds=30.0):
    """Wait until `condition()` holds; fails the test if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


class Proxy:
    """A TCP proxy whose connections can be cut, and which can refuse new ones."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lines: list[socket.socket] = []
        self.refusing = False
        self.connections = 0
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for line in self._lines:
            hang_up(line)
        self._lines.clear()

    def close(self) -> None:
        self.refusing = True
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            if self.refusing:
                line.close()
                continue
            self.connections += 1
            other = socket.create_connection(self._target)
            self._lines += [line, other]
            for a, b in ((line, other), (other, line)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        hang_up(source)
        hang_up(sink)


@pytest.fixture
def proxied(pair):
    """Opens a pair through a proxy: (alice, bob, proxy)."""
    opened = []

    def open_(**deadlines):
        proxies = []

        def through(address):
            proxies.append(Proxy(address))
            return proxies[0].address

        alice, bob = pair.open(through=through, **deadlines)
        opened.append((alice, bob, proxies[0]))
        return opened[0]

    yield open_
    for alice, bob, proxy in opened:
        ends = [threading.Thread(target=link.close) for link in (alice, bob)]
        for end in ends:
            end.start()
        for end in ends:
            end.join()
        proxy.close()


def test_a_cut_line_loses_and_doubles_nothing(proxied):
    alice, bob, proxy = proxied(recv=30, reconnect=20)
    count = 300
    blocks = [np.full(1 << (i % 22), i % 251, np.uint8) for i in range(22)]
    got = {"alice": [], "bob": []}
    errors = []

    def send(link):
        for i in range(count):
            link.send("t", {"x": blocks[i % 22]}, {"i": i})
            time.sleep(0.002)

    def read(link, log):
        for _ in range(count):
            message = link.recv("t")
            i = message.header["i"]
            np.testing.assert_array_equal(message.tensors["x"], blocks[i % 22])
            log.append(i)

    def guarded(action, *args):
        try:
            action(*args)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=args)
        for args in (
            (send, alice),
            (send, bob),
            (read, alice, got["alice"]),
            (read, bob, got["bob"]),
        )
    ]
    for thread in threads:
        thread.start()
    for cuts in range(5):
        until(lambda made=cuts: proxy.connections > made)
        time.sleep(0.15)
        proxy.cut()
    for thread in threads:
        thread.join()
    assert errors == []
    assert got["alice"] == got["bob"] == list(range(count))
    for mine, theirs in ((alice, bob), (bob, alice)):
        assert mine.meter.total().sent_bytes == theirs.meter.total().received_bytes


def test_a_full_window_opens_again_after_a_cut(proxied):
    alice, bob, proxy = proxied(window=10_000)
    alice.send("t", {"x": np.zeros(9000, np.uint8)})
    waiting = threading.Thread(target=alice.send, args=("t", {"x": np.ones(9000, np.uint8)}))
    waiting.start()
    until(lambda: alice._asking)
    proxy.cut()
    bob.recv("t")
    assert bob.recv("t").tensors["x"].all()
    waiting.join()


def test_a_failure_during_a_break_is_still_told(proxied):
    alice, bob, proxy = proxied(reconnect=30, close=30)
    proxy.refusing = True
    proxy.cut()
    until(lambda: alice._wire is None and bob._wire is None)
    failing = threading.Thread(target=bob.fail, args=(RuntimeError(),))
    failing.start()
    until(lambda: bob._said_goodbye)
    proxy.refusing = False
    with pytest.raises(PartnerFailed):
        alice.recv("t")
    failing.join()


def test_a_line_that_does_not_come_back(proxied):
    alice, bob, proxy = proxied(reconnect=0.5, close=0.5)
    alice.send("t")
    bob.recv("t")
    bob.send("t", header={"read": "first"})
    until(lambda: alice.meter.total().received_messages == 1)
    proxy.refusing = True
    proxy.cut()
    began = time.monotonic()
    assert alice.recv("t").header == {"read": "first"}
    for link, other in ((alice, "bob"), (bob, "alice")):
        with pytest.raises(PartnerGone, match=f"the line to {other} broke .* within 0.5 s"):
            link.recv("t")
    assert time.monotonic() - began < 5
    with pytest.raises(PartnerGone, match="the line to bob broke"):
        alice.send("t")


def breaks(proxy, *links):
    """Cut the line, and wait until both ends have noticed and it is back."""
    made, old = proxy.connections, [link._wire for link in links]
    proxy.cut()
    until(
        lambda: (
            proxy.connections > made
            and all(link._wire not in (None, wire) for link, wire in zip(links, old, strict=True))
        )
    )


def test_a_line_that_only_flaps_is_given_up(proxied):
    """Each time it comes back, and breaks before anything has been said."""
    alice, bob, proxy = proxied(reconnect=60, heartbeat=60, close=0.5)
    words = []
    alice._say = words.append
    breaks(proxy, alice, bob)
    since = alice._broken_since
    assert since is not None
    for _ in range(3):
        breaks(proxy, alice, bob)
        assert alice._broken_since == since
    # As if the minute were over.
    alice._broken_since -= 60
    proxy.cut()
    with pytest.raises(PartnerGone, match="the line to bob broke"):
        alice.recv("t", timeout=30)
    until(lambda: len(words) >= 2)
    assert words[:2] == [
        "the line to bob broke; waiting for it to come back",
        "the line to bob is back",
    ]
    assert len(words) == 2
    proxy.refusing = True
    bob._broken_since -= 60


def test_a_line_that_breaks_often_but_carries_data_is_kept(proxied):
    alice, bob, proxy = proxied(reconnect=60, heartbeat=60)
    since = 0.0
    for _ in range(4):
        alice.send("t")
        bob.recv("t")
        breaks(proxy, alice, bob)
        assert alice._broken_since > since
        assert bob._broken_since > since
        since = max(alice._broken_since, bob._broken_since)


def test_a_silent_line_counts_as_broken(proxied):
    """A dead line without an end (a lost route) is noticed by missing heartbeats."""
    alice, bob, proxy = proxied(heartbeat=0.2)
    wire, made = alice._wire, proxy.connections
    bob._acknowledge = lambda: None  # bob's heart stops
    until(lambda: alice._wire is not wire)
    del bob._acknowledge
    alice.send("t")
    bob.recv("t")
    assert proxy.connections > made


def test_heartbeats_keep_a_silent_line(proxied, monkeypatch):
    monkeypatch.setattr(remote_link, "_MISSED_HEARTBEATS", 1000)  # a test may be held up
    alice, bob, proxy = proxied(heartbeat=0.1)
    made = proxy.connections  # more than one where bob dialled before alice was ready
    for wire in (alice._wire, bob._wire):
        for _ in range(3):
            heard = wire.heard
            until(lambda wire=wire, heard=heard: wire.heard > heard)
    assert proxy.connections == made
    alice.send("t")
    bob.recv("t")


def garbage_message(link):
    data = bytearray(encode("t", {"x": np.zeros(4)}))
    data[10] ^= 0xFF
    encoded = Encoded("t", (bytes(data),), len(data))
    link._outbox.add(pack_message(encoded, link._outbox.next, Counters()))


def garbage_frame(link):
    link._outbox.add_fleeting(b"garbage")


def wrong_number(link):
    encoded = encode_pieces("t")
    link._outbox.add(pack_message(encoded, link._outbox.next + 3, Counters()))


def false_acknowledgement(link):
    link._outbox.add_fleeting(pack(Kind.ACK, Counters(received=10)))


def false_reading(link):
    link._outbox.add_fleeting(pack(Kind.ACK, Counters(read=10)))


def second_hello(link):
    link._outbox.add_fleeting(link.hello().frame())


def too_much(link):
    link._window = 1 << 40
    for _ in range(3):
        link.send("t", {"x": np.zeros(600_000, np.uint8)})


@pytest.mark.parametrize(
    "misbehave",
    [
        garbage_message,
        garbage_frame,
        wrong_number,
        false_acknowledgement,
        false_reading,
        second_hello,
        too_much,
    ],
)
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_garbage_is_refused_and_told(pair, misbehave, who):
    alice, bob = pair.open(window=1 << 20)
    bad, good = (alice, bob) if who == "alice" else (bob, alice)
    bad.send("before")
    good.recv("before")
    misbehave(bad)
    with pytest.raises(BadMessage, match=f"{who} broke the protocol"):
        good.recv("other")
    with pytest.raises(PartnerFailed, match="received a malformed message") as caught:
        bad.recv("t")
    assert caught.value.partner_code == "link.bad-message"
    good.fail(BadMessage(""))
    bad.close()


def test_a_partner_may_not_begin_ever_new_topics(pair):
    alice, bob = pair.open(recv=60)
    for i in range(MAX_TOPICS):
        alice.send(f"topic{i}")
    alice.send("one.too.many")
    with pytest.raises(PartnerFailed, match="received a malformed message"):
        alice.recv("t")
    assert bob.recv("topic0").topic == "topic0"
    with pytest.raises(BadMessage, match=r"alice broke the protocol: .+ more than 4096 topics"):
        bob.recv("t")
    bob.fail(BadMessage(""))
    alice.close()


@pytest.mark.parametrize("kind", [Kind.GOODBYE, Kind.FAIL])
def test_after_its_end_a_partner_only_acknowledges(pair, kind):
    alice, bob = pair.open()
    alice.send("t")
    bob.recv("t")
    bob._outbox.add([pack_note(kind, {}, sequence=bob._outbox.next)])
    with pytest.raises((PartnerGone, PartnerFailed)):
        alice.recv("t")
    for i in range(100):
        bob.send(f"topic{i}")
    bob._outbox.add_fleeting(b"garbage" * 10)
    time.sleep(0.1)
    assert "topic0" not in alice._inbox
    assert set(alice.meter.snapshot()) == {"t"}
    with pytest.raises((PartnerGone, PartnerFailed)):
        alice.recv("t")
    alice.close()
    bob._outbox.give_up()  # nobody acknowledges what bob should not have sent
    bob.close()


def test_what_waits_unread_takes_the_memory_it_was_charged_for():
    """Parsed, a header of `{}` takes 24 times its bytes."""
    alice, bob = memory_links("alice", "bob", window=1 << 22)
    header = {"a": [{}] * 21_000}
    alice.send("t", header=header)
    bob.recv("t")
    tracemalloc.start()
    for _ in range(40):
        alice.send("t", header=header)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert alice.meter.total().sent_bytes > 40 * 63_000
    assert held < 1.5 * (1 << 22)
    assert bob.recv("t").header == header


def test_countless_questions_get_one_answer(pair):
    """A partner that asks, and does not take the answers, must not fill our memory with them."""
    alice, bob = pair.open(heartbeat=60)
    wire = bob._wire
    with wire._out:
        wire._backlog.append(memoryview(b""))  # as if the system took nothing more
    for _ in range(1000):
        bob.on_frame(wire, pack(Kind.ASK, Counters()))
    assert len(wire._backlog) == 1
    assert wire._report is not None
    with wire._out:
        wire._backlog.clear()
        wire._push()
    assert wire._report is None
    alice.send("t")
    bob.recv("t")
    for link in (alice, bob):
        link.close()


def test_a_restarted_dialler(pair):
    alice, bob = pair.open()
    address = bob.release.__self__._address
    bob._wire.cancel()
    bob.over.set()  # as if the process had died
    with pytest.raises(PartnerAbsent, match="alice is there, but not ready"):
        open_links(
            pair.root / "bob",
            "bob",
            {"alice": address},
            context="job",
            deadlines=Deadlines(connect=3),
        )
    with pytest.raises(PartnerGone, match="bob has restarted"):
        alice.recv("t")
    alice.close()


def test_a_restarted_listener(pair):
    listener = Listener(pair.root / "alice", "alice")
    address = listener.address
    quick = Deadlines(connect=30, recv=30, reconnect=30, heartbeat=1, close=1)
    opened = {}

    def open_bob():
        opened["bob"] = open_links(pair.root / "bob", "bob", {"alice": address}, deadlines=quick)[
            "alice"
        ]

    dialling = threading.Thread(target=open_bob)
    dialling.start()
    first = open_links(
        pair.root / "alice", "alice", {"bob": None}, listen=listener, deadlines=quick
    )["bob"]
    dialling.join()
    first.over.set()
    listener._stop(0)  # as if the process had died
    second = Listener(pair.root / "alice", "alice", address)
    reborn = {}

    def open_alice():
        reborn["alice"] = open_links(
            pair.root / "alice", "alice", {"bob": None}, listen=second, deadlines=quick
        )["bob"]

    waiting = threading.Thread(target=open_alice)
    waiting.start()
    # Before the new link is served, all that the new alice can say is that the old one is over.
    with pytest.raises(PartnerGone, match=r"alice has (restarted|given up this session)"):
        opened["bob"].recv("t")
    opened["bob"].close()
    open_bob()  # a new start of bob meets the new alice
    waiting.join()
    opened["bob"].close()
    reborn["alice"].close()
    second.close()
