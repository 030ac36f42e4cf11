"""FedCA from noised sketches: its weights by hand, its noise, its groups, its sums under masks."""

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import RunOptions, make_task, protocol, recipe, run
from isthmus.fedrec.algorithms._gaussian import epsilon
from isthmus.fedrec.algorithms.fedca_sketched import Settings, grouped, multiplier, weights
from isthmus.fedrec.privacy import Defences

QUICK = {"epochs": 1, "batch": 16, "dim": 4, "least": 3, "groups": 3}


def after(rounds, sets=QUICK, defences=None):
    task = make_task(made_up(clients=20, items=30), protocol("full-ranking"), 2)
    method = recipe("fedca-sketched", None, sets).build((defences or Defences()).protect(task))
    for number in range(1, rounds + 1):
        report = method.round(number, lambda clients, score: None)
    return method, report


def test_weights_by_hand():
    """Two groups of 3 and 1 clients; the client points to the first, the second is opposite."""
    found = weights(
        np.array([3.0, 1.0]), np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]]),
        Settings(alpha=0.5, beta=0.4),
    )  # fmt: skip
    wanted = np.array([0.75 + 0.5 - 0.2, 0.25 + 0.5 / 3 + 0.2]) / 1.5
    wanted += (1 - wanted.sum()) / 2
    np.testing.assert_allclose(found, wanted[None], atol=1e-12)


def test_the_noise_is_the_least_for_its_epsilon():
    for wanted in (0.5, 4.0, 20.0):
        assert epsilon(multiplier(wanted)) == pytest.approx(wanted, rel=1e-3)


def test_small_groups_join_their_nearest():
    points = np.concatenate([np.full((12, 1), 0.0), np.full((11, 1), 10.0), np.full((2, 1), 8.0)])
    found = grouped(points, Settings(groups=3, least=5), np.random.default_rng(0))
    assert sorted(np.bincount(found)) == [12, 13]
    assert len(set(found[12:])) == 1


def test_each_client_takes_a_share_of_the_groups_means():
    method, _ = after(1, QUICK | {"interpolation": 0.0, "groups": 1})
    np.testing.assert_allclose(method.items, np.tile(method.items[0], (20, 1, 1)), rtol=1e-6)
    kept, _ = after(1, QUICK | {"interpolation": 1.0})
    alone = recipe("local-only", "fcf", {"epochs": 1, "batch": 16, "dim": 4}).build(kept.task)
    alone.round(1, lambda clients, score: None)
    np.testing.assert_allclose(kept.items, alone.items, rtol=1e-6)


def test_sketches_are_noised_once_and_groups_stay():
    method, _ = after(1)
    of = method.of.copy()
    method.round(2, lambda clients, score: None)
    np.testing.assert_array_equal(method.of, of)
    clear, _ = after(1, QUICK | {"epsilon": 0.0})
    np.testing.assert_allclose(np.linalg.norm(clear.sketches, axis=1), 1.0)
    np.testing.assert_array_equal(clear.sketches, after(1)[0].sketches)
    assert np.abs(clear.directions[0] - method.directions[0]).max() > 1e-3


def test_sums_under_masks_are_those_without():
    plain, open_up = after(2)
    masked, hidden_up = after(2, defences=Defences(secure_sum=True))
    np.testing.assert_array_equal(masked.items, plain.items)
    assert hidden_up.up == 20 * (8 * 30 * 4 + 32) > open_up.up


def test_what_it_cannot_have_is_refused():
    with pytest.raises(JobError, match="tables of their own"):
        after(1, defences=Defences(secure_sum=True, clip=1.0, noise=1.0))
    with pytest.raises(JobError, match="least"):
        Settings(least=2)
    with pytest.raises(JobError, match="epsilon"):
        Settings(epsilon=-1.0)


def test_the_result_says_what_the_sketch_promises_and_where_it_promises_nothing():
    def notes(epsilon):
        chosen = recipe("fedca-sketched", "fcf", QUICK | {"epsilon": epsilon})
        options = RunOptions(rounds=1, defences=Defences(secure_sum=True, masks_left_out=True))
        data = made_up(clients=20, items=30)
        return " ".join(run(data, chosen, [protocol("honest-sampled")], options).notes)

    assert "one sketch of 4 numbers, which no sum hides: epsilon 2 at delta 1e-05" in notes(2.0)
    assert "sketches have no noise" in notes(0.0)


def test_an_epsilon_for_which_there_is_not_enough_noise_is_refused():
    least = epsilon(1e4)
    assert multiplier(least * 1.001) == pytest.approx(1e4, rel=1e-2)
    for small in (least / 2, 1e-30):
        with pytest.raises(JobError, match="epsilon must be"):
            recipe("fedca-sketched", "fcf", {"epsilon": small})
