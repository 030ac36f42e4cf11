"""Noise on sums of item rows between devices: shares of shards, enough of them, and the account."""

import numpy as np
import pytest
from tests.fedrec.devices.conftest import HONEST
from tests.fedrec.devices.inside import FEDAVG, MASKED, SHARDS, begun

from isthmus.errors import JobError
from isthmus.fedrec import RunOptions, recipe
from isthmus.fedrec.devices import Conduct, Limits, Plan
from isthmus.fedrec.devices.masking import RULES
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.accounting import epsilon_concentrated

CLIP, NOISE = 0.5, 2.0
NOISY = Defences(secure_sum=True, clip=CLIP, noise=NOISE)


def sums(**given):
    """What the server opens in round 1, and the run."""
    going, crew, carrier = begun(chosen=FEDAVG, rounds=1, **given)
    found = []
    real = crew._sealed

    def sealed(note, shards):
        one = real(note, shards)
        add = one.add

        def watched(total, weight):
            add(total, weight)
            found.append(total)

        one.add = watched
        return one

    crew._sealed = sealed
    return going, crew, carrier, found


def test_noise_on_the_sum_is_what_was_asked_and_more_where_nobody_is_lost():
    going, _, _, noisy = sums(defences=NOISY)
    result = going.go(lambda result: None)
    quiet_run, _, _, quiet = sums(defences=Defences(secure_sum=True, clip=CLIP))
    quiet_run.go(lambda result: None)
    # Every client weighs 1, and which rows it touched is not told.
    assert noisy[0].weight == 14
    assert np.array_equal(noisy[0].mass, np.full(30, 14.0))
    assert quiet[0].mass.max() <= quiet[0].weight
    wanted = NOISE * CLIP * np.sqrt(5 / 3)
    assert noisy[0].items.std() == pytest.approx(wanted, rel=0.25)
    assert result.privacy["discrete"]
    told = " ".join(result.privacy["protects"])
    assert "adds its share" in told
    assert result.privacy["epsilon"] == pytest.approx(epsilon_concentrated(NOISE / 2))


def test_shares_of_the_noise_are_not_those_of_a_seed():
    (one, _, _, first), (two, _, _, second) = sums(defences=NOISY), sums(defences=NOISY)
    one.go(lambda result: None)
    two.go(lambda result: None)
    assert not np.array_equal(first[0].items, second[0].items)


def test_the_sum_of_the_noise_stands_though_a_shard_is_lost():
    going, crew, _, found = sums(defences=NOISY, lose={("eve", 1, "masked")})
    going.go(lambda result: None)
    assert crew.notes[0].trained == 11
    assert found[0].weight == 11
    assert found[0].items.std() == pytest.approx(NOISE * CLIP * np.sqrt(4 / 3), rel=0.25)


def test_a_shard_of_its_own_mind_takes_no_part_where_all_add_shares():
    with pytest.raises(JobError, match="asks all shards alike"):
        begun(chosen=FEDAVG, defences=NOISY, conduct=Conduct(defences=Defences(clip=0.1)))


@pytest.mark.parametrize(
    ("chosen", "defences", "told"),
    [
        (FEDAVG, NOISY, "noise of 2 clips on the sum, and this shard wants 2.5"),
        (FEDAVG, MASKED, "no noise on the sum"),
        # Each upload is noised, but the sum is not what the server sees.
        (FEDAVG, Defences(clip=CLIP, noise=9.0), "no noise on the sum"),
        (recipe("ordered-pairs", None, {"clip": 4.0, "noise": 2.0}), MASKED, "noise of 2 clips"),
        (recipe("ordered-pairs"), MASKED, "no noise on the sum"),
        (recipe("gfcf"), MASKED, "no noise on the sum"),
        (recipe("fedca", None, {"dim": 4}), Defences(), "no noise on the sum"),
    ],
)
def test_a_shard_that_insists_on_more_noise_takes_no_part(chosen, defences, told):
    with pytest.raises(JobError, match=told) as found:
        begun(chosen=chosen, defences=defences, conduct=Conduct(least_noise=2.5))
    assert "--least-noise" in found.value.mend


def test_a_shard_that_insists_on_noise_takes_part_where_there_is_as_much():
    pairs = recipe("ordered-pairs", None, {"clip": 4.0, "noise": NOISE})
    for chosen, defences in ((FEDAVG, NOISY), (pairs, MASKED)):
        going, crew, _ = begun(
            chosen=chosen, defences=defences, rounds=1, conduct=Conduct(least_noise=NOISE)
        )
        going.go(lambda result: None)
        assert crew.notes[0].trained == 14


@pytest.mark.parametrize("least", [-1.0, float("nan"), float("inf")])
def test_the_least_noise_is_a_number(least):
    with pytest.raises(JobError, match="at least 0"):
        Conduct(least_noise=least)


def test_least_noise_and_guards_of_ones_own_do_not_go_together():
    with pytest.raises(JobError, match="all asked alike"):
        Conduct(least_noise=1.0, defences=Defences(clip=1.0))
    assert Conduct(least_noise=1.0, defences=Defences()).least_noise == 1.0


def test_a_plan_with_noise_on_sums_is_told_as_discrete(five):
    plan = five.plan(FEDAVG, RunOptions(defences=NOISY))
    assert plan.options.defences.discrete
    assert plan.options.checkpoint_every == 1
    assert not five.plan(FEDAVG, RunOptions(defences=MASKED)).options.defences.discrete
    assert isinstance(plan, Plan)
    assert RULES.terms(len(SHARDS)).lost == 1


def test_it_runs_over_links(five):
    options = RunOptions(rounds=2, defences=NOISY)
    with five.listening() as listener:
        shards = [five.shard(name, listener, Conduct(sums_only=True)) for name in SHARDS]
        limits = Limits(round=60, wait=60, reconnect=0.3)
        served = five.serve(listener, recipe("pfedrec", None, {"dim": 4}), options, limits)
        for one in shards:
            one.join(30)
            assert one.error is None
    assert [one.trained for one in served.rounds] == [14, 14]
    assert set(served.result.outcomes) == {one.name for one in HONEST}
