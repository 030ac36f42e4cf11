"""One TLS stream: what is put in comes out, whoever reads and however slowly."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.link.identity import load_identity, trusted_partner
from isthmus.link.remote import incoming
from isthmus.link.remote import wire as module
from isthmus.link.remote.frames import MAX_FRAME_BYTES
from isthmus.link.remote.incoming import LENGTH
from isthmus.link.remote.tls import client_context, server_context
from isthmus.link.remote.wire import Wire


@contextmanager
def lines(root):
    """Both ends of one TLS connection, that of alice and that of bob."""
    alice, bob = (load_identity(root / name, name) for name in ("alice", "bob"))
    server = server_context(alice, [trusted_partner(root / "alice", "bob")])
    client = client_context(bob, trusted_partner(root / "bob", "alice"))
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(lambda: server.wrap_socket(door.accept()[0], True))
        plain = socket.create_connection(door.getsockname())
        dialled = client.wrap_socket(plain, server_hostname="alice.isthmus")
        yield accepted.result(), dialled


@contextmanager
def wires(root):
    """A wire on each end, closed afterwards."""
    with lines(root) as ends:
        both = [Wire(end) for end in ends]
        try:
            yield both
        finally:
            for wire in both:
                wire.close()


sizes = st.lists(
    st.sampled_from([1, 100, 16_379, 16_380, 16_381, 32_767, 32_768, 131_068, MAX_FRAME_BYTES]),
    max_size=6,
)


@given(sizes)
@settings(deadline=None, max_examples=25)
def test_frames_of_all_sizes_arrive_in_order(pair, sizes):
    frames = [np.random.default_rng(n).bytes(n) for n in sizes]
    with wires(pair.root) as (alice, bob):
        for frame in frames:
            alice.put(frame)
        alice.end()
        assert [bytes(frame) for frame in bob.frames()] == frames


def test_put_never_waits_for_a_reader(pair):
    frames = [bytes([i]) * MAX_FRAME_BYTES for i in range(40)]
    with wires(pair.root) as (alice, bob):
        began = time.monotonic()
        for frame in frames:
            alice.put(frame)
        assert time.monotonic() - began < 20
        assert alice._backlog
        alice.end()
        assert [bytes(frame) for frame in bob.frames()] == frames


def test_both_directions_at_once_from_many_threads(pair):
    count, size = 60, 200_000
    with wires(pair.root) as (alice, bob), ThreadPoolExecutor(6) as pool:

        def send(wire):
            for i in range(count):
                wire.put(bytes([i]) * size)

        def read(wire):
            frames = wire.frames()
            return sorted(bytes(next(frames))[-1] for _ in range(2 * count))

        for wire in (alice, bob, alice, bob):
            pool.submit(send, wire)
        got = [pool.submit(read, wire) for wire in (alice, bob)]
        wanted = sorted(2 * list(range(count)))
        assert [one.result(60) for one in got] == [wanted, wanted]


def test_whoever_waits_reads_and_the_reader_stands_back(pair):
    with wires(pair.root) as (alice, bob):
        read = []
        reader = threading.Thread(target=lambda: read.extend(map(bytes, bob.frames())))
        reader.start()
        alice.put(b"for the reader")
        while not read:
            time.sleep(0.001)
        assert bob.take_turn()
        for i in range(5):
            alice.put(b"%d" % i)
            assert bytes(bob.read(time.monotonic() + 10)) == b"%d" % i
        assert bob.read(time.monotonic() + 0.01) is None
        bob.give_turn()
        alice.put(b"again")
        while len(read) < 2:
            time.sleep(0.001)
        alice.end()
        reader.join()
        assert read == [b"for the reader", b"again"]


def test_only_one_reads_at_a_time(pair):
    with wires(pair.root) as (_, bob):
        assert bob.take_turn()
        assert not bob.take_turn()
        bob.give_turn(at_once=True)


def test_nobody_overtakes_a_frame_that_is_in_hand(pair):
    with wires(pair.root) as (alice, bob):
        for i in range(3):
            alice.put(b"%d" % i)
        with closing(bob.frames()) as frames:
            assert bytes(next(frames)) == b"0"
            assert not bob.take_turn()
            assert bytes(next(frames)) == b"1"
        assert bob.take_turn()
        assert bytes(bob.read(time.monotonic() + 10)) == b"2"
        bob.give_turn()


def test_nobody_waits_for_the_turn_of_one_who_reads_for_all(pair):
    with wires(pair.root) as (_, bob):
        assert bob.take_turn()
        waited = []
        for _ in range(10):
            bob._taken_at -= 1  # as if it had read for long
            began = time.monotonic()
            assert not bob.take_turn()
            waited.append(time.monotonic() - began)
        assert min(waited) < module._GIVE_WAY / 2
        bob.give_turn()


def test_the_reader_that_is_needed_reads_on_until_a_turn_is_taken(pair, monkeypatch):
    monkeypatch.setattr(module, "_STAND_BACK", 1000)
    with wires(pair.root) as (alice, bob):
        assert bob.take_turn()
        bob.give_turn(at_once=True)
        for i in range(5):
            alice.put(b"%d" % i)
        with closing(bob.frames()) as frames:
            assert [bytes(next(frames)) for _ in range(5)] == [b"%d" % i for i in range(5)]
        alice.end()


def test_a_line_that_was_hung_up_just_now(pair, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    with lines(pair.root) as (alice, bob):
        alice.close()
        monkeypatch.setattr(ssl.SSLSocket, "setsockopt", refuse)
        wire = Wire(bob)
        assert list(wire.frames()) == []
        wire.close()


def test_no_file_descriptors_left(pair, monkeypatch):
    def refuse():
        raise OSError(24, "Too many open files")

    with lines(pair.root) as (alice, bob):
        monkeypatch.setattr(incoming.socket, "socketpair", refuse)
        with pytest.raises(OSError, match="Too many"):
            Wire(bob)
        assert bob.fileno() == -1
        alice.close()


def test_an_end_ends_reading_for_whoever_has_the_turn(pair):
    with wires(pair.root) as (alice, bob):
        assert bob.take_turn()
        alice.end()
        assert bob.read(time.monotonic() + 10) is None
        assert bob.has_ended
        bob.give_turn()
        assert not bob.take_turn()
        assert list(bob.frames()) == []


def test_a_woken_reader_looks_up(pair):
    with wires(pair.root) as (_, bob):
        assert bob.take_turn()
        threading.Timer(0.05, bob.wake).start()
        began = time.monotonic()
        assert bob.read(began + 30) is None
        assert time.monotonic() - began < 20
        assert not bob.has_ended
        bob.give_turn()


def test_a_length_beyond_all_frames_ends_the_stream(pair):
    with lines(pair.root) as (alice, bob):
        alice.sendall(LENGTH.pack(MAX_FRAME_BYTES + 1) + bytes(100))
        wire = Wire(bob)
        assert list(wire.frames()) == [b""]
        wire.close()
        alice.close()


def test_a_reset_ends_both_halves(pair):
    with lines(pair.root) as (alice, bob):
        wire = Wire(bob)
        alice.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        alice.close()  # a reset
        with suppress(OSError):  # OpenSSL may take a reset for an end
            assert list(wire.frames()) == []
        wire.put(b"lost")
        wire.close()
        wire.cancel()
        wire.put(b"lost")


def test_nothing_leaves_in_the_clear_after_the_end(pair):
    with lines(pair.root) as (alice, bob):
        wire = Wire(bob)
        wire.put(b"secret")
        wire.end()
        wire.put(b"secret")
        wire.cancel()
        wire.put(b"secret")
        with pytest.raises((OSError, ssl.SSLError)):
            bob.send(b"secret")  # not by way of the wire, and still not in the clear
        wire.close()
        alice.close()


def test_only_the_newest_report_waits(pair, monkeypatch):
    monkeypatch.setattr(module.Wire, "_write_rest", lambda self: None)  # nobody makes room
    with wires(pair.root) as (alice, bob):
        alice.put(b"x" * MAX_FRAME_BYTES)
        while not alice._backlog:
            alice.put(b"x" * MAX_FRAME_BYTES)
        waiting = len(alice._backlog)
        for i in range(1000):
            alice.put_report(b"report %d" % i)
        assert len(alice._backlog) == waiting
        got = []

        def read():
            for frame in bob.frames():
                got.append(bytes(frame[:20]))

        reader = threading.Thread(target=read)
        reader.start()
        while alice._backlog or alice._report is not None:
            with alice._out:
                alice._push()
            time.sleep(0.001)
        alice.end()
        reader.join()
        assert [frame for frame in got if frame.startswith(b"report")] == [b"report 999"]
