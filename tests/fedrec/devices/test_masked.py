"""Secure sums between devices: the sum of those that are there, and a device may be killed."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fedrec.devices.conftest import HONEST, QUICK
from tests.fedrec.devices.inside import FEDAVG, MASKED, SHARDS, begun

from isthmus.errors import BadMessage, JobError, TrainError
from isthmus.fedrec import RunOptions, recipe
from isthmus.fedrec.devices import Conduct, Gate, Limits
from isthmus.fedrec.devices.masking import RULES
from isthmus.fedrec.devices.summing import Summand
from isthmus.fedrec.devices.wire import Ask
from isthmus.fedrec.privacy import Defences


def table(**given):
    """The item table after the rounds, who took part, and the run's rounds."""
    run, crew, _ = begun(**given)
    result = run.go(lambda result: None)
    return run.method.shared.items, crew.notes, result


@pytest.mark.parametrize(
    ("name", "backbone", "sets"),
    [
        ("fedavg", "fcf", QUICK),
        ("fedavg", "fedncf", QUICK),
        ("row-wise", "fcf", QUICK | {"share": 0.6}),
        ("fedadam", "fcf", QUICK),
        ("pfedrec", None, {"dim": 4}),
    ],
)
def test_the_sum_is_that_of_plain_uploads_to_a_step(name, backbone, sets):
    chosen = recipe(name, backbone, sets)
    masked, notes, result = table(chosen=chosen)
    plain, plain_notes, _ = table(chosen=chosen, defences=Defences())
    np.testing.assert_allclose(masked, plain, atol=1e-5)
    assert [one.trained for one in notes] == [one.trained for one in plain_notes]
    assert all(not one.left_out for one in notes)
    assert result.privacy["secure_sum"]


@pytest.mark.parametrize(
    ("step", "in_the_sum"), [("share own", False), ("masked", False), ("answer", True)]
)
def test_a_shard_that_is_lost_in_the_middle_of_a_sum_does_not_end_it(step, in_the_sum):
    lose, gone = {("eve", 1, step)}, set() if in_the_sum else {("eve", 1, "train")}
    masked, _, result = table(lose=lose, rounds=1)
    plain, _, wanted = table(defences=Defences(), lose=gone, rounds=1)
    np.testing.assert_allclose(masked, plain, atol=1e-5)
    assert result.rounds[0].loss == pytest.approx(wanted.rounds[0].loss, rel=1e-5)
    _, notes, result = table(lose=lose)
    trained = 14 if in_the_sum else 11
    assert [one.trained for one in notes] == [trained, 14]
    assert "in the middle of the secure sum" in notes[0].left_out["eve"]
    assert [one.clients for one in result.rounds] == [trained, 14]


def test_more_lost_shards_than_are_tolerated_end_the_run_without_a_sum():
    assert RULES.terms(5).lost == 1
    lose = {(name, 1, "masked") for name in ("cat", "dan", "eve")}
    with pytest.raises(TrainError, match=r"cannot be had: only 2 of 5.*eve is gone"):
        table(lose=lose)
    with pytest.raises(TrainError, match="cannot be had: the masks of"):
        table(lose={(name, 2, "answer") for name in ("ben", "cat", "dan", "eve")})


def test_two_shards_are_too_few():
    with pytest.raises(TrainError, match="only 2 shards took part in round 1"):
        table(names=SHARDS[:2])
    _, notes, _ = table(names=SHARDS[:3])
    assert [one.trained for one in notes] == [10, 10]


def test_fewer_clients_than_the_least_after_a_loss_end_the_run():
    with pytest.raises(TrainError, match="only 11 of 14 clients took part in round 1, and 12"):
        table(lose={("eve", 1, "masked")}, least=12)


def test_nothing_but_masked_words_and_counts_goes_up():
    run, _, carrier = begun(rounds=1)
    result = run.go(lambda result: None)
    counts = {f"{one.name}.{part}" for one in HONEST for part in ("valid", "test")}
    up = 0
    for _, answer, arrays in carrier.sent:
        allowed = {"train": {"message", "clients"} | counts, "sum": {"message"}, "judge": counts}
        assert set(arrays) <= allowed[answer.kind]
        if "message" in arrays:
            assert arrays["message"].dtype == np.uint8
            up += len(arrays["message"])
    assert result.rounds[0].up == up
    words = [arrays["message"] for _, answer, arrays in carrier.sent if answer.kind == "sum"]
    largest = [one for one in words if len(one) == 1 + 8 * (30 * 5 + 1)]
    assert len(largest) == len(SHARDS)


def test_a_shards_own_defences_do_not_unmask_it():
    run, _, carrier = begun(rounds=1, conduct=Conduct(defences=Defences(clip=1.0)))
    run.go(lambda result: None)
    assert all("rows" not in arrays for _, _, arrays in carrier.sent)


def test_noise_of_a_shards_own_stays_under_the_masks():
    conduct = Conduct(defences=Defences(clip=1.0, noise=1.0))
    masked, _, _ = table(conduct=conduct, rounds=1)
    plain, _, _ = table(conduct=conduct, rounds=1, defences=Defences())
    bare, _, _ = table(rounds=1)
    np.testing.assert_allclose(masked, plain, atol=1e-5)
    assert np.abs(masked - bare).max() > 0.1


def test_a_shard_that_gives_sums_alone_takes_no_part_without_masks():
    for conduct in (Conduct(sums_only=True), Conduct(defences=MASKED)):
        with pytest.raises(JobError, match="gives sums alone"):
            begun(conduct=conduct, defences=Defences())
    assert table(conduct=Conduct(sums_only=True), rounds=1)[1][0].trained == 14


def train_ask(run, carrier, name):
    """What `name` is asked in round 1, and the collector of its answer."""
    found = {}

    class Stop(Exception):
        pass

    def ask(requests):
        found.update(requests)
        raise Stop

    real, carrier.ask = carrier.ask, ask
    with pytest.raises(Stop):
        run.method.round(1, lambda clients, score: None)
    carrier.ask = real
    return found[name]


def test_a_shard_that_sends_what_cannot_be_is_told_apart():
    run, _, carrier = begun()
    request = train_ask(run, carrier, "eve")
    [(answer, arrays)] = list(carrier.workers["eve"].answer(request.ask, request.arrays))
    for wrong, words in (
        ({"message": arrays["message"][:-1]}, "another form"),
        ({"message": arrays["message"].astype(np.int64)}, "message is"),
        ({"clients": np.array([0, 2])}, "not all of this shard"),
        ({"clients": arrays["clients"][::-1].copy()}, "ascending"),
    ):
        with pytest.raises(BadMessage, match=words):
            request.collector.add(answer, arrays | wrong)
    plain, _, other = begun(defences=Defences())
    asked = train_ask(plain, other, "eve")
    rows = next(iter(other.workers["eve"].answer(asked.ask, asked.arrays)))
    with pytest.raises(BadMessage, match="rows where a sum"):
        request.collector.add(*rows)


def test_a_malformed_message_in_the_middle_is_a_loss():
    run, crew, carrier = begun(rounds=1)
    real = carrier.workers["eve"].answer

    def short(ask, arrays):
        for answer, found in real(ask, arrays):
            cut = {"message": found["message"][:-1]} if ask.what == "masked" else {}
            yield answer, found | cut

    carrier.workers["eve"].answer = short
    run.go(lambda result: None)
    assert "another form or length" in crew.notes[0].left_out["eve"]
    assert crew.notes[0].trained == 11


def test_a_malformed_answer_is_a_loss_that_the_sum_survives():
    run, crew, carrier = begun(rounds=1)
    real = carrier.workers["eve"].answer

    def short(ask, arrays):
        for answer, found in real(ask, arrays):
            yield (
                answer,
                found | ({"message": found["message"][:-1]} if ask.what == "answer" else {}),
            )

    carrier.workers["eve"].answer = short
    run.go(lambda result: None)
    assert "another form or length" in crew.notes[0].left_out["eve"]
    assert crew.notes[0].trained == 14


def test_a_sum_that_cannot_be_is_not_taken():
    run, _, carrier = begun(rounds=1)
    real = carrier.workers["eve"].answer

    def wrong(ask, arrays):
        for answer, found in real(ask, arrays):
            message = found.get("message")
            if ask.what == "masked":
                message = np.append(message[:1], message[1:] ^ np.uint8(0x55))
            yield answer, found if message is None else found | {"message": message}

    carrier.workers["eve"].answer = wrong
    with pytest.raises(TrainError, match="a shard sent wrong words"):
        run.go(lambda result: None)


def test_a_shard_does_no_step_out_of_turn():
    run, _, carrier = begun()
    worker = carrier.workers["ann"]

    def step(what, number=1):
        message = {"message": np.zeros(3, np.uint8)}
        return list(worker.answer(Ask(kind="sum", number=number, what=what), message))

    with pytest.raises(BadMessage, match="was not trained"):
        step("share own")
    request = train_ask(run, carrier, "ann")
    list(worker.answer(request.ask, request.arrays))
    with pytest.raises(BadMessage, match="was not trained"):
        step("share own", number=2)
    for wrong in ("masked", "nonsense"):
        with pytest.raises(BadMessage, match="none, or out of turn"):
            step(wrong)
    with pytest.raises(BadMessage, match="out of turn, or twice"):
        step("answer")


def test_clients_are_added_up_by_one_kind_of_weights_only():
    from isthmus.fedrec.privacy.secure_server import Server
    from isthmus.fedrec.uploads import Tables

    tables = Tables(np.zeros((1, 4, 2), np.float32), np.zeros((1, 0), np.float32), np.zeros(1, int))
    some = [Summand(tables) for _ in range(3)]
    seats = Server(RULES, 13).seat({at: one.join() for at, one in enumerate(some)})
    some[0].answer("share own", seats[0])
    with pytest.raises(BadMessage, match="out of turn"):
        some[0].answer("share alike", seats[0])


def test_an_aggregator_with_weights_of_its_own_is_refused():
    class Picks:
        def aggregate(self, shared, uploads):
            from isthmus.fedrec import Sums

            for chunk in uploads:
                Sums.like(shared).add(chunk, np.arange(len(chunk.clients), dtype=float))
            return shared

    run, _, _ = begun(rounds=1)
    run.method.aggregator = Picks()
    with pytest.raises(JobError, match="added up once"):
        run.go(lambda result: None)


@pytest.mark.parametrize(
    ("name", "defences", "words"),
    [
        ("fedatt", MASKED, "own tables"),
        ("fedca", MASKED, "own tables"),
        ("cofedrec", MASKED, "own tables"),
        ("fedfast", MASKED, "own vectors"),
        ("da-pfl", MASKED, "cannot run on devices"),
        ("fedavg", Defences(secure_sum=True, dropouts=0.1), "are simulated"),
    ],
)
def test_what_cannot_be_masked_is_refused_before_a_shard_is_asked(name, defences, words):
    with pytest.raises(JobError, match=words):
        begun(chosen=recipe(name), defences=defences)


def test_a_device_killed_in_the_middle_of_a_secure_sum_does_not_end_the_run(five, tmp_path):
    """A real process over a real link, killed when it is to send its masked words."""
    options = RunOptions(rounds=3, defences=MASKED)

    class Killing(Gate):
        def ask(self, requests):
            one = requests.get("eve")
            if one is not None and (one.ask.number, one.ask.what) == (2, "masked"):
                child.kill()
                child.communicate()
            return super().ask(requests)

    with five.listening() as listener:
        child = five.process("eve", listener, tmp_path, "--sums-only")
        shards = [five.shard(name, listener) for name in SHARDS[:-1]]
        limits = Limits(round=60, wait=60, reconnect=0.3)
        served = five.serve(listener, FEDAVG, options, limits, gate=Killing)
        for one in shards:
            one.join(30)
        assert all(one.error is None for one in shards)
    assert [one.trained for one in served.rounds] == [14, 11, 11]
    assert "in the middle of the secure sum" in served.rounds[1].left_out["eve"]
    assert [one.clients for one in served.result.rounds] == [14, 11, 11]
    plain = five.simulated(FEDAVG, replace(options, rounds=1, defences=Defences()))
    assert served.result.rounds[0].loss == pytest.approx(plain.rounds[0].loss)
