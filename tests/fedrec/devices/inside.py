"""A run whose shards are in this process, so that a test can lose or change any message."""

import numpy as np
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, QUICK

from isthmus.fedrec import RunOptions, recipe
from isthmus.fedrec.devices import Census, Conduct, Plan, split
from isthmus.fedrec.devices.crew import Crew
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.serving import device_run, order_of
from isthmus.fedrec.devices.worker import Worker
from isthmus.fedrec.privacy import Defences

SHARDS = ("ann", "ben", "cat", "dan", "eve")
GROUPS = [np.array(one) for one in ([0, 2, 4, 6, 8, 10], [1, 3], [5, 7], [9], [11, 12, 13])]
FEDAVG = recipe("fedavg", "fcf", QUICK)
MASKED = Defences(secure_sum=True)


class Here:
    """A carrier whose shards are in this process; some are lost at a step of a round."""

    def __init__(self, names=SHARDS):
        self.workers = dict.fromkeys(names)
        self.parts = {}
        self.lose = set()
        self.sent = []

    def present(self):
        return {name: self.parts[name].clients for name in self.workers}

    def ask(self, requests):
        left_out = {}
        for name, request in requests.items():
            ask = request.ask
            if (name, ask.number, ask.what or ask.kind) in self.lose:
                left_out[name] = "is gone"
                continue
            for answer, arrays in self.workers[name].answer(ask, request.arrays):
                self.sent.append((name, answer, arrays))
                request.collector.add(answer, arrays)
        return left_out


def begun(
    chosen=FEDAVG, defences=MASKED, *, rounds=2, lose=(), names=SHARDS, least=1, conduct=None
):
    """A run, its crew and its carrier."""
    data = made_up(clients=14, items=30)
    options = RunOptions(rounds=rounds, defences=defences)
    plan = Plan(Census.of(data, HONEST[0], 0), chosen, HONEST, options)
    carrier = Here(names)
    crew = Crew(carrier, plan.census, HONEST, least)
    run = device_run(plan, crew)
    parts = dict(zip(SHARDS, split(data, HONEST[0], 0, GROUPS), strict=True))
    carrier.parts, carrier.lose = parts, set(lose)
    order = order_of(plan, run, "s")
    for name in names:
        carrier.workers[name] = Worker(parts[name], order, conduct or Conduct(), Keeper(None))
    return run, crew, carrier
