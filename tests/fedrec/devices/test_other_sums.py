"""Sums of shares (GF-CF, FedCIA's model-free form) and of gradients (FCF): which can be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, without_times
from tests.fedrec.devices.inside import SHARDS, begun

from isthmus.errors import BadMessage, JobError, NotFinite, TrainError
from isthmus.fedrec import RunOptions, make_task, recipe, run
from isthmus.fedrec.algorithms._one_round import diagonal
from isthmus.fedrec.algorithms.gfcf import ONE, shares_sum, summed
from isthmus.fedrec.devices.one_round import _Counted
from isthmus.fedrec.devices.wire import Answer, Ask
from isthmus.fedrec.privacy import Defences

ITEMS = 15
FCF = recipe("fcf-als", None, {"dim": 4})
TOTAL = Answer(kind="total", number=1, last=True)


def task_of(clients=6, seed=3):
    return make_task(made_up(clients=clients, items=ITEMS, seed=seed), HONEST[0], 0)


def test_shares_add_up_over_parts_of_the_clients():
    task, half = task_of(), np.arange(3)
    parts = [shares_sum(task.part(some)).mine() for some in (half, half + 3)]
    assert np.array_equal(parts[0] + parts[1], shares_sum(task).mine())
    shares, counts = summed(task)
    wanted = np.zeros((ITEMS, ITEMS))
    for client in range(6):
        own = task.population.train.of(client)
        wanted[np.ix_(own, own)] += 1 / len(own)
    np.testing.assert_allclose(shares, wanted, atol=6 / ONE)
    np.testing.assert_allclose(shares.sum(axis=0), counts, atol=1e-7)


@given(seed=st.integers(0, 20), clients=st.integers(1, 8), at=st.integers(0, 134), bit=st.data())
def test_shares_that_no_clients_can_have_are_refused(seed, clients, at, bit):
    one = shares_sum(task_of(clients, seed))
    words = one.mine()
    assert one.possible(words, clients)
    assert not one.possible(words, 0)
    # What rounding leaves open is below a millionth of a share.
    changed = words.copy()
    changed[at] ^= np.uint64(1 << bit.draw(st.integers(14 if at < 120 else 0, 63)))
    assert not one.possible(changed, clients)


def test_shares_of_another_form_are_refused():
    one = shares_sum(task_of())
    words = one.mine()
    _Counted(one, 6).add(TOTAL, {"words": words})
    more = words.copy()
    more[diagonal(ITEMS)[0]] += np.uint64(1 << 32)
    for wrong in (words[:-1], words.view(np.int64), words.reshape(-1, 1), more, ~words):
        with pytest.raises(BadMessage):
            _Counted(one, 6).add(TOTAL, {"words": wrong})


def ended(**given):
    """What a run on devices comes to, and the crew and its carrier."""
    going, crew, carrier = begun(chosen=FCF, **given)
    result = going.go(lambda result: None)
    return replace(without_times(result), privacy={}), crew, carrier, going


def test_gradients_under_masks_give_the_simulated_run_bit_for_bit():
    found, crew, carrier, _ = ended(rounds=3)
    data = made_up(clients=14, items=30)
    assert found == without_times(run(data, FCF, HONEST, RunOptions(rounds=3)))
    assert [one.trained for one in crew.notes] == [14, 14, 14]
    for _, answer, arrays in carrier.sent:
        assert answer.kind == "judge" or set(arrays) == {"message"}
    totals = [answer.number for _, answer, _ in carrier.sent if answer.kind == "total"]
    assert totals == [number for number in (1, 2, 3) for _ in SHARDS]


def test_a_round_of_gradients_goes_on_without_a_shard_that_is_lost_in_its_sum():
    lose = {("eve", 2, "masked")}
    found, crew, _, _ = ended(rounds=3, lose=lose)
    assert [one.trained for one in crew.notes] == [14, 11, 14]
    assert "in the middle of the secure sum" in crew.notes[1].left_out["eve"]
    plain, crew, _, _ = ended(rounds=3, lose={("eve", 2, "gradients")}, defences=Defences())
    assert [one.trained for one in crew.notes] == [14, 11, 14]
    assert plain.outcomes == found.outcomes
    with pytest.raises(TrainError, match="only 11 of 14 clients"):
        ended(rounds=3, lose=lose, least=12)


def test_a_shard_gives_each_rounds_gradients_once():
    _, _, carrier, going = ended(rounds=2)
    worker, given = carrier.workers["ann"], going.method.taught()

    def asked(number, arrays, worker=worker):
        return list(worker.answer(Ask(kind="total", number=number, what="gradients"), arrays))

    for number in (1, 2):
        with pytest.raises(BadMessage, match="a second time"):
            asked(number, given)
    table = given["learned"]
    for wrong in (
        {}, {"learned": table[1:]}, {"learned": table.astype(np.float64)},
        {"learned": table * np.float32(np.nan)}, {"learned": table + np.float32(1e9)},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            asked(3, wrong)
    assert len(asked(3, given)) == 1


@given(seed=st.integers(0, 20), clients=st.integers(1, 8), confidence=st.floats(0, 50))
def test_gradients_of_clients_are_within_what_is_possible(seed, clients, confidence):
    chosen = recipe("fcf-als", None, {"dim": 3, "confidence": confidence, "deviation": 2.0})
    one = chosen.build(task_of(clients, seed)).sum_of("gradients")
    words = one.mine()
    assert one.possible(words, clients)
    assert not one.possible(words, 0)
    changed = words.copy()
    changed[seed] ^= np.uint64(1 << 62)
    assert not one.possible(changed, clients)
    for wrong in (words[1:], changed, words.view(np.int64)):
        with pytest.raises(BadMessage):
            _Counted(one, clients).add(TOTAL, {"words": wrong})


def test_a_gradient_beyond_the_words_ends_the_training():
    task = task_of()
    chosen = recipe("fcf-als", None, {"dim": 3, "ridge": 1e-24, "deviation": 1e-12})
    with pytest.raises(NotFinite, match="beyond"):
        chosen.build(task).round(1, lambda clients, score: None)


def test_noise_and_guards_are_refused_for_sums_of_other_numbers():
    for name in ("fcf-als", "gfcf", "fedcia-model-free"):
        for asked in (Defences(clip=1.0), Defences(secure_sum=True, clip=1.0, noise=1.0)):
            with pytest.raises(JobError, match="does not send item rows"):
                begun(chosen=recipe(name), defences=asked)


def test_a_server_of_gradients_that_was_killed_goes_on_to_the_same_end(federation, tmp_path):
    options = RunOptions(rounds=4, folder=tmp_path, checkpoint_every=1)
    options = replace(options, defences=Defences(secure_sum=True))
    served = federation.killed_and_resumed(FCF, options)
    wanted = federation.simulated(FCF, RunOptions(rounds=4))
    assert replace(without_times(served.result), privacy={}) == without_times(wanted)
    assert [one.number for one in served.rounds] == [3, 4]
