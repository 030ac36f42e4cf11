"""Sums under masks: the sum is right, nothing else is seen, and what cannot be masked is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up

from isthmus.errors import JobError
from isthmus.fedrec import Algorithm, Shared, SharedTable, Sums, make_task, protocol, recipe
from isthmus.fedrec.algorithms.fedavg import ALGORITHM as FEDAVG
from isthmus.fedrec.algorithms.fedavg import Settings
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.privacy import Defences, secure_sum
from isthmus.fedrec.privacy.secure_sum import STEP, agreed, cut_chance, decoded, encoded
from isthmus.fedrec.training import LocalTraining

RULES = protocol("full-ranking")
QUICK = {"epochs": 2, "batch": 16, "dim": 4}


def two_rounds(name, backbone, sets, defences, clients=9):
    task = make_task(made_up(clients=clients, items=30), RULES, 5)
    method = recipe(name, backbone, sets).build(defences.protect(task))
    for number in (1, 2):
        report = method.round(number, lambda clients, score: None)
    return method, report


@pytest.mark.parametrize(
    ("name", "backbone", "sets"),
    [
        ("fedavg", "fcf", QUICK),
        ("fedavg", "fedncf", QUICK),
        ("fedavg", "fcf", QUICK | {"share": 0.6}),
        ("fedavgm", "fcf", QUICK),
        ("fedprox", "fcf", QUICK),
        ("row-wise", "fcf", QUICK),
        ("fedrap", None, {"dim": 4, "epochs": 1}),
        ("pfedrec", None, {"dim": 4}),
    ],
)
def test_the_sum_is_that_without_masks_to_a_step(name, backbone, sets):
    plain, _ = two_rounds(name, backbone, sets, Defences())
    masked, _ = two_rounds(name, backbone, sets, Defences(secure_sum=True))
    size = np.abs(plain.shared.items).max()
    np.testing.assert_allclose(masked.shared.items, plain.shared.items, atol=2e-6 * size)
    np.testing.assert_allclose(masked.shared.network, plain.shared.network, atol=1e-5)


def test_one_round_of_the_sum_is_exact_to_the_step():
    task = make_task(made_up(clients=9, items=30), RULES, 5)
    found = {}
    for masked in (False, True):
        method = recipe("fedavg", None, QUICK).build(Defences(secure_sum=masked).protect(task))
        method.round(1, lambda clients, score: None)
        found[masked] = method.shared.items
    # Nine clients' roundings, and the last bit of the table's float32.
    np.testing.assert_allclose(found[True], found[False], rtol=2e-7, atol=9 * STEP)


def test_masks_cancel_to_the_last_bit():
    found = [
        two_rounds("fedavg", "fcf", QUICK, Defences(secure_sum=True, masks_left_out=out))
        for out in (False, True)
    ]
    np.testing.assert_array_equal(found[0][0].shared.items, found[1][0].shared.items)
    assert found[0][1].up == found[1][1].up


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(3, 1000))
def test_words_hold_numbers_to_half_a_step(values, clients):
    numbers = np.array(values)
    assert np.abs(decoded(encoded(numbers, clients)) - numbers).max() <= STEP


def test_sums_beyond_the_words_are_refused():
    with pytest.raises(JobError, match="beyond"):
        encoded(np.array([2.0**31]), 3)
    with pytest.raises(JobError, match="beyond"):
        encoded(np.array([np.nan]), 3)
    assert decoded(encoded(np.array([-(2.0**30)]), 3)) == [-(2.0**30)]


def test_what_a_client_sends_looks_uniform_and_never_comes_twice():
    masks = agreed(5)
    sent = []
    for one in masks:
        for _ in range(2):
            words = np.zeros(4000, np.uint64)
            one.add_to(words, "round")
            sent.append(words)
    for words in sent:
        ones = np.unpackbits(words.view(np.uint8)).mean()
        assert abs(ones - 0.5) < 0.005
    flat = np.concatenate(sent)
    assert len(np.unique(flat)) == len(flat)


def test_without_one_client_the_sum_tells_nothing():
    masks, total = agreed(6), np.zeros(1000, np.uint64)
    for one in masks[1:]:
        words = np.full(1000, 7, np.uint64)
        one.add_to(words, "round")
        total += words
    assert (total == 35).sum() == 0
    last = np.full(1000, 7, np.uint64)
    masks[0].add_to(last, "round")
    assert (total + last == 42).all()


@pytest.mark.parametrize("clients", [3, 4, 7, 60])
def test_neighbours_share_with_each_other_and_stand_on_one_ring(clients, monkeypatch):
    monkeypatch.setattr(secure_sum, "neighbours_of", lambda count: min(4, count - 1))
    near = {one.me: set(one._keys) for one in agreed(clients)}
    assert all(len(found) >= min(4, clients - 1) for found in near.values())
    assert all(me in near[other] for me, found in near.items() for other in found)
    reached, edge = {"0"}, ["0"]
    while edge:
        new = near[edge.pop()] - reached
        reached |= new
        edge.extend(new)
    assert len(reached) == clients


def test_so_many_neighbours_that_traitors_rarely_cut_the_ring():
    assert cut_chance(1000, 10) > cut_chance(1000, 20)
    for clients in (100, 1000, 10_000):
        found = secure_sum.neighbours_of(clients)
        assert cut_chance(clients, found) <= 2.0**-40 < cut_chance(clients, found - 2)
    assert secure_sum.neighbours_of(8) == 7


def test_two_clients_are_too_few():
    with pytest.raises(JobError, match="2 clients tells"):
        agreed(2)


def test_an_aggregator_that_looks_at_rows_sees_none():
    seen = []

    class Looks:
        def aggregate(self, shared, uploads):
            for chunk in uploads:
                seen.append(
                    (len(chunk.rows), len(chunk.items), chunk.network.size, len(chunk.user[0]))
                )
            return Shared(shared.items, shared.network)

    def build(task, settings, model):
        return SharedTable(task, model, Looks())

    looks = Algorithm(
        "looks", "Looks", "none", "sums", "nothing", Settings, build, backbones=("fcf",)
    )
    made = Recipe(looks, "fcf", Settings(), LocalTraining(dim=4, epochs=1))
    task = Defences(secure_sum=True).protect(make_task(made_up(), RULES, 0))
    with pytest.raises(JobError, match="looks at clients' uploads"):
        made.build(task).round(1, lambda clients, score: None)
    assert seen == [(0, 0, 0, 0)]
    assert FEDAVG.leaves == "sums"


def test_keys_last_as_long_as_the_cohort():
    task = make_task(made_up(clients=9, items=30), RULES, 5)
    sealing = secure_sum.SecureSum(task)
    everybody = np.arange(9)
    first = sealing.masks(everybody)
    assert sealing.masks(everybody) is first
    assert sealing.masks(everybody[:5]) is not first
    assert len(sealing.masks(everybody[:5])) == 5


class Sees:
    """FedAvg that keeps its sums."""

    def aggregate(self, shared, uploads):
        self.sums = Sums.like(shared)
        for chunk in uploads:
            self.weight = chunk.weight
            self.sums.add(chunk, chunk.weight)
        return shared


def summed(times):
    """The sums of a round with so much noise, and the clients' weights."""
    task = make_task(made_up(clients=40, items=200, least=4, most=6), RULES, 5)
    defences = Defences(clip=2.0, secure_sum=True, noise=times)
    method = recipe("fedavg", None, QUICK).build(defences.protect(task))
    method.aggregator = sees = Sees()
    method.round(1, lambda clients, score: None)
    return sees.sums, sees.weight


def test_noise_in_shares_adds_up_to_the_noise_of_the_sum_and_hides_who_touched_what():
    plain, weights = summed(0.0)
    assert (weights > 1).any()
    still = plain.mass == 0
    assert still.sum() > 10
    noised, alike = summed(3.0)
    assert (alike == 1).all()
    np.testing.assert_allclose(noised.mass, 40, atol=1e-6)
    # Items that nobody touched move by noise alone.
    assert noised.items[still].std() == pytest.approx(6.0, rel=0.2)


@pytest.mark.parametrize("twice", [True, False])
def test_sums_that_would_tell_clients_apart_are_refused(twice):
    class Picks:
        def aggregate(self, shared, uploads):
            for chunk in uploads:
                one = np.zeros(len(chunk.weight))
                one[0] = 1.0
                Sums.like(shared).add(chunk, chunk.weight if twice else one)
                Sums.like(shared).add(chunk, np.ones(len(one)))
            return shared

    task = Defences(secure_sum=True).protect(make_task(made_up(), RULES, 0))
    method = recipe("fedavg", None, QUICK).build(task)
    method.aggregator = Picks()
    with pytest.raises(JobError, match="added up once"):
        method.round(1, lambda clients, score: None)


def test_what_goes_up_is_the_masked_words():
    _, report = two_rounds("fedavg", "fcf", QUICK, Defences(secure_sum=True))
    assert report.up == 9 * (8 * (30 * 5 + 1) + 32)
