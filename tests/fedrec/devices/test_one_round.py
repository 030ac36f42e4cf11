"""Methods of one round on devices: the sums under masks are those of the simulation, word by word.

Shards that are lost, sums asked for twice, words and weights that cannot be.
"""

from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, without_times
from tests.fedrec.devices.inside import MASKED, SHARDS, begun

from isthmus.errors import BadMessage, JobError, TrainError
from isthmus.fedrec import RunOptions, make_task, recipe, run
from isthmus.fedrec.algorithms import _one_round, _pairs
from isthmus.fedrec.algorithms._pair_sums import pairs_sum, sketch_sum
from isthmus.fedrec.algorithms.ordered_pairs import BLENDS, RIDGES, Settings, pair_sums
from isthmus.fedrec.devices import Conduct, Gate, Limits
from isthmus.fedrec.devices.crew import Crew
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.one_round import _Counted
from isthmus.fedrec.devices.serving import device_run
from isthmus.fedrec.devices.wire import Answer, Ask
from isthmus.fedrec.devices.worker import Worker
from isthmus.fedrec.privacy import Defences

PAIRS = recipe("ordered-pairs")
SKETCH = recipe("ordered-pairs", None, {"whole_items": 10, "sketch_words": 1 << 14})
TOTAL = Answer(kind="total", number=1, last=True)
CHOICES = 3
"""Two ridges and the blend."""
COUNTS = {f"{one.name}.{part}" for one in HONEST for part in ("valid", "test")}


def simulated(chosen):
    data = made_up(clients=14, items=30)
    return without_times(run(data, chosen, HONEST, RunOptions()))


def served(**given):
    """The result on devices as it compares with a simulated one, and the crew's notes."""
    going, crew, carrier = begun(**given)
    result = going.go(lambda result: None)
    return replace(without_times(result), privacy={}), crew.notes, carrier, going


@pytest.mark.parametrize(
    ("chosen", "sums"),
    [
        (PAIRS, 1 + CHOICES),
        (SKETCH, 1 + CHOICES),
        (recipe("ordered-pairs", None, {"judges": 9}), 1 + CHOICES),
        (recipe("ordered-pairs", None, {"clip": 3.0}), 1),
        (recipe("ease"), 1),
        (recipe("item-knn"), 1),
        (recipe("popularity"), 1),
        (recipe("gfcf", None, {"components": 5}), 1),
        (recipe("fedcia-model-free"), 1),
    ],
)
def test_under_masks_the_result_is_that_of_the_simulated_run_bit_for_bit(chosen, sums):
    found, notes, carrier, _ = served(chosen=chosen, rounds=1)
    assert found == simulated(chosen)
    assert [one.trained for one in notes] == [14]
    assert all(not one.left_out and not one.absent for one in notes)
    keys = [name for name, answer, arrays in carrier.sent if answer.kind == "total"]
    assert len(keys) == sums * len(SHARDS)


def test_nothing_but_masked_words_and_counts_of_ranks_goes_up():
    _, _, carrier, _ = served(chosen=PAIRS, rounds=1)
    for _, answer, arrays in carrier.sent:
        allowed = {"total": {"message"}, "sum": {"message"}, "try": set(), "judge": COUNTS}
        assert set(arrays) <= allowed[answer.kind]
    words = [
        arrays["message"] for _, answer, arrays in carrier.sent
        if answer.kind == "sum" and len(arrays["message"]) > 5000
    ]  # fmt: skip
    # C and G in 32 bits each; and nobody's zeros show.
    assert {len(one) for one in words} == {1 + 8 * -(-(30 * 30 + 30 * 31 // 2) // 2)}
    for one in words:
        assert (np.frombuffer(one[1:].tobytes(), np.uint32) == 0).mean() < 0.01


@pytest.mark.parametrize(
    ("step", "in_the_sum"),
    [("pairs", False), ("share", False), ("masked", False), ("answer", True)],
)
def test_a_shard_that_is_lost_in_the_middle_leaves_the_sum_of_the_others(step, in_the_sum):
    going, crew, carrier = begun(chosen=PAIRS, rounds=1, lose={("eve", 1, step)})
    found = {}
    real = crew.words

    def words(one):
        found["words"] = real(one)
        # What comes after has everybody again.
        carrier.lose = set()
        return found["words"]

    crew.words = words
    going.go(lambda result: None)
    others = [one for one in SHARDS if in_the_sum or one != "eve"]
    parts = [
        carrier.workers[name].method.sum_of("pairs").mine() for name in others
    ]  # fmt: skip
    assert np.array_equal(found["words"], sum(parts))
    assert crew.notes[0].trained == (14 if in_the_sum else 11)
    assert "eve" in crew.notes[0].left_out


def test_candidates_are_judged_by_the_same_clients_though_a_shard_is_lost():
    for lose in ({("eve", 1, "2")}, {("eve", 1, "gains")}):
        _, notes, carrier, going = served(chosen=PAIRS, rounds=1, lose=lose)
        assert notes[0].trained == 14
        assert "did not choose" in notes[0].left_out["eve"]
        tries = [(name, answer) for name, answer, _ in carrier.sent if answer.kind == "try"]
        # Eve is lost in each choice.
        assert sum(name == "ann" for name, _ in tries) == len(2 * RIDGES + BLENDS)
        early = lose == {("eve", 1, "2")}
        assert sum(name == "eve" for name, _ in tries) == (
            2 * CHOICES if early else len(2 * RIDGES + BLENDS)
        )
        assert going.method.chosen[:2].all()


def test_too_many_lost_end_the_run_without_a_sum():
    lose = {(name, 1, "masked") for name in ("cat", "dan", "eve")}
    with pytest.raises(TrainError, match=r"cannot be had: only 2 of 5.*eve is gone"):
        served(chosen=PAIRS, rounds=1, lose=lose)
    with pytest.raises(TrainError, match="only 2 shards took part"):
        served(chosen=recipe("ease"), rounds=1, names=SHARDS[:2])
    with pytest.raises(TrainError, match="no shard judged"):
        served(chosen=PAIRS, rounds=1, lose={(name, 1, "0") for name in SHARDS})
    with pytest.raises(TrainError, match="only 11 of 14 clients"):
        served(chosen=PAIRS, rounds=1, lose={("eve", 1, "masked")}, least=12)


def test_a_sum_is_given_once_however_many_rounds_there_are():
    _, notes, carrier, _ = served(chosen=recipe("ease"), rounds=3)
    assert [one.trained for one in notes] == [14, 14, 14]
    assert sum(answer.kind == "total" for _, answer, _ in carrier.sent) == len(SHARDS)
    with pytest.raises(BadMessage, match="a second time"):
        list(carrier.workers["ann"].answer(Ask(kind="total", number=4, what="gram"), {}))


def test_a_shard_gives_no_sum_that_the_algorithm_does_not_need():
    _, _, carrier = begun(chosen=recipe("ease"), rounds=1)
    for what in ("pairs", "popularity", "nonsense", "gains"):
        with pytest.raises(BadMessage, match=r"not known here|nobody has judged"):
            list(carrier.workers["ann"].answer(Ask(kind="total", number=1, what=what), {}))
    with pytest.raises(BadMessage, match="there are none"):
        list(carrier.workers["ann"].answer(Ask(kind="try", number=1, what="0"), {}))
    _, _, carrier = begun(rounds=1)
    with pytest.raises(BadMessage, match="not known here"):
        list(carrier.workers["ann"].answer(Ask(kind="total", number=1, what="gram"), {}))


def candidate(**changes):
    state = {
        "chosen": np.array([300.0, 300.0, 0.4, 0.0]),
        "popular": np.ones(30, np.float32),
        "s": np.zeros((30, 30), np.float32),
        "b": np.zeros((30, 30), np.float32),
        "broad": np.zeros((0, 0), np.float32),
        "clients": np.array([0, 2]),
    }
    return {name: one for name, one in (state | changes).items() if one is not None}


def test_a_shard_scores_with_nothing_that_cannot_be():
    _, _, carrier = begun(chosen=PAIRS, rounds=1)
    worker = carrier.workers["ann"]

    def tried(arrays, what="0", worker=worker):
        return list(worker.answer(Ask(kind="try", number=1, what=what), arrays))

    assert tried(candidate())[0][1] == {}
    with pytest.raises(BadMessage, match="out of turn"):
        tried(candidate(), "2")
    full = np.full((30, 30), np.nan, np.float32)
    for wrong in (
        {"s": full}, {"b": full}, {"s": None}, {"s": np.zeros((0, 0), np.float32)},
        {"b": np.zeros((30, 29), np.float32)}, {"popular": -np.ones(30, np.float32)},
        {"popular": np.ones(31, np.float32)}, {"broad": np.zeros((29, 2), np.float32)},
        {"chosen": np.array([300.0, 300.0, 1.4, 0.0])}, {"chosen": np.ones(4) * np.inf},
        {"chosen": np.array([300.0, 300.0, 0.4, 1.0])}, {"chosen": np.ones(3)},
        {"clients": np.array([0, 1])}, {"clients": None},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            tried(candidate(**wrong))
    _, _, carrier = begun(chosen=SKETCH, rounds=1)
    sparse = {
        "s": None, "b": None, "chosen": np.array([300.0, 300.0, 0.4, 1.0]),
        "indptr": np.append(np.zeros(30, np.int64), 2), "items": np.array([0, 29], np.int32),
        "values": np.ones(2, np.float32), "ridges": np.array([300.0, 300.0]),
    }  # fmt: skip
    sketched = carrier.workers["ann"]
    assert tried(candidate(**sparse), "0", sketched)[0][1] == {}
    for wrong in (
        {"items": np.array([0, 30], np.int32)}, {"items": np.array([-1, 3], np.int32)},
        {"indptr": np.append(np.zeros(30, np.int64), 3)},
        {"indptr": np.append(np.ones(30, np.int64), 2)},
        {"indptr": np.append(np.zeros(29, np.int64), 2)},
        {"indptr": np.array([0, 2, *[0] * 28, 2])},
        {"values": np.ones(3, np.float32)}, {"ridges": np.array([np.nan, 1.0])},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            tried(candidate(**sparse | wrong), "0", sketched)


def task_of(clients=6, items=15):
    return make_task(made_up(clients=clients, items=items), HONEST[0], 0)


def changed(words, at, value):
    numbers = words.view(np.uint32).copy()
    numbers[at] = value
    return numbers.view(np.uint64)


def test_sums_that_no_clients_can_have_are_refused():
    task = task_of()
    one = pairs_sum(task, Settings())
    words, unit, corner = one.mine(), 1 << _pairs.bits_for(6), 15 * 15
    assert one.possible(words, 6)
    assert not one.possible(words, 0)
    own = _one_round.diagonal(15)
    both = words.view(np.uint32)[corner:]
    seldom = int(np.argmin(both[own]))
    for at, value in (
        (corner + own[3], 7 * unit),  # more clients than there are
        (corner + own[seldom] + 1 if seldom < 14 else corner + 14, 6 * unit + 1),
        (0, 1),  # before itself
        (1, int(both[1]) + 1),  # more often in this order than together
        (15, int(both[1]) + 1),
        (1, 0xFFFFFFFF),
    ):
        assert not one.possible(changed(words, at, value), 6), at
    collector = _Counted(one, 6)
    collector.add(TOTAL, {"words": words})
    for wrong in (words[:-1], words.view(np.int64), changed(words, 0, 5), words.reshape(-1, 1)):
        with pytest.raises(BadMessage):
            _Counted(one, 6).add(TOTAL, {"words": wrong})
    for answer in (
        TOTAL.model_copy(update={"kind": "train"}),
        TOTAL.model_copy(update={"last": 0}),
    ):
        with pytest.raises(BadMessage, match="it answered"):
            collector.add(answer, {"words": words})
    sketch = sketch_sum(task, Settings(sketch_words=1 << 10))
    assert sketch.possible(sketch.mine(), 6)
    assert not sketch.possible(changed(sketch.mine(), 1 << 10, 7), 6)
    gram = _one_round.gram_sum(task)
    assert gram.possible(gram.mine(), 6)
    assert not gram.possible(changed(gram.mine(), 1, 6), 6)


def test_words_hold_two_numbers_and_sums_do_not_carry_over():
    task, half = task_of(), np.arange(3)
    parts = [pairs_sum(task.part(some), Settings()) for some in (half, half + 3)]
    total = parts[0].mine() + parts[1].mine()
    assert np.array_equal(total, pairs_sum(task, Settings()).mine())
    ordered, both = pair_sums(task, Settings())
    unit = 1 << _pairs.bits_for(6)
    found = total.view(np.uint32) / unit
    assert np.array_equal(found[: 15 * 15].reshape(15, 15), ordered)
    assert np.array_equal(
        _one_round.whole(total.view(np.uint32)[225:345], 15, np.uint32) / unit, both
    )


def with_answers_of_eve(change):
    """A run in which what eve sends is changed on its way."""
    going, crew, carrier = begun(chosen=PAIRS, rounds=1)
    worker = carrier.workers["eve"]
    real = worker.answer

    def other(ask, arrays):
        for answer, found in real(ask, arrays):
            yield answer, change(worker, ask, found)

    worker.answer = other
    return going, crew


def test_wrong_words_under_masks_are_seen_in_the_sum():
    def wrong(worker, ask, found):
        message = found.get("message")
        if ask.what != "masked":
            return found
        return {"message": np.append(message[:1], message[1:] ^ np.uint8(0x55))}

    going, _ = with_answers_of_eve(wrong)
    with pytest.raises(TrainError, match="a shard sent wrong words"):
        going.go(lambda result: None)


def test_plain_numbers_where_masks_were_asked_are_refused():
    def plain(worker, ask, found):
        pairs = ask.kind == "total"
        return {"words": worker.method.sum_of("pairs").mine()} if pairs else found

    def figures(worker, ask, found):
        return {"units": np.array([5])} if ask.kind == "try" else found

    for change in (plain, figures):
        going, _ = with_answers_of_eve(change)
        # This carrier lets through what another hands on as a refusal.
        with pytest.raises(BadMessage, match="under masks was asked"):
            going.go(lambda result: None)


def test_too_few_words_are_a_loss():
    def short(worker, ask, found):
        return {"message": found["message"][:-8]} if ask.what == "masked" else found

    going, crew = with_answers_of_eve(short)
    going.go(lambda result: None)
    assert "another form or length" in crew.notes[0].left_out["eve"]
    assert crew.notes[0].trained == 11


def test_noise_on_sums_of_ordered_pairs_is_drawn_by_the_shards():
    sets = {"clip": 4.0, "noise": 2.0}
    going, crew, carrier = begun(chosen=recipe("ordered-pairs", None, sets), rounds=1)
    found = {}
    real = crew.words

    def words(one):
        found["words"] = real(one)
        return found["words"]

    crew.words = words
    result = going.go(lambda result: None)
    assert result.rounds[0].clients == 14
    quiet = sum(
        pairs_sum(one.method.task, one.method.settings).mine() for one in carrier.workers.values()
    )
    unit = 1 << _pairs.bits_for(14)
    noise = (found["words"] - quiet).view(np.int64) / unit
    assert len(noise) == 30 * 30 + 30 * 31 // 2
    # Of five shards one may be lost and one a traitor: three must be enough, so five are more.
    assert noise.std() == pytest.approx(8 * np.sqrt(5 / 3), rel=0.1)
    assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(len(noise))
    # Nothing is chosen, as that would not be covered.
    assert not any(answer.kind == "try" for _, answer, _ in carrier.sent)
    assert going.method.chosen.tolist() == [300, 300, 0.4, 0]


def test_noise_without_masks_is_refused_on_both_sides():
    noisy = recipe("ordered-pairs", None, {"clip": 4.0, "noise": 2.0})
    with pytest.raises(JobError, match="without a secure sum"):
        begun(chosen=noisy, defences=Defences())
    _, _, carrier = begun(chosen=noisy)
    worker = carrier.workers["ann"]
    order = worker.order.model_copy(update={"defences": {}})
    with pytest.raises(JobError, match="without a secure sum"):
        Worker(worker.part, order, Conduct(), Keeper(None))


def test_the_census_says_whether_there_is_an_order(five):
    plan = five.plan(PAIRS, RunOptions())
    silent = replace(plan, census=plan.census.model_copy(update={"timed": None}))
    with pytest.raises(JobError, match="does not say whether interactions have times"):
        device_run(silent, Crew(None, silent.census, HONEST))
    part = five.parts["ann"]
    _, _, carrier = begun(chosen=PAIRS, rounds=1)
    order = carrier.workers["ann"].order
    with pytest.raises(JobError, match="has no times, unlike what the census says"):
        Worker(replace(part, turn=None), order, Conduct(), Keeper(None))


def test_a_process_killed_in_the_middle_of_the_sum_of_pairs_does_not_end_the_run(five, tmp_path):
    """Real processes over TLS; eve is killed when she is to send her masked words."""

    class Killing(Gate):
        def ask(self, requests):
            one = requests.get("eve")
            if one is not None and one.ask.what == "masked":
                child.kill()
                child.communicate()
            return super().ask(requests)

    with five.listening() as listener:
        child = five.process("eve", listener, tmp_path, "--sums-only")
        shards = [five.shard(name, listener) for name in SHARDS[:-1]]
        limits = Limits(round=60, wait=60, reconnect=0.3)
        found = five.serve(listener, PAIRS, RunOptions(defences=MASKED), limits, gate=Killing)
        for one in shards:
            one.join(30)
        assert all(one.error is None for one in shards)
    assert [one.trained for one in found.rounds] == [11]
    assert "in the middle of the secure sum" in found.rounds[0].left_out["eve"]
    assert found.result.rounds[0].clients == 11
    alone, _, _, _ = served(chosen=PAIRS, defences=Defences(), names=SHARDS[:-1], rounds=1)
    assert found.result.outcomes == alone.outcomes


def test_over_links_under_masks_it_is_the_simulated_run(five):
    with five.listening() as listener:
        shards = [five.shard(name, listener, Conduct(sums_only=True)) for name in SHARDS]
        found = five.serve(listener, PAIRS, RunOptions(defences=MASKED))
        for one in shards:
            one.join(30)
            assert one.error is None
    assert replace(without_times(found.result), privacy={}) == simulated(PAIRS)
    assert found.refused == {}
