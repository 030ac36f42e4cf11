"""Late, killed, coming and coming back: the run goes on, and says who was missing."""

import itertools
import sys
import threading
import types
from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.devices.conftest import (
    QUICK,
    SHARDS,
    Federation,
    Puppet,
    gate_in,
    in_thread,
    until,
    without_times,
)

from isthmus.errors import JobError, TrainError
from isthmus.fedrec import Interactions, RunOptions, recipe
from isthmus.fedrec.devices import Conduct, Limits
from isthmus.fedrec.privacy import Defences

FEDAVG = recipe("fedavg", "fcf", QUICK)
PATIENT = Limits(round=60, wait=60, reconnect=0.3)


def in_parallel(shards):
    for one in shards:
        one.join(30)
        assert one.error is None


def test_who_is_late_is_left_out_of_the_round_and_takes_part_again(federation):
    gates, late = [], []

    def clock():
        """Stands still until all but the late one have answered."""
        there = gates[0].present() if gates else {}
        return 1e9 if len(late) == 1 and {"ann", "ben"} <= there.keys() else 0.0

    def told(result):
        if result.rounds[-1].number == 1:
            puppet, replies = late[0]
            puppet.send(replies)
            late.append("has answered")
            until(lambda: "cat" in gates[0].present())
            late.append(puppet.obedient())

    with federation.listening() as listener:
        shards = [federation.shard(one, listener) for one in ("ann", "ben")]

        def join_late():
            puppet = Puppet(federation, "cat", listener)
            late.append((puppet, puppet.replies(*puppet.asked())))

        threading.Thread(target=join_late, daemon=True).start()
        served = federation.serve(
            listener, FEDAVG, RunOptions(rounds=3), told=told, gate=gate_in(gates, clock=clock)
        )
        in_parallel(shards)
        late[-1].join(30)
    first, *rest = served.rounds
    assert first.trained == 9
    assert "had not answered" in first.left_out["cat"]
    assert [one.trained for one in rest] == [14, 14]
    assert [one.clients for one in served.result.rounds] == [9, 14, 14]
    assert served.refused == {}


def test_a_killed_shard_is_left_out_and_goes_on_when_it_is_started_again(federation, tmp_path):
    gates, children = [], []

    def start(listener):
        more = ("--keep", tmp_path / "keep")
        children.append(federation.process("cat", listener, tmp_path, *more))

    with federation.listening() as listener:

        def told(result):
            number = result.rounds[-1].number
            if number == 2:
                children[0].kill()
                children[0].communicate()
            if number == 3:
                start(listener)
                until(lambda: "cat" in gates[0].present())

        start(listener)
        shards = [federation.shard(one, listener) for one in ("ann", "ben")]
        served = federation.serve(
            listener, FEDAVG, RunOptions(rounds=4, checkpoint_every=2), told=told,
            gate=gate_in(gates),
        )  # fmt: skip
        in_parallel(shards)
        _, words = children[1].communicate(timeout=30)
    assert children[1].returncode == 0
    assert "5 clients take part from round 2, without masks" in words
    assert [one.trained for one in served.rounds] == [14, 14, 9, 14]
    third = served.rounds[2]
    assert third.absent == 5 or "is gone" in third.left_out["cat"]


def test_too_few_clients_end_the_run_with_their_names(federation):
    gone, ticks = [], itertools.count()

    def clock():
        """Runs only once somebody is gone; no round's deadline comes near."""
        return 10.0 * next(ticks) if gone else 0.0

    def told(result):
        puppet[0].link.fail(KeyboardInterrupt())
        gone.append("cat")

    puppet = []
    with federation.listening() as listener:
        heard = []
        for one in ("ann", "ben"):
            federation.shard(one, listener, say=heard.append)

        def come():
            puppet.append(Puppet(federation, "cat", listener))
            puppet[0].obedient()

        threading.Thread(target=come, daemon=True).start()
        limits = replace(PATIENT, round=1e9, min_clients=10)
        with pytest.raises(TrainError, match=r"only 9 of 14 clients took part in round 2, and 10"):
            federation.serve(
                listener, FEDAVG, RunOptions(rounds=3), limits, told=told,
                gate=gate_in([], clock=clock),
            )  # fmt: skip
        until(lambda: sum("dialling again" in one for one in heard) >= 2)
    assert any("training could not go on" in one for one in heard)


def test_who_comes_late_takes_part_from_then_on(federation):
    gates, shards = [], []
    with federation.listening() as listener:

        def told(result):
            if result.rounds[-1].number == 2:
                shards.append(federation.shard("cat", listener))
                until(lambda: "cat" in gates[0].present())

        shards += [federation.shard(one, listener) for one in ("ann", "ben")]
        served = federation.serve(
            listener, FEDAVG, RunOptions(rounds=3), replace(PATIENT, begin_with=9), told=told,
            gate=gate_in(gates),
        )  # fmt: skip
        in_parallel(shards)
    assert [(one.trained, one.absent) for one in served.rounds] == [(9, 5), (9, 5), (14, 0)]


def test_a_secure_sum_does_not_begin_with_fewer_shards_than_it_needs(federation):
    gates, shards = [], []
    options = RunOptions(rounds=1, defences=Defences(secure_sum=True))
    with federation.listening() as listener:
        shards.append(federation.shard("ann", listener))

        def others():
            until(lambda: gates and "ann" in gates[0].present())
            shards.extend(federation.shard(one, listener) for one in ("ben", "cat"))

        come = in_thread(others)
        served = federation.serve(
            listener, FEDAVG, options, replace(PATIENT, begin_with=1), gate=gate_in(gates)
        )
        come.join(30)
        in_parallel(shards)
    assert served.rounds[0].trained == 14
    assert any("of 3 shards" in one for one in federation.said)


@pytest.mark.parametrize("name", ["fedavg", "pfedrec"])
def test_a_server_that_was_killed_goes_on_to_the_same_end(federation, tmp_path, name):
    chosen = recipe(name, None, QUICK if name == "fedavg" else {"dim": 4})
    options = RunOptions(rounds=5, folder=tmp_path, checkpoint_every=2)
    served = federation.killed_and_resumed(chosen, options)
    assert without_times(served.result) == without_times(federation.simulated(chosen, options))
    assert [one.number for one in served.rounds] == [3, 4, 5]
    assert (tmp_path / "devices.json").is_file()


def test_clients_without_data_break_nothing(identities, federation):
    full = federation.data
    data = Interactions("some", 17, full.items, full.user, full.item, full.order)
    groups = [np.arange(0, 8), np.arange(8, 14), np.array([14, 15, 16])]
    some = Federation(identities, data)
    from isthmus.fedrec.devices import split
    from isthmus.fedrec.protocols import protocol

    some.parts = dict(zip(SHARDS, split(data, protocol("full-ranking"), 0, groups), strict=True))
    with some.listening() as listener:
        shards = [some.shard(one, listener) for one in SHARDS]
        served = some.serve(listener, FEDAVG, RunOptions(rounds=2))
        in_parallel(shards)
    assert without_times(served.result) == without_times(
        some.simulated(FEDAVG, RunOptions(rounds=2))
    )
    assert served.rounds[0].trained == 17


def test_defences_are_applied_by_the_shards(federation):
    options = RunOptions(rounds=2, defences=Defences(clip=0.5, noise=1.0))
    with federation.listening() as listener:
        shards = [federation.shard(one, listener) for one in SHARDS]
        served = federation.serve(listener, FEDAVG, options)
        in_parallel(shards)
    assert without_times(served.result) == without_times(federation.simulated(FEDAVG, options))
    assert served.result.privacy["epsilon"] > 0


def test_with_seeds_of_their_own_shards_draw_what_the_server_cannot_know(federation):
    options = RunOptions(rounds=1)
    with federation.listening() as listener:
        shards = [
            federation.shard(one, listener, Conduct(secret=number))
            for number, one in enumerate(SHARDS)
        ]
        served = federation.serve(listener, FEDAVG, options)
        in_parallel(shards)
    simulated = federation.simulated(FEDAVG, options)
    assert served.result.rounds[0].loss != simulated.rounds[0].loss
    assert served.result.rounds[0].clients == simulated.rounds[0].clients


def test_an_algorithm_of_ones_own_runs_where_the_shards_have_it(federation, monkeypatch):
    here = types.ModuleType("my_algorithms")
    here.MINE = replace(FEDAVG.algorithm, name="mine")
    monkeypatch.setitem(sys.modules, "my_algorithms", here)
    chosen, options = recipe("my_algorithms:MINE", "fcf", QUICK), RunOptions(rounds=2)
    conduct = Conduct(algorithms=("my_algorithms:MINE",))
    with federation.listening() as listener:
        shards = [federation.shard(one, listener, conduct) for one in ("ann", "ben")]
        strangers = []

        def told(result):
            if not strangers:
                strangers.append(federation.shard("cat", listener))
                strangers[0].join(30)

        limits = replace(PATIENT, begin_with=9, min_clients=9)
        served = federation.serve(listener, chosen, options, limits, told=told)
        in_parallel(shards)
    assert "no algorithm 'mine'" in strangers[0].error.message
    assert served.result.rounds[1].clients == 9


@pytest.mark.parametrize(
    "name",
    [
        "fedcia",
        "da-pfl",
        "local-only",
    ],
)
def test_what_cannot_run_on_devices_is_refused_by_name(federation, name):
    with federation.listening() as listener, pytest.raises(JobError, match=f"{name} cannot run"):
        federation.serve(listener, recipe(name), RunOptions(rounds=1))
