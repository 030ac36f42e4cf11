from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from isthmus.link.remote import doorman as module
from isthmus.link.remote.doorman import STREAMS_OF_A_PARTNER, Doorman


class Stream:
    """A stream that can be ended."""

    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


@pytest.fixture
def clock(monkeypatch):
    """The doorman's: it stands still until a test moves `now`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def doorman(clock):
    doorman = Doorman(0.1)
    yield doorman
    doorman.close()


def test_each_partner_has_a_share_of_streams(doorman):
    streams = [Stream() for _ in range(STREAMS_OF_A_PARTNER)]
    assert all(doorman.admit("bob", stream) for stream in streams)
    assert not doorman.admit("bob", Stream())
    assert doorman.admit("carol", Stream())
    doorman.leave("bob", streams[3])
    assert doorman.admit("bob", Stream())
    assert not doorman.admit("bob", Stream())


def test_a_stream_that_does_not_get_on_is_ended(doorman, clock):
    slow, welcome, ended = streams = [Stream() for _ in range(3)]
    for stream in streams:
        doorman.admit("bob", stream)
    doorman.welcome(welcome)
    doorman.leave("bob", ended)
    late = Stream()
    doorman.admit("bob", late)
    clock.now += 0.09
    assert not slow.cancelled.wait(0.3)
    clock.now += 0.02
    assert slow.cancelled.wait(5)
    assert late.cancelled.wait(5)
    assert not welcome.cancelled.is_set()
    assert not ended.cancelled.is_set()


def test_a_closed_door():
    doorman = Doorman(10)
    (watcher,) = [t for t in threading.enumerate() if t.name == "isthmus-doorman"][-1:]
    doorman.close()
    watcher.join(5)
    assert not watcher.is_alive()
    assert not doorman.admit("bob", Stream())
