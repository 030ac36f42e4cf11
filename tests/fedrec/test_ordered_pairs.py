"""Ordered pairs: its sums by hand, under real masks and pooled; the sketch; clipping and noise."""

import math

import numpy as np
import pytest
from tests.fedrec.conftest import made_up

from isthmus.crypto.masks import MaskKey, Roster
from isthmus.errors import JobError
from isthmus.fedrec import Interactions, RunOptions, make_task, protocol, recipe, run
from isthmus.fedrec.algorithms import _gaussian, _pair_weights, _pairs
from isthmus.fedrec.algorithms._pair_sums import shares
from isthmus.fedrec.algorithms._pair_weights import next_item_weights
from isthmus.fedrec.algorithms.ease import ease_weights
from isthmus.fedrec.algorithms.ordered_pairs import (
    BLEND,
    OrderedPairs,
    Settings,
    epsilon_of,
    pair_sums,
)

FIXED = {"ordered_ridge": 2.0, "both_ridge": 3.0, "blend": 0.4}


def task_of(data, seed=0):
    return make_task(data, protocol("full-ranking"), seed)


def two_clients():
    # Each client's last two are held out: in training 2, 0, 1 and 1, 2.
    user = np.array([0] * 5 + [1] * 4)
    item = np.array([2, 0, 1, 3, 4, 1, 2, 4, 3])
    return Interactions("two", 2, 5, user, item, "time")


def scores_of(method, task):
    return method.client_scores(np.arange(task.population.clients))


def test_the_order_of_training_items_is_kept_beside_them():
    population = task_of(two_clients()).population
    assert population.train.items.tolist() == [0, 1, 2, 1, 2]
    assert population.turn.tolist() == [1, 2, 0, 0, 1]
    assert population.by_turn.items.tolist() == [2, 0, 1, 1, 2]
    assert population.part(np.array([1])).turn.tolist() == [0, 1]
    assert task_of(made_up(order="none")).population.turn is None


def test_sums_and_weights_of_two_clients_by_hand():
    ordered, both = pair_sums(task_of(two_clients()), Settings(decay=0.5))
    wanted = np.zeros((5, 5))
    wanted[2, 0] = wanted[0, 1] = wanted[1, 2] = 1
    wanted[2, 1] = 0.5
    assert np.array_equal(ordered, wanted)
    together = np.zeros((5, 5))
    together[:3, :3] = [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert np.array_equal(both, together)
    # Only the last pair: A is 2x2, (0.5 * 1) beside the diagonal, all over 0.75, plus the ridge.
    small = next_item_weights(np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([1.0, 1.0]), 0.5, 1.0)
    a, b = 4 / 3 + 1, 2 / 3
    assert small == pytest.approx(np.array([[0, a], [0, -b]]) / (a * a - b * b), rel=1e-6)


def test_the_weights_are_those_of_the_pooled_regression():
    data, decay, ridge = made_up(clients=30, items=12, least=6, most=11), 0.6, 2.0
    task = task_of(data)
    count, sequence = task.population.items, task.population.by_turn
    inputs, targets = [], []
    for client in range(task.population.clients):
        history = np.zeros(count)
        for item in sequence.of(client):
            inputs.append(history)
            targets.append(np.eye(count)[item])
            history = decay * history + np.eye(count)[item]
        for _ in range(80):  # followed until it has decayed
            inputs.append(history)
            targets.append(np.zeros(count))
            history = decay * history
    x, y = np.array(inputs), np.array(targets)
    pooled = np.linalg.solve(x.T @ x + ridge * np.eye(count), x.T @ y)
    ordered, both = pair_sums(task, Settings(decay=decay))
    assert next_item_weights(ordered, np.diag(both), decay, ridge) == pytest.approx(
        pooled, abs=1e-4
    )


def test_without_order_it_is_ease():
    task = task_of(made_up(clients=40, order="none"))
    method = OrderedPairs(task, Settings(both_ridge=3.0, broad=0.0))
    method.learn()
    x = _pairs.histories(task.population.train, task.population.items, 1.0, np.arange(40))
    plain = x @ ease_weights(x.T @ x, 3.0)
    z = (plain - plain.mean(1, keepdims=True)) / plain.std(1, keepdims=True)
    assert scores_of(method, task) == pytest.approx(z, abs=3e-4)
    assert method.chosen[BLEND] == 1


def test_real_masks_cancel_and_leave_the_very_same_sums():
    task = task_of(made_up(clients=6, items=15))
    settings = Settings()
    names = tuple(f"client {number}" for number in range(6))
    keys = [MaskKey() for _ in names]
    roster = Roster("pairs", names, tuple(key.public for key in keys))
    sequence, count = task.population.by_turn, task.population.items
    bits = _pairs.bits_for(6)
    total = np.zeros(2 * count**2, np.uint32)
    for number, key in enumerate(keys):
        alone = sequence.take(np.array([number]))
        ordered, both = np.zeros((2, count, count), np.uint32)
        power = _pairs.powers(settings.decay, bits, int(sequence.counts.max()))
        _pairs.add_pairs(
            alone.indptr, alone.items, np.ones(1), power, float(1 << bits), ordered, both
        )
        sent = plain = np.concatenate([ordered.ravel(), both.ravel()])
        sent = plain.copy()
        key.masks(names[number], roster).add_to(sent, "sums")
        assert (sent == plain).mean() < 0.05  # nothing of it shows, zeros included
        total += sent
    wanted_ordered, wanted_both = pair_sums(task, settings)
    got = (total / (1 << bits)).reshape(2, count, count)
    assert np.array_equal(got[0], wanted_ordered)
    assert np.array_equal(np.triu(got[1]), np.triu(wanted_both))


def test_a_wide_sketch_gives_every_pair_back():
    task = task_of(made_up(clients=30))
    sequence, count = task.population.by_turn, task.population.items
    power = _pairs.powers(0.8, 12, int(sequence.counts.max()))
    table = np.zeros(1 << 18, np.uint32)
    _pairs.add_sketch(sequence.indptr, sequence.items, power, 4096.0, count, 8, table)
    popular = np.bincount(sequence.items, minlength=count).astype(np.int64)
    pairs = _pairs.read_sketch(table, 8, popular, 4096.0)
    dense = np.zeros((count, count))
    dense[np.repeat(np.arange(count), np.diff(pairs.indptr)), pairs.items] = pairs.values
    wanted, _ = pair_sums(task, Settings(decay=0.8))
    assert dense == pytest.approx(wanted, abs=0.01)
    turned = pairs.transposed()
    back = np.zeros((count, count))
    back[np.repeat(np.arange(count), np.diff(turned.indptr)), turned.items] = turned.values
    assert np.array_equal(back, dense.T)


@pytest.mark.parametrize("order", ["time", "none"])
def test_many_items_go_by_the_sketch_with_one_jacobi_step(order):
    data = made_up(clients=30, order=order)
    task = task_of(data)
    method = OrderedPairs(task, Settings(whole_items=10, sketch_words=1 << 16, **FIXED))
    method.learn()
    if order == "none":
        _, both = pair_sums(task, Settings())
        own = np.diag(both).copy()
        weights = (both - np.diag(own)) / (own + 3.0)[:, None]
        x = _pairs.histories(task.population.train, task.population.items, 1.0, np.arange(30))
        got = method.weights.beside(x)
        assert got == pytest.approx(x @ weights, abs=1e-3)
        return
    ordered, both = pair_sums(task, Settings())
    weights = ordered / (np.diag(both) / (1 - 0.64) + 2.0)[:, None]
    h = _pairs.histories(task.population.by_turn, task.population.items, 0.8, np.arange(30))
    assert method.weights.after(h) == pytest.approx(h @ weights, abs=1e-2)


@pytest.mark.parametrize("whole", [10, 6000])
def test_the_broad_part_is_the_low_pass_filter_of_counts(whole, monkeypatch):
    monkeypatch.setattr(_pair_weights, "ITERATIONS", 2000)  # eigenvalues here lie close
    data = made_up(clients=30)
    task = task_of(data)
    settings = Settings(whole_items=whole, sketch_words=1 << 16, components=3, broad=1.0, **FIXED)
    method = OrderedPairs(task, settings)
    method.learn()
    ordered, both = pair_sums(task, Settings())
    count, own = len(both), np.diag(both)
    together = both - np.diag(own) if whole > count else ordered + ordered.T
    scale = np.divide(1, np.sqrt(own), out=np.zeros(count), where=own > 0)
    normal = scale[:, None] * (together + np.diag(own)) * scale
    v = np.linalg.eigh(normal)[1][:, -3:]
    h = _pairs.histories(task.population.by_turn, count, 0.8, np.arange(30))
    wanted = h * scale @ v @ v.T * np.sqrt(own)
    assert method.weights.around(h) == pytest.approx(wanted, abs=2e-2)
    z = (wanted - wanted.mean(1, keepdims=True)) / wanted.std(1, keepdims=True)
    assert scores_of(method, task) == pytest.approx(z, abs=5e-2)


@pytest.mark.parametrize("whole", [10, 6000])
def test_what_was_learned_is_found_again(whole):
    task = task_of(made_up(clients=30))
    settings = Settings(whole_items=whole, sketch_words=1 << 14)
    method = OrderedPairs(task, settings)
    assert method.state().keys() == {"chosen"}
    report = method.round(1, lambda clients, score: None)
    assert report.up > 0
    assert report.down > 0
    again = OrderedPairs(task, settings)
    again.restore(method.state())
    assert np.array_equal(scores_of(again, task), scores_of(method, task))


def test_order_tells_what_follows():
    # Everybody walks round the same circle of items: what comes next follows from the last item
    # alone, and all items are as popular.
    rng = np.random.default_rng(1)
    walks = [(np.arange(8) + rng.integers(40)) % 40 for _ in range(300)]
    data = Interactions(
        "walks", 300, 40, np.repeat(np.arange(300), 8), np.concatenate(walks), "time"
    )
    rules = [protocol("full-ranking")]
    found = {}
    for name in ("ease", "ordered-pairs"):
        result = run(data, recipe(name, None, {}), rules, RunOptions())
        found[name] = result.outcomes["full-ranking"].best.test["ndcg@10"]
    assert found["ordered-pairs"] > found["ease"] + 0.1


def test_times_that_tell_nothing_cost_next_to_nothing():
    # Items of a client's two groups, some far oftener than others, in any order.
    rng = np.random.default_rng(3)
    often = 1 / np.arange(1, 21)
    picks = [
        rng.permutation(
            [
                20 * group + item
                for group in rng.choice(12, 2, replace=False)
                for item in rng.choice(20, 6, replace=False, p=often / often.sum())
            ]
        )
        for _ in range(400)
    ]
    data = Interactions(
        "groups", 400, 240, np.repeat(np.arange(400), 12), np.concatenate(picks), "time"
    )
    found = {}
    for name in ("ease", "ordered-pairs"):
        result = run(data, recipe(name, None, {}), [protocol("full-ranking")], RunOptions())
        found[name] = result.outcomes["full-ranking"].best.test["ndcg@10"]
    assert found["ordered-pairs"] > 0.97 * found["ease"]


def test_clipping_holds_every_client_to_the_bound():
    task = task_of(made_up(clients=6, items=15))
    bound = 2.0
    sequence, bits = task.population.by_turn, _pairs.bits_for(6)
    power = _pairs.powers(0.8, bits, int(sequence.counts.max()))
    share = shares(sequence.counts, power, bound)
    assert share.min() < 1
    for client in range(6):
        alone = task.part(np.array([client]))
        ordered, both = pair_sums(alone, Settings(clip=bound))
        square = (ordered**2).sum() + (np.triu(both) ** 2).sum()
        assert bound * 0.99 < math.sqrt(square) <= bound or share[client] == 1


def test_noise_has_its_deviation_and_its_epsilon():
    task = task_of(made_up(clients=6, items=60))
    quiet = pair_sums(task, Settings(clip=2.0))
    loud = pair_sums(task, Settings(clip=2.0, noise=1.5))
    assert (loud[0] - quiet[0]).std() == pytest.approx(3.0, rel=0.1)
    assert np.array_equal(loud[1], loud[1].T)
    # Balle and Wang's bound lies below the classical one, sqrt(2 log(1.25 / delta)) / sigma.
    classical = math.sqrt(2 * math.log(1.25e5)) / 6
    assert 0.5 * classical < _gaussian.epsilon(6.0) < classical
    assert _gaussian.delta(_gaussian.epsilon(6.0), 6.0) == pytest.approx(1e-5, rel=1e-3)
    assert epsilon_of(Settings()) == math.inf
    assert epsilon_of(Settings(clip=1.0, noise=6.0)) == _gaussian.epsilon(6.0)
    assert 4.7 < epsilon_of(Settings(clip=1.0, noise=1.0), devices=True) < 4.75


def test_under_noise_nothing_is_chosen_on_validation():
    task = task_of(made_up(clients=30))
    method = OrderedPairs(task, Settings(clip=5.0, noise=0.1))
    method.gain_units = lambda clients: pytest.fail("a figure that the noise does not cover")
    method.learn()
    assert method.chosen.tolist() == [300, 300, 0.4, 0]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"decay": 1.0}, "decay"),
        ({"noise": 1.0}, "without clip"),
        ({"sketch_words": 1000}, "power of two"),
    ],
)
def test_settings_that_cannot_be(numbers, said):
    with pytest.raises(JobError, match=said):
        Settings(**numbers)


def test_noise_on_a_sketch_is_refused():
    method = OrderedPairs(task_of(made_up()), Settings(clip=1.0, noise=1.0, whole_items=5))
    with pytest.raises(JobError, match="sketch"):
        method.learn()
