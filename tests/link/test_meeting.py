"""How two parties meet over TLS, and every way in which they do not."""

from __future__ import annotations

import gc
import shutil
import socket
import ssl
import struct
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from isthmus.errors import (
    BadMessage,
    IdentityError,
    JobMismatch,
    LinkError,
    PartnerAbsent,
    PartnerFailed,
    UntrustedPartner,
    VersionMismatch,
)
from isthmus.link import Deadlines, Listener, Transcript, create_identity, open_links, trust
from isthmus.link.identity import load_identity, trusted_partner
from isthmus.link.remote.address import split_address
from isthmus.link.remote.doorman import STREAMS_OF_A_PARTNER
from isthmus.link.remote.frames import Counters, Kind, pack, pack_note, parse, read_note
from isthmus.link.remote.handshake import NOT_READY, PROTOCOL
from isthmus.link.remote.listener import STRANGERS
from isthmus.link.remote.tls import client_context, dial, server_context
from isthmus.link.remote.wire import Wire

SOON = Deadlines(connect=20, recv=20, reconnect=1, heartbeat=1, close=1)
AT_ONCE = Deadlines(connect=0.6, recv=1, reconnect=1, heartbeat=1, close=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def folders(pair, tmp_path):
    """Fresh copies of both parties' identity folders."""
    for name in ("alice", "bob"):
        shutil.copytree(pair.root / name, tmp_path / name)
    return tmp_path


def meet(folders, *, alice=SOON, bob=SOON, contexts=("job", "job"), on_wait=lambda text: None):
    """What each side gets: a link or an error. Alice listens, bob dials."""
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(2) as pool:
        a = pool.submit(
            open_links,
            folders / "alice",
            "alice",
            {"bob": None},
            listen=listener,
            context=contexts[0],
            deadlines=alice,
            on_wait=on_wait,
        )
        b = pool.submit(
            open_links,
            folders / "bob",
            "bob",
            {"alice": listener.address},
            context=contexts[1],
            deadlines=bob,
        )
        outcomes = [f.exception() or next(iter(f.result().values())) for f in (a, b)]
        for outcome in outcomes:
            if not isinstance(outcome, BaseException):
                outcome.close()
    return outcomes


def hello(**changes):
    note = {
        "protocol": PROTOCOL,
        "party": "bob",
        "partner": "alice",
        "incarnation": "ab" * 16,
        "knows": "",
        "context": "job",
        "window": 1 << 20,
        "received": 0,
        "read": 0,
    }
    return {**note, **changes}


def dial_by_hand(folder, address, *frames, me="bob"):
    """What a listener answers first to a dialler that sends `frames`."""
    wire = wire_by_hand(folder, address, me)
    for frame in frames:
        wire.put(frame)
    answer = parse(next(wire.frames()))
    wire.close()
    return answer


def dial_once_served(folder, address, frame, me="bob"):
    """The same, of a listener that is about to serve us: until then it is not ready."""
    while True:
        answer = dial_by_hand(folder, address, frame, me=me)
        if answer.kind is not Kind.REFUSE or read_note(answer)["code"] != NOT_READY:
            return answer


def wire_by_hand(folder, address, me):
    """A stream to alice with the identity of `me`."""
    alice = trusted_partner(folder, "alice")
    return Wire(dial(address, client_context(load_identity(folder, me), alice), "alice", 10))


@contextmanager
def listen_by_hand(folder, *frames):
    """A server with alice's identity that answers every stream with `frames`."""
    context = server_context(load_identity(folder, "alice"), [trusted_partner(folder, "bob")])

    def answer():
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with suppress(OSError):
                wire = Wire(context.wrap_socket(line, True))
                for frame in frames:
                    wire.put(frame)
                wire.linger(5)
                wire.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_they_meet(folders):
    assert [outcome.partner for outcome in meet(folders)] == ["bob", "alice"]


def test_a_star(folders):
    carol = create_identity(folders / "carol", "carol")
    trust(folders / "alice", carol.certificate_path)
    trust(folders / "carol", folders / "alice" / "alice.cert.pem")
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(3) as pool:
        address = {"alice": listener.address}
        hub = pool.submit(
            open_links, folders / "alice", "alice", {"bob": None, "carol": None}, listen=listener
        )
        points = [
            pool.submit(open_links, folders / name, name, address) for name in ("bob", "carol")
        ]
        links = hub.result()
        for name, point in zip(("bob", "carol"), points, strict=True):
            links[name].send("t", header={"for": name})
            assert point.result()["alice"].recv("t").header == {"for": name}
        for link in [*links.values(), *(point.result()["alice"] for point in points)]:
            link.close()


def test_a_partner_that_fails_while_others_are_awaited(folders):
    carol = create_identity(folders / "carol", "carol")
    trust(folders / "alice", carol.certificate_path)
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(1) as pool:
        hub = pool.submit(
            open_links, folders / "alice", "alice", {"bob": None, "carol": None}, listen=listener
        )
        bob = open_links(folders / "bob", "bob", {"alice": listener.address})["alice"]
        began = time.monotonic()
        bob.fail(RuntimeError())
        with pytest.raises(PartnerFailed, match="bob stopped"):
            hub.result()
        assert time.monotonic() - began < 5


def test_an_own_listener_ends_with_its_links(folders):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for _ in range(2):  # the second time shows that the port is free again
        with ThreadPoolExecutor(2) as pool:
            a = pool.submit(open_links, folders / "alice", "alice", {"bob": None}, listen=address)
            b = pool.submit(open_links, folders / "bob", "bob", {"alice": address})
            a.result()["bob"].close()
            b.result()["alice"].close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(split_address(address), 5)


def test_the_transcript_records_over_tls_too(folders):
    transcript = Transcript()
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(2) as pool:
        a = pool.submit(open_links, folders / "alice", "alice", {"bob": None}, listen=listener)
        b = pool.submit(
            open_links, folders / "bob", "bob", {"alice": listener.address}, transcript=transcript
        )
        with a.result()["bob"] as alice, b.result()["alice"] as bob:
            bob.send("t")
            alice.recv("t")
    assert [entry.topic for entry in transcript.entries] == ["t"]


def test_the_listener_does_not_trust_the_dialler(folders):
    (folders / "bob" / "bob.key.pem").unlink()
    create_identity(folders / "bob", "bob", replace=True)
    alice, bob = meet(folders, alice=AT_ONCE)
    assert isinstance(bob, UntrustedPartner)
    assert "alice does not trust this party's certificate" in str(bob)
    assert "isthmus identity trust" in str(bob)
    assert isinstance(alice, PartnerAbsent)
    assert "certificate that is not trusted here" in str(alice)
    assert "compare the fingerprint" in str(alice)


def test_the_dialler_does_not_trust_the_listener(folders):
    (folders / "alice" / "alice.key.pem").unlink()
    fresh = create_identity(folders / "alice", "alice", replace=True)
    alice, bob = meet(folders, alice=AT_ONCE)
    assert isinstance(bob, UntrustedPartner)
    assert "is not the one trusted for alice" in str(bob)
    assert fresh.fingerprint in str(bob)
    assert isinstance(alice, PartnerAbsent)
    assert "certificate that is not trusted here" in str(alice)


def test_a_trusted_partner_cannot_speak_for_another(folders):
    carol = create_identity(folders / "carol", "carol")
    trust(folders / "alice", carol.certificate_path)
    trust(folders / "carol", folders / "alice" / "alice.cert.pem")
    frame = pack_note(Kind.HELLO, hello(party="bob"))
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(1) as pool:
        answer = dial_by_hand(folders / "carol", listener.address, frame, me="carol")
        assert read_note(answer)["code"] == "link.not-ready"
        waiting = {"bob": None, "carol": None}
        a = pool.submit(
            open_links, folders / "alice", "alice", waiting, listen=listener, deadlines=SOON
        )
        answer = dial_once_served(folders / "carol", listener.address, frame, me="carol")
        assert read_note(answer)["code"] == "link.untrusted"
        dial_once_served(folders / "bob", listener.address, b"garbage")  # so that alice ends
        with pytest.raises(BadMessage, match="a frame of 7 bytes"):
            a.result()


@pytest.mark.parametrize("has_part", [False, True])
def test_a_trusted_partner_cannot_exhaust_our_threads(folders, has_part):
    """Streams on which nothing is said; carol is trusted, but may have no part in the job."""
    carol = create_identity(folders / "carol", "carol")
    trust(folders / "alice", carol.certificate_path)
    trust(folders / "carol", folders / "alice" / "alice.cert.pem")
    with (
        Listener(folders / "alice", "alice") as listener,
        ThreadPoolExecutor(1) as pool,
        ExitStack() as wires,
    ):
        partners = {"bob": None, **({"carol": None} if has_part else {})}
        awaited = replace(SOON, connect=10 if has_part else 20)
        a = pool.submit(
            open_links, folders / "alice", "alice", partners, listen=listener, deadlines=awaited
        )
        for _ in range(30):
            with suppress(OSError):
                wires.callback(wire_by_hand(folders / "carol", listener.address, "carol").close)
        # A stream that is refused has a thread for a moment, a silent one for ten seconds.
        limit, until = STREAMS_OF_A_PARTNER if has_part else 0, time.monotonic() + 8
        while sum(t.name == "isthmus-stream" for t in threading.enumerate()) > limit:
            assert time.monotonic() < until
            time.sleep(0.01)
        b = open_links(folders / "bob", "bob", {"alice": listener.address}, deadlines=SOON)
        b["alice"].send("t")
        if has_part:
            with pytest.raises(LinkError):  # carol did not dial, or ended without a hello
                a.result()
        else:
            a.result()["bob"].recv("t")
            a.result()["bob"].close()
        b["alice"].close()


def test_strangers_who_say_nothing_keep_nobody_out(folders):
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(1) as pool:
        host, _, port = listener.address.rpartition(":")
        strangers = [socket.create_connection((host, int(port))) for _ in range(3 * STRANGERS)]
        a = pool.submit(
            open_links, folders / "alice", "alice", {"bob": None}, listen=listener, deadlines=SOON
        )
        b = open_links(folders / "bob", "bob", {"alice": listener.address}, deadlines=SOON)
        b["alice"].send("t")
        a.result()["bob"].recv("t")
        assert sum(t.name == "isthmus-stream" for t in threading.enumerate()) <= STRANGERS + 1
        for link in (a.result()["bob"], b["alice"]):
            link.close()
        for stranger in strangers:
            stranger.close()


def test_a_listener_outlives_a_want_of_threads(folders, monkeypatch):
    start, failed = threading.Thread.start, []

    def refuse(thread):
        if thread.name == "isthmus-stream" and not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    outcomes = meet(folders)
    assert failed
    assert [outcome.partner for outcome in outcomes] == ["bob", "alice"]


def test_nobody_gets_in_below_tls_1_3(folders):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folders / "alice" / "alice.cert.pem")
    context.load_cert_chain(folders / "bob" / "bob.cert.pem", folders / "bob" / "bob.key.pem")

    def shake(address):
        with dial(address, context, "alice", 5) as line:
            return line.version()

    with Listener(folders / "alice", "alice") as listener:
        assert shake(listener.address) == "TLSv1.3"
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            shake(listener.address)


def test_nobody_gets_in_without_a_certificate(folders):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folders / "alice" / "alice.cert.pem")
    with Listener(folders / "alice", "alice") as listener:
        wire = Wire(dial(listener.address, context, "alice", 5))
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            next(wire.frames())
        wire.close()


def test_expired_certificates(folders):
    old = create_identity(folders / "old", "bob", days=10, now=LONG_AGO)
    shutil.copy(old.certificate_path, folders / "alice" / "trusted" / "bob.cert.pem")
    shutil.copy(old.certificate_path, folders / "bob" / "bob.cert.pem")
    shutil.copy(old.key_path, folders / "bob" / "bob.key.pem")
    for me, partners in (("alice", {"bob": None}), ("bob", {"alice": "127.0.0.1:1"})):
        with pytest.raises(IdentityError, match=r"bob expired on 2020-01-11.*identity new bob"):
            open_links(folders / me, me, partners, listen="127.0.0.1:0")


def test_an_expired_listener_says_so(folders):
    old = create_identity(folders / "old", "alice", days=10, now=LONG_AGO)
    shutil.copy(old.certificate_path, folders / "alice" / "alice.cert.pem")
    shutil.copy(old.key_path, folders / "alice" / "alice.key.pem")
    with pytest.raises(IdentityError, match="alice expired on 2020-01-11"):
        Listener(folders / "alice", "alice")


def test_a_partner_without_a_certificate_here(folders):
    with pytest.raises(IdentityError, match=r"trusts no certificate of carol.*identity trust"):
        open_links(folders / "bob", "bob", {"carol": "127.0.0.1:1"})


def test_a_broken_certificate_of_somebody_else_stops_nobody(folders):
    for name in ("alice", "bob"):
        (folders / name / "trusted" / "carol.cert.pem").write_text("hello")
    assert [outcome.partner for outcome in meet(folders)] == ["bob", "alice"]
    with Listener(folders / "alice", "alice") as listener:
        for carol in (None, listener.address):
            with pytest.raises(IdentityError, match=r"carol\.cert\.pem is not"):
                open_links(
                    folders / "alice", "alice", {"bob": None, "carol": carol}, listen=listener
                )


def test_another_job(folders):
    alice, bob = meet(folders, contexts=("a" * 30, "b" * 30))
    assert isinstance(alice, JobMismatch)
    assert f"bob holds a different job (here {'a' * 24}, there {'b' * 24})" in str(alice)
    assert isinstance(bob, JobMismatch)
    assert f"alice holds a different job (here {'b' * 24}, there {'a' * 24})" in str(bob)


def test_another_version_dials(folders):
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(1) as pool:
        a = pool.submit(
            open_links, folders / "alice", "alice", {"bob": None}, listen=listener, deadlines=SOON
        )
        frame = pack_note(Kind.HELLO, {"protocol": PROTOCOL + 1, "something": "new"})
        answer = dial_once_served(folders / "bob", listener.address, frame)
        assert read_note(answer)["code"] == "link.version"
        assert read_note(answer)["protocol"] == PROTOCOL
        with pytest.raises(VersionMismatch, match=f"bob speaks protocol version {PROTOCOL + 1}"):
            a.result()


def test_another_version_listens(folders):
    note = {"protocol": PROTOCOL + 1, "code": "link.version", "reason": ""}
    with (
        listen_by_hand(folders / "alice", pack_note(Kind.REFUSE, note)) as address,
        pytest.raises(VersionMismatch, match=f"alice speaks protocol version {PROTOCOL + 1}"),
    ):
        open_links(folders / "bob", "bob", {"alice": address}, context="job", deadlines=SOON)


def test_a_refusal_sends_no_commands_to_the_terminal(folders):
    note = {"protocol": PROTOCOL, "code": "job.mismatch", "reason": "\x1b[2J\u202eab\ncd"}
    with listen_by_hand(folders / "alice", pack_note(Kind.REFUSE, note)) as address:
        with pytest.raises(JobMismatch, match="there \\[2Jabcd\\)") as caught:
            open_links(folders / "bob", "bob", {"alice": address}, context="job", deadlines=SOON)
        assert caught.value.message.isprintable()


@pytest.mark.parametrize("context", ["two words", "\x1b[2J", "x" * 257, "ä"])
def test_contexts_that_cannot_be(folders, context):
    with pytest.raises(ValueError, match="cannot be a context"):
        open_links(folders / "bob", "bob", {"alice": "127.0.0.1:1"}, context=context)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"garbage",
        pack(Kind.DATA, Counters()),
        pack(Kind.HELLO, Counters(), [b"{"]),
        pack_note(Kind.HELLO, {"protocol": "1"}),
        pack_note(Kind.HELLO, hello(window=0)),
        pack_note(Kind.HELLO, hello(extra=1)),
        pack_note(Kind.HELLO, hello(context="\x1b[2J\x1b[31m")),
        pack_note(Kind.HELLO, hello(party="bob\n")),
        pack_note(Kind.HELLO, {"protocol": 10**400}),
        pack_note(Kind.HELLO, hello(received=-1)),
        pack_note(Kind.HELLO, hello(received=5)),
        pack_note(Kind.HELLO, hello(read=5)),
    ],
)
def test_garbage_instead_of_a_hello(folders, frame):
    with Listener(folders / "alice", "alice") as listener, ThreadPoolExecutor(1) as pool:
        a = pool.submit(
            open_links,
            folders / "alice",
            "alice",
            {"bob": None},
            listen=listener,
            context="job",
            deadlines=SOON,
        )
        answer = dial_once_served(folders / "bob", listener.address, frame)
        assert answer.kind is Kind.REFUSE
        assert read_note(answer)["code"] == "link.bad-message"
        with pytest.raises(BadMessage):
            a.result()


@pytest.mark.parametrize("frame", [b"garbage", pack(Kind.ACK, Counters())])
def test_garbage_instead_of_an_answer(folders, frame):
    with listen_by_hand(folders / "alice", frame) as address, pytest.raises(BadMessage):
        open_links(folders / "bob", "bob", {"alice": address}, context="job", deadlines=SOON)


def test_a_dialler_waits_for_a_late_listener_with_a_word(folders):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = []
    with ThreadPoolExecutor(1) as pool:
        b = pool.submit(
            open_links,
            folders / "bob",
            "bob",
            {"alice": address},
            deadlines=SOON,
            on_wait=words.append,
        )
        while not words:
            time.sleep(0.01)
        alice = open_links(
            folders / "alice", "alice", {"bob": None}, listen=address, deadlines=SOON
        )
        alice["bob"].close()
        b.result()["alice"].close()
    assert words
    assert f"waiting for alice at {address}" in words[0]


def test_absent_partners(folders):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(PartnerAbsent, match=f"alice did not come within 0.6 s: nobody.*{address}"):
        open_links(folders / "bob", "bob", {"alice": address}, deadlines=AT_ONCE)
    with pytest.raises(PartnerAbsent, match=r"bob did not dial within 0.6 s"):
        open_links(
            folders / "alice", "alice", {"bob": None}, listen="127.0.0.1:0", deadlines=AT_ONCE
        )


def test_something_else_answers(folders):
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer():
            server.settimeout(0.2)
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                try:
                    line, _ = server.accept()
                except TimeoutError:
                    continue
                line.sendall(b"220 mail.example.org ESMTP\r\n")
                line.close()

        done = pool.submit(answer)
        with pytest.raises(PartnerAbsent, match=r"is not a party|nobody answers"):
            open_links(folders / "bob", "bob", {"alice": address}, deadlines=AT_ONCE)
        done.result()


@pytest.mark.parametrize("address", ["alice", "alice:", ":1", "alice:http", "alice:99999"])
def test_addresses_that_are_none(folders, address):
    with pytest.raises(LinkError, match="is not an address"):
        open_links(folders / "bob", "bob", {"alice": address})


def test_a_port_in_use(folders):
    with (
        Listener(folders / "alice", "alice") as first,
        pytest.raises(LinkError, match=f"cannot listen at {first.address}"),
    ):
        Listener(folders / "alice", "alice", first.address)


def test_a_listener_is_needed(folders):
    with pytest.raises(LinkError, match="alice does not listen"):
        open_links(folders / "alice", "alice", {"bob": None})


def test_a_connection_that_is_reset_before_the_handshake_leaves_nothing_open(folders):
    with (
        Listener(folders / "alice", "alice") as listener,
        socket.create_server(("127.0.0.1", 0)) as door,
    ):
        caller = socket.create_connection(door.getsockname())
        reset, _ = door.accept()
        # A reset in place of the end, as a killed process of a partner leaves it.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert listener._shake_hands(reset) is None
            gc.collect()
    assert told == []
    assert reset.fileno() == -1
