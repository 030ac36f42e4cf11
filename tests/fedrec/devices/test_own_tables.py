"""Own tables on devices: who is late, lost or killed keeps its table; messages that cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.devices.conftest import QUICK, gate_in, until, without_times
from tests.fedrec.devices.inside import begun

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec import RunOptions, recipe
from isthmus.fedrec.devices import Limits
from isthmus.fedrec.devices.mixing import Taken, _Tables
from isthmus.fedrec.devices.wire import Answer, Ask
from isthmus.fedrec.privacy import Defences

FEDCA = recipe("fedca", "fedncf", QUICK | {"mixed": 0.6})
FEDEM = recipe("fedem", None, {"dim": 4, "epochs": 2, "mixed": 0.6})
GRAPH = recipe("pfedgraph", "fcf", QUICK | {"mixed": 0.6, "closeness": 5.0})
NONE = Defences()


def plain(result):
    """Without times, and without bytes up, which are counted otherwise here."""
    result = without_times(result)
    return replace(result, rounds=[replace(one, up=0) for one in result.rounds])


@pytest.mark.parametrize("chosen", [FEDCA, FEDEM, GRAPH])
def test_a_server_that_was_killed_goes_on_to_the_same_end(federation, tmp_path, chosen):
    options = RunOptions(rounds=5, folder=tmp_path, checkpoint_every=2)
    served = federation.killed_and_resumed(chosen, options)
    assert plain(served.result) == plain(federation.simulated(chosen, options))
    assert [one.number for one in served.rounds] == [3, 4, 5]


def test_a_killed_shard_goes_on_with_its_tables_when_it_is_started_again(federation, tmp_path):
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
            listener, FEDCA, RunOptions(rounds=4, checkpoint_every=2), told=told,
            limits=Limits(round=60, wait=60, reconnect=0.3), gate=gate_in(gates),
        )  # fmt: skip
        for one in shards:
            one.join(30)
        _, words = children[1].communicate(timeout=30)
    assert children[1].returncode == 0
    assert "5 clients take part from round 2" in words
    assert [one.trained for one in served.rounds] == [14, 14, 9, 14]
    assert served.refused == {}


def test_who_is_lost_before_its_mixtures_come_keeps_what_it_trained():
    for lose, told in ((("eve", 1, "mix"), "did not take"), (("eve", 1, "train"), "is gone")):
        going, crew, carrier = begun(chosen=FEDCA, defences=NONE, rounds=2, lose={lose})
        going.go(lambda result: None)
        assert told in crew.notes[0].left_out["eve"]
        assert [one.trained for one in crew.notes] == ([14, 14] if lose[2] == "mix" else [11, 14])
        assert not crew.notes[1].left_out
        eve = carrier.workers["eve"].method
        assert np.abs(eve.items - eve.model.initial.items).max() > 0


def test_tables_of_clients_that_are_not_mixed_stay_where_they_are():
    going, _, carrier = begun(chosen=FEDCA, defences=NONE, rounds=2)
    result = going.go(lambda result: None)
    up = [arrays for _, answer, arrays in carrier.sent if answer.kind == "train"]
    tables = [arrays for arrays in up if arrays]
    assert all(set(one) == {"clients", "items", "network", "weight", "more"} for one in tables)
    for number in (1, 2):
        assert len(going.method.chosen(number)) == 8
    assert sum(len(one["clients"]) for one in tables) == 16
    sizes = sum(sum(v.nbytes for k, v in one.items() if k != "clients") for one in tables)
    assert sum(one.up for one in result.rounds) == sizes
    assert len(going.method.items) == 0
    assert going.state() == {}


def test_guards_are_put_on_what_is_sent(federation):
    options = RunOptions(rounds=2, defences=Defences(clip=0.5))
    served = federation.whole(FEDCA, options)
    assert plain(served.result) == plain(federation.simulated(FEDCA, options))
    bare = federation.simulated(FEDCA, replace(options, defences=NONE))
    assert bare.rounds[1].loss != served.result.rounds[1].loss


def test_noise_is_refused():
    with pytest.raises(JobError, match="tables of their own"):
        begun(chosen=FEDCA, defences=Defences(clip=1.0, noise=1.0))


def asked_first(going, carrier, kind):
    """The first requests of this kind, which are not sent."""
    found = {}

    class Stop(Exception):
        pass

    real = carrier.ask

    def ask(requests):
        if all(one.ask.kind == kind for one in requests.values()):
            found.update(requests)
            raise Stop
        return real(requests)

    carrier.ask = ask
    with pytest.raises(Stop):
        going.method.round(1, lambda clients, score: None)
    carrier.ask = real
    return found


def test_tables_that_cannot_be_are_refused():
    going, _, carrier = begun(chosen=FEDCA, defences=NONE)
    request = asked_first(going, carrier, "train")["ann"]
    worker = carrier.workers["ann"]
    (answer, arrays), (last, nothing) = list(worker.answer(request.ask, request.arrays))

    def collector():
        one = request.collector
        return _Tables(one.method, one.asked, one.mixed)

    collector().add(answer, arrays)
    one = arrays["clients"]
    for wrong in (
        {"clients": one[::-1].copy()}, {"clients": one + 1}, {"clients": one[:0]},
        {"clients": one[:-1]}, {"clients": np.append(one, 12)},
        {"items": arrays["items"][:, :-1]}, {"items": arrays["items"] * np.float32(np.nan)},
        {"items": arrays["items"].astype(np.float64)}, {"network": arrays["network"][:, :-1]},
        {"weight": arrays["weight"] - 100}, {"weight": arrays["weight"] * np.nan},
        {"weight": arrays["weight"] + 100}, {"more": arrays["more"][:, :-1]},
        {"more": arrays["more"] * np.inf}, {"more": arrays["more"] + 1e30},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            collector().add(answer, arrays | wrong)
    for name in arrays:
        with pytest.raises(BadMessage, match="missing"):
            collector().add(answer, {k: v for k, v in arrays.items() if k != name})
    again = collector()
    again.add(answer, arrays)
    with pytest.raises(BadMessage, match="out of order"):
        again.add(answer, arrays)
    with pytest.raises(BadMessage, match="are missing"):
        collector().add(last, nothing)
    with pytest.raises(BadMessage, match="losses"):
        again.add(last.model_copy(update={"loss": 1 << 60}), nothing)
    with pytest.raises(BadMessage, match="it answered"):
        again.add(Answer(kind="judge", number=1, last=True), {})
    with pytest.raises(BadMessage, match="took what it was given"):
        Taken().add(Answer(kind="mix", number=1, last=True), arrays)


def test_a_shard_takes_no_mixtures_that_cannot_be():
    going, _, carrier = begun(chosen=GRAPH, defences=NONE)
    request = asked_first(going, carrier, "mix")["ann"]
    worker, fine = carrier.workers["ann"], dict(request.arrays)
    assert fine["more"].shape[1] == 1

    def take(arrays, number=1):
        # Each try is for a round that was just trained.
        worker._tables._mixed = 1, np.flatnonzero(np.isin(worker.part.clients, fine["clients"]))
        return list(worker.answer(Ask(kind="mix", number=number), arrays))

    items = worker.method.items.copy()
    others = np.setdiff1d(worker.part.clients, fine["clients"])
    assert len(others)
    for wrong in (
        {"clients": fine["clients"] + 1}, {"clients": np.resize(others, 1)},
        {"items": fine["items"][:, 1:]}, {"items": fine["items"] * np.float32(np.inf)},
        {"network": np.zeros((1, 3), np.float32)}, {"more": -1 - fine["more"]},
        {"more": fine["more"][:, :0]}, {"more": fine["more"] * np.float32(np.nan)},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            take(fine | wrong)
    with pytest.raises(BadMessage, match="was not trained"):
        take(fine, number=2)
    assert np.array_equal(worker.method.items, items)
    take(fine)
    assert not np.array_equal(worker.method.items, items)
    with pytest.raises(BadMessage, match="was not trained"):
        list(worker.answer(Ask(kind="mix", number=1), fine))


def test_a_shard_trains_nobody_elses_clients_and_mixes_no_others():
    _, _, carrier = begun(chosen=FEDCA, defences=NONE)
    worker = carrier.workers["ann"]
    own = worker.part.clients

    def train(**arrays):
        return list(worker.answer(Ask(kind="train", number=1), arrays))

    for arrays in (
        {"clients": own + 1}, {"clients": own[:2], "mixed": own[1:3]}, {"mixed": own},
        {"clients": own, "mixed": own[::-1].copy()},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            train(**arrays)
    assert len(train(clients=own)) == 1
    _, _, other = begun(defences=NONE)
    with pytest.raises(BadMessage, match="none of their own"):
        list(other.workers["ann"].answer(Ask(kind="mix", number=1), {}))
