"""FedCA from noised sketches on devices: sums of tables by group, sketches given once."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, QUICK, without_times
from tests.fedrec.devices.inside import MASKED, begun

from isthmus.cli.fedrec.served import show_served
from isthmus.cli.options import Format
from isthmus.errors import BadMessage, JobError, TrainError
from isthmus.fedrec import RunOptions, recipe, run
from isthmus.fedrec.devices.grouping import _Loss, _Sketches, group_sum
from isthmus.fedrec.devices.serving import Served
from isthmus.fedrec.devices.wire import LARGEST, Answer, Ask
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.secure_sum import STEP

FEW = QUICK | {"least": 3, "groups": 3}
SKETCHED = recipe("fedca-sketched", "fcf", FEW)
PLAIN = Defences()


def plain(result):
    """Without times, and without bytes up, which are counted otherwise here."""
    rounds = [replace(one, up=0) for one in without_times(result).rounds]
    return replace(result, rounds=rounds, privacy={})


def ended(chosen=SKETCHED, **given):
    going, crew, carrier = begun(chosen=chosen, **given)
    return plain(going.go(lambda result: None)), crew, carrier, going


@pytest.mark.parametrize("backbone", ["fcf", "fedncf", "pfedrec"])
@pytest.mark.parametrize("defences", [PLAIN, MASKED])
def test_the_result_is_that_of_the_simulated_run_bit_for_bit(backbone, defences):
    chosen = recipe("fedca-sketched", backbone, FEW)
    found, crew, carrier, going = ended(chosen, defences=defences, rounds=3)
    data = made_up(clients=14, items=30)
    assert found == plain(run(data, chosen, HONEST, RunOptions(rounds=3)))
    assert len(going.method.directions) > 1
    assert [one.trained for one in crew.notes] == [14, 14, 14]
    kinds = {answer.kind: set(arrays) for _, answer, arrays in carrier.sent}
    total = {"words"} if defences is PLAIN else {"message"}
    assert kinds == kinds | {"train": set(), "sketch": {"sketches"}, "mix": set(), "total": total}
    assert sum(answer.kind == "sketch" for _, answer, _ in carrier.sent) == 5
    assert going.state().keys() == {"of", "directions"}


def test_it_runs_over_links_and_goes_on_when_the_server_was_killed(federation, tmp_path):
    options = RunOptions(rounds=4, folder=tmp_path, checkpoint_every=2, defences=MASKED)
    served = federation.killed_and_resumed(SKETCHED, options)
    wanted = federation.simulated(SKETCHED, RunOptions(rounds=4))
    assert plain(served.result) == plain(wanted)
    assert [one.number for one in served.rounds] == [3, 4]
    assert served.refused == {}


@pytest.mark.parametrize(
    ("lost", "trained", "told"),
    [
        ("train", 11, "is gone"),
        ("sketch", 11, "is gone"),
        ("groups", 11, "is gone"),
        ("masked", 11, "in the middle of the secure sum"),
        ("mix", 14, "did not take the groups' means"),
    ],
)
def test_a_shard_that_is_lost_keeps_its_tables_and_takes_part_again(lost, trained, told):
    _, crew, carrier, going = ended(defences=MASKED, rounds=2, lose={("eve", 1, lost)})
    assert told in crew.notes[0].left_out["eve"]
    assert [one.trained for one in crew.notes] == [trained, 14]
    assert not crew.notes[1].left_out
    # Who had no group in the first round has joined one since.
    assert (going.method.of >= 0).all()
    eve = carrier.workers["eve"].method
    assert np.abs(eve.items - eve.model.initial.items).max() > 0


def test_what_the_server_saw_is_told(capsys):
    for chosen, told in (
        (SKETCHED, "saw each client's noised sketch and each shard's sums by group (no --secure"),
        (recipe("fcf-als", None, {"dim": 4}), "saw each shard's sum (no --secure-sum)"),
    ):
        result = begun(chosen=chosen, defences=PLAIN, rounds=1)[0].go(lambda result: None)
        show_served(Served(result, [], {}, {}), Format.text)
        assert told in capsys.readouterr().out


def test_too_few_end_the_run():
    with pytest.raises(TrainError, match="only 11 of 14 clients"):
        ended(defences=PLAIN, lose={("eve", 1, "sketch")}, least=12)
    with pytest.raises(TrainError, match="only 2 shards took part"):
        ended(defences=MASKED, names=("ann", "eve"))
    everyone = ("ann", "ben", "cat", "dan", "eve")
    for lost in ("train", "sketch", "groups"):
        with pytest.raises(TrainError, match="only 0 of 14 clients"):
            ended(defences=PLAIN, lose={(name, 1, lost) for name in everyone})


def test_groups_that_are_too_few_for_a_round_join_their_nearest():
    _, _, _, going = ended(defences=PLAIN, rounds=1)
    method = going.method
    assert np.bincount(method.of).min() >= 3
    lone = int(np.flatnonzero(method.of == 1)[0])
    some = np.sort(np.append(np.flatnonzero(method.of == 0), lone))
    of, directions = method.gathered(some)
    assert np.array_equal(directions, method.directions[:1])
    assert not of.any()
    assert len(of) == len(some)


def test_a_sketch_that_is_asked_for_again_is_the_same_and_no_second_draw():
    _, _, carrier, _ = ended(defences=PLAIN, rounds=1)
    worker = carrier.workers["ann"]
    sent = [a["sketches"] for name, x, a in carrier.sent if (name, x.kind) == ("ann", "sketch")]
    own = {"clients": worker.part.clients}

    def answered(kind, number, arrays):
        return list(worker.answer(Ask(kind=kind, number=number), arrays))[-1][1]

    with pytest.raises(BadMessage, match="was not trained"):
        answered("sketch", 1, own)
    answered("train", 2, own)
    assert np.array_equal(answered("sketch", 2, own)["sketches"], sent[0])
    clear = worker.method.sketches
    assert np.abs(clear - sent[0]).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(clear, axis=1), 1)


def test_guards_are_put_on_what_is_added_up_and_noise_is_refused():
    clipped = Defences(secure_sum=True, clip=0.05)
    found, _, _, _ = ended(defences=clipped, rounds=2)
    data = made_up(clients=14, items=30)
    options = RunOptions(rounds=2, defences=Defences(clip=0.05))
    assert found == plain(run(data, SKETCHED, HONEST, options))
    assert found != plain(run(data, SKETCHED, HONEST, RunOptions(rounds=2)))
    with pytest.raises(JobError, match="tables of their own"):
        begun(chosen=SKETCHED, defences=Defences(secure_sum=True, clip=1.0, noise=1.0))


def test_a_shard_answers_nothing_that_cannot_be():
    going, _, carrier = begun(chosen=SKETCHED, defences=MASKED)
    requests = {}
    real = carrier.ask

    def ask(asked):
        requests.setdefault(next(iter(asked.values())).ask.what or "", dict(asked))
        requests[next(iter(asked.values())).ask.kind] = dict(asked)
        return real(asked)

    carrier.ask = ask
    going.method.round(1, lambda clients, score: None)
    worker = carrier.workers["ann"]
    groups, mix = (dict(requests[one]["ann"].arrays) for one in ("groups", "mix"))
    own = worker.part.clients

    def answered(kind, arrays, number=2, what=""):
        return list(worker.answer(Ask(kind=kind, number=number, what=what), arrays))

    with pytest.raises(BadMessage, match="was not trained"):
        answered("total", groups, 1, "groups")
    for wrong in ({}, {"clients": own[1:]}, {"clients": own + 1}):
        with pytest.raises(BadMessage):
            answered("train", wrong)
    answered("train", {"clients": own})
    many = np.ones((4, 4))
    for wrong in (
        {"clients": own[1:]}, {"of": groups["of"] - 5}, {"of": groups["of"] + 5},
        {"of": groups["of"][1:]}, {"directions": groups["directions"] * np.nan},
        {"directions": groups["directions"][:0]}, {"directions": many},
        {"directions": groups["directions"][:, 1:]}, {"directions": groups["directions"] + 2},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            answered("total", groups | wrong, what="groups")
    with pytest.raises(BadMessage, match="not known here"):
        answered("total", groups, what="gram")
    items = worker.method.items.copy()
    with pytest.raises(BadMessage, match="not those of the round"):
        answered("mix", mix)
    answered("total", groups, what="groups")
    with pytest.raises(BadMessage, match="a second time"):
        answered("total", groups, what="groups")
    for wrong in (
        {"means": mix["means"][1:]}, {"means": mix["means"] * np.float32(np.inf)},
        {"means": mix["means"].astype(np.float64)}, {"sizes": mix["sizes"] * 0},
        {"sizes": mix["sizes"] * np.nan}, {"sizes": mix["sizes"] + 99},
        {"directions": mix["directions"] + 0.1}, {"directions": mix["directions"][:0]},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            answered("mix", mix | wrong)
    assert np.array_equal(worker.method.items, items)
    answered("mix", mix)
    assert not np.array_equal(worker.method.items, items)
    _, _, others = begun(defences=MASKED)
    with pytest.raises(BadMessage, match="there are none"):
        list(others.workers["ann"].answer(Ask(kind="sketch", number=1), {}))


def test_a_server_takes_nothing_that_cannot_be():
    going, _, _ = begun(chosen=SKETCHED, defences=PLAIN)
    clients = np.arange(3)
    fine = {"sketches": np.ones((3, 4))}
    answer = Answer(kind="sketch", number=1, last=True)
    _Sketches(going.method, clients).add(answer, fine)
    for wrong in (
        np.ones((3, 5)), np.ones((2, 4)), np.ones((3, 4), np.float32), np.full((3, 4), np.nan),
        np.full((3, 4), 1e6),
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            _Sketches(going.method, clients).add(answer, {"sketches": wrong})
    for said in (
        answer.model_copy(update={"kind": "train"}),
        answer.model_copy(update={"last": 0}),
    ):
        with pytest.raises(BadMessage, match="it answered"):
            _Sketches(going.method, clients).add(said, fine)
    trained = Answer(kind="train", number=1, last=True, loss=5)
    _Loss(1).add(trained, {})
    for said, arrays in (
        (trained, {"rows": clients}), (answer, {}), (trained.model_copy(update={"last": 0}), {}),
        (trained.model_copy(update={"loss": 1 << 60}), {}),
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            _Loss(1).add(said, arrays)


@cache
def server_method():
    return begun(chosen=SKETCHED, defences=PLAIN)[0].method


@given(seed=st.integers(0, 99), clients=st.integers(1, 6), bad=st.integers(0, 2))
def test_sums_by_group_that_no_clients_can_have_are_refused(seed, clients, bad):
    rng = np.random.default_rng(seed)
    method = server_method()
    one, size = group_sum(method, 3), method.size
    of = rng.integers(0, 3, clients)
    tables = rng.normal(0, 10, (clients, size))
    sums = np.stack([tables[of == group].sum(axis=0) for group in range(3)])
    counts = np.bincount(of, minlength=3).astype(np.uint64)
    words = np.concatenate([np.rint(sums / STEP).astype(np.int64).view(np.uint64).ravel(), counts])
    assert one.possible(words, clients)
    assert not one.possible(words, clients + 1)
    wrong = words.copy()
    wrong[bad * size] = np.uint64(int((counts[bad] + 1) * LARGEST / STEP))
    assert not one.possible(wrong, clients)
    wrong = words.copy()
    wrong[3 * size + bad] += np.uint64(1)
    assert not one.possible(wrong, clients)
