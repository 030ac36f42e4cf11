"""What a server learns from uploads, without defences and with them."""

import json

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import recipe
from isthmus.fedrec.attacks import membership, touched_rows
from isthmus.fedrec.attacks._targets import judged, largest
from isthmus.fedrec.privacy import Defences

DATA = made_up(clients=60, items=400, seed=8, least=6, most=16)
SETS = {"deviation": 0.3}


def test_guesses_by_hand():
    guessed = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    true = np.array([[1, 0, 1, 1], [1, 0, 0, 0]], bool)
    found = judged(guessed, true)
    assert (found.precision, found.recall) == (0.25, pytest.approx(1 / 6))
    assert found.f1 == pytest.approx((2 * 1 / 5 + 0) / 2)
    scores = np.array([[3.0, 9.0, 5.0, 1.0]])
    among = np.array([[1, 0, 1, 1]], bool)
    assert largest(scores, among, np.array([2])).tolist() == [[True, False, True, False]]
    assert largest(scores, among, np.array([4])).tolist() == among.tolist()


def f1s(name, defences, sets=SETS):
    found = touched_rows.run(DATA, recipe(name, None, sets), defences, rounds=4, targets=40)
    return [one.rows.f1 for one in found.steps]


@pytest.mark.parametrize("name", ["fedavg", "fedca"])
def test_rows_that_always_change_give_training_items_away(name):
    """Only kept pseudo-items help: fresh ones, like fresh negatives, are intersected away."""
    plain = f1s(name, None)
    assert plain[0] < 0.45
    assert plain[-1] > 0.97
    fresh = f1s(name, Defences(pseudo_items=4, pseudo_fresh=True))
    kept = f1s(name, Defences(pseudo_items=4))
    assert fresh[-1] > 0.6 > 0.36 > kept[-1]
    assert kept[-1] == pytest.approx(2 / 6, abs=0.02)


def test_noise_on_all_rows_leaves_nothing_to_intersect():
    found = touched_rows.run(
        DATA, recipe("fedavg", None, SETS), Defences(clip=4.0, noise=1.0), rounds=2, targets=40
    )
    assert found.steps[-1].rows.recall == 1
    assert found.steps[-1].rows.precision < 0.05
    assert found.steps[-1].told.f1 < 0.1


def test_a_sum_tells_what_is_popular_and_no_more():
    found = touched_rows.run(
        DATA, recipe("fedavg", None, SETS), Defences(secure_sum=True), rounds=2, targets=40
    )
    assert found.hidden
    assert found.steps[-1].rows.f1 <= found.blind.f1 + 0.05


def test_membership_is_inferred_from_the_first_upload():
    made = recipe("fedavg", None, SETS)
    plain = membership.run(DATA, made, targets=40)
    assert plain.found.f1 > 0.7 > 0.3 > plain.random.f1
    kept = membership.run(DATA, made, Defences(pseudo_items=4), targets=40)
    assert kept.found.f1 < 0.6 * plain.found.f1
    noised = membership.run(DATA, made, Defences(clip=4.0, noise=10.0), targets=40)
    assert noised.found.f1 < 0.15
    hidden = membership.run(DATA, made, Defences(secure_sum=True), targets=40)
    assert hidden.hidden
    assert hidden.found == hidden.random


@pytest.mark.parametrize("name", ["pfedrec", "fedca", "gpfedrec"])
def test_it_works_on_other_methods(name):
    found = membership.run(DATA, recipe(name), targets=30)
    assert found.found.f1 > 1.5 * found.random.f1


def test_outcomes_are_told_and_written():
    made = recipe("fedavg", None, {"dim": 4, "epochs": 1})
    rows = touched_rows.run(DATA, made, rounds=1, targets=5)
    member = membership.run(DATA, made, targets=5, settings=membership.Settings(keep=0.5))
    for one in (rows, member):
        assert "F1" in " ".join(one.lines())
        json.dumps(one.to_json(), allow_nan=False)
        assert one.clients == 5


def test_methods_without_rows_cannot_be_attacked_so():
    with pytest.raises(JobError, match="does not send item rows"):
        touched_rows.run(DATA, recipe("ease"))
    with pytest.raises(JobError, match="sends nothing"):
        membership.run(DATA, recipe("local-only"))


def test_settings_are_checked():
    with pytest.raises(JobError, match="keep"):
        membership.Settings(keep=0.0)
