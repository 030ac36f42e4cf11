"""A server and shards with real identities and TLS on loopback: threads, or processes."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.errors import LinkError
from isthmus.fedrec import Interactions, protocol, run
from isthmus.fedrec.devices import (
    Census,
    Conduct,
    Gate,
    Limits,
    Line,
    Plan,
    join,
    serve,
    split,
)
from isthmus.fedrec.devices.gate import CONTEXT
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.parcels import Unpacker
from isthmus.fedrec.devices.wire import DOWN, UP, Ask, Joining, Order
from isthmus.fedrec.devices.worker import Worker
from isthmus.link import Deadlines, Listener, create_identity, open_links, trust

HONEST = (protocol("honest-sampled"), protocol("full-ranking"))
QUICK = {"epochs": 2, "batch": 16, "dim": 4}
SHARDS = ("ann", "ben", "cat")


def without_times(result):
    return replace(result, rounds=[replace(one, seconds=0, cpu=0) for one in result.rounds])


@pytest.fixture(scope="session")
def identities(tmp_path_factory):
    """Folders of a server `hub` and of three shards, which trust each other in pairs with it."""
    folder = tmp_path_factory.mktemp("identities")
    for name in ("hub", *SHARDS):
        create_identity(folder / name, name)
    for name in SHARDS:
        trust(folder / "hub", folder / name / f"{name}.cert.pem")
        trust(folder / name, folder / "hub" / "hub.cert.pem")
    return folder


@dataclass
class Federation:
    """A population, cut in three; starts servers and shards."""

    folder: Path
    data: Interactions
    seed: int = 0
    said: list = field(default_factory=list)

    def __post_init__(self):
        self.groups = [np.arange(0, 12, 2), np.array([1, 3, 11]), np.array([5, 7, 9, 12, 13])]
        self.parts = dict(
            zip(SHARDS, split(self.data, HONEST[0], self.seed, self.groups), strict=True)
        )

    def plan(self, chosen, options, rules=HONEST):
        return Plan(Census.of(self.data, rules[0], self.seed), chosen, rules, options)

    def line(self, name, listener, wait=30.0):
        return Line(self.folder / name, name, "hub", listener.address, wait, 0.3)

    @contextmanager
    def listening(self, address="127.0.0.1:0"):
        with Listener(self.folder / "hub", "hub", address) as listener:
            yield listener

    def shard(self, name, listener, conduct=None, part=None, **more):
        """A shard in a thread; what it raised is in `.error`."""

        def work():
            try:
                where = self.line(name, listener, more.pop("wait", 30.0))
                join(part or self.parts[name], where, conduct or Conduct(), **more)
            except Exception as error:
                thread.error = error

        thread = threading.Thread(target=work, daemon=True)
        thread.error = None
        thread.start()
        return thread

    def process(self, name, listener, folder, *more):
        """A shard in a process of its own, its part in `folder`."""
        path = folder / f"{name}.part"
        self.parts[name].save(path)
        words = [
            "join", path, "--as", name, "--identity", self.folder / name, "--server",
            f"hub={listener.address}", "--reproducible", "--reconnect", "0.3", *more,
        ]  # fmt: skip
        command = [sys.executable, "-m", "isthmus", "fedrec", *map(str, words)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def serve(self, listener, chosen, options, limits=None, rules=HONEST, **more):
        limits = limits or Limits(round=60, wait=60, reconnect=0.3)
        plan = self.plan(chosen, options, rules)
        return serve(
            plan, self.folder / "hub", "hub", listener, limits=limits, say=self.said.append, **more
        )

    def whole(self, chosen, options):
        """All shards, from the first round to the last."""
        with self.listening() as listener:
            shards = [self.shard(one, listener) for one in SHARDS]
            served = self.serve(listener, chosen, options)
            for one in shards:
                one.join(30)
                assert one.error is None
        return served

    def killed_and_resumed(self, chosen, options):
        """All shards; the server is gone after round 3 and comes again at the same address."""

        class Killed(Exception):
            pass

        def stop(result):
            if result.rounds[-1].number == 3:
                raise Killed

        with self.listening() as listener:
            address = listener.address
            shards = [self.shard(one, listener) for one in SHARDS]
            with pytest.raises(Killed):
                self.serve(listener, chosen, options, told=stop)
        with self.listening(address) as listener:
            served = self.serve(listener, chosen, replace(options, resume=True))
            for one in shards:
                one.join(30)
                assert one.error is None
        return served

    def simulated(self, chosen, options, rules=HONEST):
        return run(self.data, chosen, rules, replace(options, folder=None))


class Puppet:
    """A shard that a test moves by hand."""

    def __init__(self, federation, name, listener, clients=None, census=None):
        line = federation.line(name, listener)
        self.part = federation.parts[name]
        self.name = name
        deadlines = Deadlines(connect=30, recv=30, reconnect=0.3)
        self.link = open_links(
            line.folder, name, {"hub": line.address}, context=CONTEXT, deadlines=deadlines
        )["hub"]
        words = Joining(census=census or self.part.census)
        clients = self.part.clients if clients is None else clients
        self.link.send(UP, {"clients": clients}, words.model_dump(mode="json"))
        self.unpacker = Unpacker()
        self.words = self._next()[0]
        self.worker = None
        if self.words["kind"] == "order":
            self.order = Order.model_validate(self.words)
            self.worker = Worker(self.part, self.order, Conduct(), Keeper(None))

    def _next(self):
        message = self.link.recv(DOWN)
        return self.unpacker.unpack(message.header, message.tensors)

    def asked(self):
        """The next ask, with its arrays."""
        header, arrays = self._next()
        return Ask.model_validate(header), arrays

    def replies(self, ask, arrays):
        return list(self.worker.answer(ask, arrays))

    def send(self, replies):
        for answer, arrays in replies:
            self.link.send(UP, arrays, answer.model_dump())

    def obey(self):
        """Answer everything until the run is over."""
        while True:
            header, arrays = self._next()
            if header["kind"] != "over":
                self.send(self.replies(Ask.model_validate(header), arrays))
            else:
                return

    def obedient(self):
        """Obey in a thread."""
        return in_thread(self.obey)


def in_thread(work):
    """Start `work` in a thread; that the line ends is no error."""

    def go():
        with suppress(LinkError):
            work()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread


def gate_in(place, **more):
    """A factory for `serve` that leaves the gate in a list."""

    def make(*words, **named):
        place.append(Gate(*words, **named | more))
        return place[0]

    return make


def until(condition, what="nothing came"):
    """Wait for what another thread brings about."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture
def federation(identities):
    return Federation(identities, made_up(clients=14, items=30))


@pytest.fixture(scope="session")
def five(tmp_path_factory):
    """Five shards, each with an identity, and a server."""
    from tests.fedrec.devices.inside import GROUPS, SHARDS

    folder = tmp_path_factory.mktemp("five")
    for name in ("hub", *SHARDS):
        create_identity(folder / name, name)
    for name in SHARDS:
        trust(folder / "hub", folder / name / f"{name}.cert.pem")
        trust(folder / name, folder / "hub" / "hub.cert.pem")
    found = Federation(folder, made_up(clients=14, items=30))
    found.groups = GROUPS
    found.parts = dict(zip(SHARDS, split(found.data, HONEST[0], 0, GROUPS), strict=True))
    return found
