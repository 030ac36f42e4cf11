"""A server and shards with real identities and TLS on loopback: threads, or processes."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.fedrec import RunOptions, protocol, recipe, run
from isthmus.fedrec.devices import Conduct, Gate, Limits, Line, Plan, evenly, join, serve, split
from isthmus.fedrec.devices.parts import Census
from isthmus.link import Listener, create_identity, trust

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
    data: object
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
    def listening(self):
        with Listener(self.folder / "hub", "hub") as listener:
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

    def serve(self, listener, chosen, options, limits=None, rules=HONEST, **more):
        limits = limits or Limits(round=60, wait=60, reconnect=0.3)
        plan = self.plan(chosen, options, rules)
        return serve(
            plan, self.folder / "hub", "hub", listener, limits=limits, say=self.said.append, **more
        )

    def simulated(self, chosen, options, rules=HONEST):
        return run(self.data, chosen, rules, replace(options, folder=None))


@pytest.fixture
def federation(identities):
    return Federation(identities, made_up(clients=14, items=30))


__all__ = ["HONEST", "QUICK", "Gate", "RunOptions", "evenly", "recipe"]
