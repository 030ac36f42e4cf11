"""The toy federation learns through every guard, in both directions."""

from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pytest
from tests.split.toy import make_toy

from isthmus.link import Link
from isthmus.metrics import auc
from isthmus.session import run_parties
from isthmus.split import TrainOptions, predict, train
from isthmus.split.guards import parse_guard

OPTIONS = TrainOptions(batch_size=64, epochs=8, learning_rate=0.02, patience=0, device="cpu")
DIRECTIONS = {
    "train.cut": "cut",
    "train.valid": "cut",
    "predict.cut": "cut",
    "train.gradient": "gradient",
}


class GuardedLink(Link):
    """A link that guards what crosses the cut. The shapes, which a lane knows, go around it."""

    def __init__(self, link, spec, shapes, seed):
        self.me, self.partner, self.meter = link.me, link.partner, link.meter
        self._link, self._shapes = link, shapes
        self.guards = {
            way: parse_guard(spec).build(np.random.default_rng([seed, place]), way)
            for place, way in enumerate(("cut", "gradient"))
        }

    def send(self, topic, tensors=None, header=None):
        if topic in DIRECTIONS:
            self._shapes[topic].put({name: array.shape for name, array in tensors.items()})
            learn = topic in ("train.cut", "train.gradient")
            tensors = self.guards[DIRECTIONS[topic]].encode(tensors, learn=learn)
        self._link.send(topic, tensors, header)

    def recv(self, topic, *, timeout=None):
        message = self._link.recv(topic, timeout=timeout)
        if topic not in DIRECTIONS:
            return message
        guard = self.guards[DIRECTIONS[topic]]
        shapes = self._shapes[topic].get(timeout=5)
        return replace(message, tensors=guard.decode(message.tensors, shapes))

    def fail(self, error):
        self._link.fail(error)

    def close(self):
        self._link.close()


def federate(toy, spec):
    """AUC on the test rows, and both ends' links."""
    shapes = {topic: SimpleQueue() for topic in DIRECTIONS}
    ends = {}

    def program(party):
        def run(session):
            (partner,) = session.links
            link = GuardedLink(session.links[partner], spec, shapes, seed=len(party))
            ends[party] = link
            session = replace(session, links={partner: link})
            module, data = toy.bottom(party), toy.data(party)
            upper = {"top": toy.top()} if party == "bob" else {}
            labels = {"labels": toy.labels} if party == "bob" else {}
            train(
                session,
                split=toy.split,
                bottom=module,
                data=data,
                options=OPTIONS,
                **upper,
                **labels,
            )
            return predict(session, samples=toy.split.test, bottom=module, data=data, **upper)

        return run

    programs = {party: program(party) for party in ("alice", "bob")}
    scores = run_parties(programs, label_party="bob", seed=3)["bob"]
    return auc(toy.labels[toy.split.test], scores), ends


@pytest.fixture(scope="module")
def toy():
    return make_toy(rows=2000)


@pytest.fixture(scope="module")
def plain(toy):
    value, ends = federate(toy, "none")
    assert value > 0.7
    return value, ends["bob"].meter.snapshot()["train.cut"].received_bytes


@pytest.mark.parametrize(
    ("spec", "lost", "times_fewer"),
    [
        ("fp16", 0.01, 1.5),
        ("bf16", 0.02, 1.5),
        ("fp8", 0.03, 2),
        ("fp8-e5m2", 0.04, 2),
        ("int8", 0.03, 2),
        ("int4", 0.06, 2.5),
        ("topk:0.5", 0.06, 1.1),
        ("topk:0.5+int8", 0.06, 2.5),
        ("randomk:0.7", 0.15, 1.1),
        ("lowrank:3", 0.08, 1.1),
        ("lowrank:3+int8", 0.08, 2),
        ("int8+zeros", 0.03, 2),
    ],
)
def test_the_toy_learns_through_a_guard(toy, plain, spec, lost, times_fewer):
    value, ends = federate(toy, spec)
    assert value > plain[0] - lost
    taken = ends["bob"].meter.snapshot()["train.cut"].received_bytes
    assert taken * times_fewer < plain[1]
    for end, way in (("alice", "cut"), ("bob", "gradient")):
        report = ends[end].guards[way].report
        assert report.ratio > times_fewer
        assert 0 < report.relative_error < 1.2


@pytest.mark.parametrize("spec", ["zlib", "zeros"])
def test_through_a_lossless_guard_nothing_changes(toy, plain, spec):
    value, _ = federate(toy, spec)
    assert value == plain[0]
