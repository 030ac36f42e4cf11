"""What every carrier of links must do."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from isthmus.errors import (
    LinkError,
    PartnerFailed,
    PartnerGone,
    PartnerSlow,
    SchemaError,
)
from isthmus.link import Link
from isthmus.testing.tools import PATIENCE, Waiter, end, together, until

_DTYPES = ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")


class LinkContract(ABC):
    """Inherit, give `make_links`, and pytest runs the contract against your carrier."""

    @abstractmethod
    def make_links(self, *, timeout: float, window: int) -> tuple[Link, Link]:
        """Two connected ends: that of `alice` to `bob`, and that of `bob` to `alice`."""

    @contextmanager
    def links(
        self, *, timeout: float = PATIENCE, window: int = 64 << 20
    ) -> Iterator[tuple[Link, Link]]:
        """Two connected ends, closed afterwards on both sides."""
        alice, bob = self.make_links(timeout=timeout, window=window)
        try:
            yield alice, bob
        finally:
            together(alice.close, bob.close)

    # Messages.

    def test_names(self) -> None:
        """Each end knows whose it is."""
        with self.links() as (alice, bob):
            assert (alice.me, alice.partner) == ("alice", "bob")
            assert (bob.me, bob.partner) == ("bob", "alice")

    def test_everything_arrives_as_it_was_sent(self) -> None:
        """Every dtype, every kind of shape, and the header."""
        sent = {
            f"{dtype}-{i}": np.arange(np.prod(shape)).astype(dtype).reshape(shape)
            for dtype in _DTYPES
            for i, shape in enumerate([(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
        }
        header = {"epoch": 3, "loss": 0.5, "names": ["é", None, True], "inner": {"a": []}}
        with self.links() as (alice, bob):
            alice.send("t", sent, header)
            message = bob.recv("t")
            assert message.topic == "t"
            assert message.header == header
            assert set(message.tensors) == set(sent)
            for name, array in sent.items():
                got = message.tensors[name]
                assert (got.dtype, got.shape) == (array.dtype, array.shape), name
                np.testing.assert_array_equal(got, array)

    def test_arrays_that_are_not_contiguous(self) -> None:
        """A view with strides arrives as its values."""
        array = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::3].T
        with self.links() as (alice, bob):
            alice.send("t", {"x": array})
            np.testing.assert_array_equal(bob.recv("t").tensors["x"], array)

    def test_sender_may_reuse_its_arrays(self) -> None:
        """What is sent is what the array held at that moment."""
        array = np.zeros(1000)
        with self.links() as (alice, bob):
            alice.send("t", {"x": array})
            array[:] = 7
            assert bob.recv("t").tensors["x"].sum() == 0

    def test_received_arrays_are_read_only(self) -> None:
        """They are views of the message's buffer."""
        with self.links() as (alice, bob):
            alice.send("t", {"x": np.zeros(4), "empty": np.zeros(0)})
            for array in bob.recv("t").tensors.values():
                assert not array.flags.writeable

    def test_order_within_a_topic_and_none_between_topics(self) -> None:
        """Each topic is a lane of its own."""
        with self.links() as (alice, bob):
            for i in range(50):
                alice.send(f"topic.{i % 2}", header={"i": i})
            odd = [bob.recv("topic.1").header["i"] for _ in range(25)]
            even = [bob.recv("topic.0").header["i"] for _ in range(25)]
            assert odd == list(range(1, 50, 2))
            assert even == list(range(0, 50, 2))

    def test_large_messages(self) -> None:
        """Several mebibytes, between small ones."""
        large = np.random.default_rng(0).integers(0, 255, 5 << 20, np.uint8)
        with self.links() as (alice, bob):
            for i in range(3):
                alice.send("t", {"x": large[i:]}, {"i": i})
                alice.send("t", header={"small": i})
            for i in range(3):
                message = bob.recv("t")
                assert message.header == {"i": i}
                np.testing.assert_array_equal(message.tensors["x"], large[i:])
                assert bob.recv("t").header == {"small": i}

    def test_both_directions_at_once(self) -> None:
        """Neither side has to read before it sends."""
        block = np.ones(100_000, np.uint8)

        def talk(link: Link) -> list[int]:
            for i in range(40):
                link.send("t", {"x": block}, {"i": i})
            return [link.recv("t").header["i"] for _ in range(40)]

        with self.links() as (alice, bob):
            assert together(lambda: talk(alice), lambda: talk(bob)) == [list(range(40))] * 2

    def test_threads_share_a_link(self) -> None:
        """Four threads, each on its own topic, over one link."""
        with self.links() as (alice, bob):

            def send(name: str) -> None:
                for i in range(30):
                    alice.send(name, header={"i": i})

            def read(name: str) -> list[int]:
                return [bob.recv(name).header["i"] for _ in range(30)]

            names = [f"thread.{n}" for n in range(4)]
            senders = [lambda name=name: send(name) for name in names]
            readers = [lambda name=name: read(name) for name in names]
            assert together(*readers, *senders)[:4] == [list(range(30))] * 4

    def test_refuses_what_cannot_be_sent(self) -> None:
        """A mistake of the caller is told at once and does no harm to the link."""
        with self.links() as (alice, bob):
            with pytest.raises(TypeError, match="dtype"):
                alice.send("t", {"x": np.array(["text"])})
            with pytest.raises(ValueError, match="topic"):
                alice.send("no spaces", {})
            with pytest.raises(ValueError, match="JSON"):
                alice.send("t", header={"loss": float("nan")})
            alice.send("t", header={"i": 1})
            assert bob.recv("t").header == {"i": 1}

    # Meter.

    def test_both_ends_meter_alike(self) -> None:
        """What one end has sent is what the other has received, per topic."""
        with self.links() as (alice, bob):
            for i in range(5):
                alice.send("a", {"x": np.zeros(i)})
            alice.send("b")
            for _ in range(5):
                bob.recv("a")
            bob.recv("b")
            sent, received = alice.meter.snapshot(), bob.meter.snapshot()
            assert set(sent) == set(received) == {"a", "b"}
            for topic in sent:
                assert sent[topic].sent_messages == received[topic].received_messages
                assert sent[topic].sent_bytes == received[topic].received_bytes
            assert alice.meter.total().sent_messages == 6
            assert alice.meter.total().sent_bytes > 5 * 2 * 8

    def test_waiting_is_metered(self) -> None:
        """Time that `recv` spends waiting is counted for its topic."""
        with self.links() as (_, bob):
            with pytest.raises(PartnerSlow):
                bob.recv("late", timeout=0.2)
            assert 0.1 < bob.meter.snapshot()["late"].waited_seconds < PATIENCE

    # Deadlines and the window.

    def test_recv_has_a_deadline(self) -> None:
        """A silent partner is slow, not gone; what comes later can still be read."""
        with self.links() as (alice, bob):
            began = time.monotonic()
            with pytest.raises(PartnerSlow, match=r"alice.*t\.late"):
                bob.recv("t.late", timeout=0.1)
            assert 0.05 < time.monotonic() - began < PATIENCE / 2
            alice.send("t.late")
            bob.recv("t.late")

    def test_looking_without_waiting_finds_what_has_come(self) -> None:
        """However often one looks, nobody has to wait for a message to be read."""
        with self.links() as (alice, bob):
            alice.send("t", header={"i": 1})
            until(lambda: _has_come(bob))
            alice.send("t", header={"i": 2})
            assert bob.recv("t").header == {"i": 2}

    def test_send_waits_for_a_full_window(self) -> None:
        """Sending goes on as soon as the partner reads."""
        block = np.zeros(20_000, np.uint8)
        sent: list[int] = []
        with self.links(window=64_000) as (alice, bob):

            def send() -> None:
                for i in range(20):
                    alice.send("t", {"x": block}, {"i": i})
                    sent.append(i)

            def read() -> list[int]:
                time.sleep(0.3)
                assert len(sent) <= 3
                return [bob.recv("t").header["i"] for _ in range(20)]

            assert together(send, read)[1] == list(range(20))

    def test_send_has_a_deadline(self) -> None:
        """A partner that never reads is slow."""
        with self.links(timeout=0.3, window=10_000) as (alice, bob):
            alice.send("t", {"x": np.zeros(6000, np.uint8)})
            with pytest.raises(PartnerSlow, match="bob"):
                alice.send("t", {"x": np.zeros(6000, np.uint8)})
            bob.recv("t", timeout=PATIENCE)
            until(lambda: _is_sent(alice, {"i": "fits again"}))
            assert bob.recv("t", timeout=PATIENCE).header == {"i": "fits again"}

    def test_countless_empty_messages_fill_the_window_too(self) -> None:
        """Each message has a price of its own."""

        def flood(link: Link) -> None:
            for _ in range(200):
                link.send("t")

        with self.links(timeout=0.2, window=20_000) as (alice, _), pytest.raises(PartnerSlow):
            flood(alice)

    def test_a_message_larger_than_the_window_passes_alone(self) -> None:
        """It waits until nothing else is unread."""
        large = np.arange(300_000, dtype=np.uint32)
        with self.links(window=10_000) as (alice, bob):

            def send() -> None:
                alice.send("t", header={"first": 1})
                alice.send("t", {"x": large})
                alice.send("t", {"x": large})

            def read() -> None:
                assert bob.recv("t").header == {"first": 1}
                for _ in range(2):
                    np.testing.assert_array_equal(bob.recv("t").tensors["x"], large)

            together(send, read)

    # Endings.

    def test_close_delivers_first(self) -> None:
        """What was sent before the goodbye is read; then the partner is gone."""
        with self.links() as (alice, bob):
            for i in range(20):
                alice.send("t", header={"i": i})
            alice.close()
            assert [bob.recv("t").header["i"] for _ in range(20)] == list(range(20))
            for _ in range(2):
                with pytest.raises(PartnerGone, match="alice has finished"):
                    bob.recv("t")
            with pytest.raises(PartnerGone, match="alice has finished"):
                bob.recv("never.seen")
            with pytest.raises(PartnerGone, match="alice has finished"):
                bob.send("t")

    def test_fail_delivers_first_and_tells_no_secret(self) -> None:
        """The partner learns the code and the public reason, never the message."""
        with self.links() as (alice, bob):
            alice.send("t", header={"i": 1})
            alice.fail(SchemaError("column Salary of payroll.csv is missing"))
            assert bob.recv("t").header == {"i": 1}
            with pytest.raises(PartnerFailed) as caught:
                bob.recv("t")
            assert caught.value.partner_code == "data.schema"
            assert "alice stopped: its table does not fit the job's schema" in str(caught.value)
            assert "Salary" not in str(caught.value)
            with pytest.raises(PartnerFailed, match="alice stopped"):
                bob.send("t")

    def test_fail_with_an_unknown_error_tells_nothing(self) -> None:
        """An unexpected exception's text stays here."""
        with self.links() as (alice, bob):
            alice.fail(RuntimeError("secret"))
            with pytest.raises(PartnerFailed) as caught:
                bob.recv("t")
            assert "secret" not in str(caught.value)
            assert caught.value.partner_code == "error"

    @pytest.mark.parametrize("ending", ["close", "fail"])
    def test_the_partners_end_wakes_a_waiting_recv(self, ending: str) -> None:
        """Nobody waits for a deadline when the answer is known."""
        kind = PartnerGone if ending == "close" else PartnerFailed
        with self.links() as (alice, bob):
            waiter = Waiter(lambda: bob.recv("t"))
            end(alice, ending)
            assert isinstance(waiter.error(), kind)

    def test_the_partners_end_wakes_a_waiting_send(self) -> None:
        """A full window is no reason to miss the news."""
        with self.links(window=10_000) as (alice, bob):
            bob.send("t", {"x": np.zeros(8000, np.uint8)})
            waiter = Waiter(lambda: bob.send("t", {"x": np.zeros(8000, np.uint8)}))
            alice.fail(RuntimeError())
            assert isinstance(waiter.error(), PartnerFailed)

    @pytest.mark.parametrize("ending", ["close", "fail"])
    def test_our_own_end_wakes_our_waiting_recv(self, ending: str) -> None:
        """A link may be ended from another thread."""
        with self.links() as (alice, _):
            waiter = Waiter(lambda: alice.recv("t"))
            end(alice, ending)
            error = waiter.error()
            assert isinstance(error, LinkError)
            assert "closed on this side" in str(error)

    def test_a_closed_link_refuses(self) -> None:
        """Neither sends nor receives, and says so."""
        with self.links() as (alice, bob):
            bob.send("t")
            alice.close()
            with pytest.raises(LinkError, match="closed on this side"):
                alice.send("t")
            with pytest.raises(LinkError, match="closed on this side"):
                alice.recv("t")

    def test_ending_twice_is_harmless(self) -> None:
        """The first ending counts."""
        with self.links() as (alice, bob):
            alice.close()
            alice.fail(RuntimeError())
            alice.close()
            with pytest.raises(PartnerGone):
                bob.recv("t")

    @pytest.mark.parametrize("endings", [("close", "close"), ("fail", "fail"), ("close", "fail")])
    def test_both_may_end_at_once(self, endings: tuple[str, str]) -> None:
        """Nobody waits for the other."""
        alice, bob = self.make_links(timeout=PATIENCE, window=1 << 20)
        alice.send("t")
        bob.send("t")
        began = time.monotonic()
        together(lambda: end(alice, endings[0]), lambda: end(bob, endings[1]))
        assert time.monotonic() - began < PATIENCE / 2

    def test_leaving_a_with_block_by_an_error_fails_the_link(self) -> None:
        """So that the partner hears of it."""
        with self.links() as (alice, bob):
            with pytest.raises(SchemaError), alice:
                raise SchemaError("x")
            with pytest.raises(PartnerFailed):
                bob.recv("t")


def _has_come(link: Link) -> bool:
    try:
        return link.recv("t", timeout=0).header == {"i": 1}
    except PartnerSlow:
        return False


def _is_sent(link: Link, header: dict[str, str]) -> bool:
    try:
        link.send("t", header=header)
    except PartnerSlow:
        return False
    return True
