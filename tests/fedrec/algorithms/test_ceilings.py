"""The ceilings on pooled data, against dense algebra and finite differences."""

from itertools import pairwise

import numpy as np
import pytest

from isthmus.errors import JobError
from isthmus.fedrec import Candidates, make_task, protocol, recipe
from isthmus.fedrec.algorithms.lightgcn import Graph, bpr
from isthmus.fedrec.population import Ragged

SMALL = {"factors": 5}


def built(data, name, threads=1, **sets):
    task = make_task(data, protocol("honest-sampled"), seed=2, threads=threads)
    return recipe(name, None, SMALL | sets).build(task)


def dense(method):
    """The training interactions, [U, M] of 0 and 1."""
    population = method.task.population
    out = np.zeros((population.clients, population.items))
    for client in range(population.clients):
        out[client, population.train.of(client)] = 1
    return out


def test_ials_solves_its_weighted_least_squares_exactly(data):
    """Each row by a dense system over all pairs, every pair with its own weight."""
    alpha, ridge, nu = 0.3, 0.05, 0.7
    method = built(data, "ials", unobserved=alpha, ridge=ridge, frequency=nu)
    x = dense(method)
    before = method.users.astype(float)
    method.sweep(1)
    for table, other, rows in ((method.items, before, x.T), (method.users, method.items, x)):
        for row, found in zip(rows, table, strict=True):
            # The objective has (s - 1)^2 + alpha s^2 for a pair that is there, alpha s^2 else.
            weight = row + alpha
            amount = ridge * (row.sum() + alpha * len(row)) ** nu
            system = (other.T * weight) @ other + amount * np.eye(other.shape[1])
            wanted = np.linalg.solve(system.astype(float), other.T @ row)
            np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_ials_falls_in_its_objective_with_every_sweep(data):
    method = built(data, "ials", unobserved=0.2, ridge=0.02)
    x, found = dense(method), []
    amount = {axis: 0.02 * (x.sum(axis) + 0.2 * x.shape[axis]) for axis in (0, 1)}
    for number in range(1, 5):
        method.sweep(number)
        scores = method.users.astype(float) @ method.items.T
        pull = amount[1] @ (method.users**2).sum(1) + amount[0] @ (method.items**2).sum(1)
        found.append((x * (scores - 1) ** 2).sum() + 0.2 * (scores**2).sum() + pull)
    assert all(after < before for before, after in pairwise(found))


def test_lightgcn_propagates_as_a_dense_product_does(data):
    method = built(data, "lightgcn", layers=3)
    x = dense(method)
    scaled = x / np.sqrt(np.maximum(np.outer(x.sum(1), x.sum(0)), 1))
    users = len(x)
    square = np.zeros((sum(x.shape), sum(x.shape)))
    square[:users, users:], square[users:, :users] = scaled, scaled.T
    powers = sum(np.linalg.matrix_power(square, k) for k in range(4)) / 4
    wanted = powers @ method.first
    np.testing.assert_allclose(method.propagated(method.first), wanted, atol=1e-6)
    np.testing.assert_allclose(method.users, wanted[:users], atol=1e-6)
    everything = Candidates.everything(users, x.shape[1])
    scores = method.score(np.arange(users), everything).reshape(x.shape)
    np.testing.assert_allclose(scores, wanted[:users] @ wanted[users:].T, atol=1e-5)


def test_the_graph_of_three_interactions_by_hand():
    """User 0 has items 0 and 1, user 1 has item 1: weights 1/sqrt(2), 1/2, 1/sqrt(2)."""
    graph = Graph.of(Ragged(np.array([0, 2, 3]), np.array([0, 1, 1], np.int32)), 2)
    assert graph.indptr.tolist() == [0, 2, 3, 4, 6]
    assert graph.nodes.tolist() == [2, 3, 3, 0, 0, 1]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(graph.weight, [half, 0.5, half, half, 0.5, half], rtol=1e-6)


def test_lightgcn_descends_along_the_gradient_of_its_loss(data):
    """By central differences of the whole: propagation, BPR and L2."""
    method = built(data, "lightgcn", layers=2, scale=0.5, ridge=0.2)
    train, users = method.task.population.train, method.task.population.clients
    owner = np.repeat(np.arange(users), train.counts)
    rng = np.random.default_rng(0)
    others = rng.integers(0, method.task.population.items, len(owner))
    triples = np.stack([owner, train.items + users, others + users], 1).astype(np.int32)

    def loss(first):
        """In float64, as the docstring says it."""
        final = spread @ first
        u, i, j = triples.T
        apart = (final[u] * (final[i] - final[j])).sum(1)
        size = (first[u] ** 2 + first[i] ** 2 + first[j] ** 2).sum(1)
        return np.mean(np.log1p(np.exp(-apart)) + 0.1 * size)

    start = method.first.astype(float)
    spread = np.stack(
        [method.propagated(np.eye(len(start), dtype=np.float32)[:, [k]])[:, 0]
         for k in range(len(start))], 1,
    ).astype(float)  # fmt: skip
    final = method.propagated(method.first)
    slope, by_first = np.zeros_like(final), np.zeros_like(final)
    found = bpr(triples, final, method.first, 0.2, slope, by_first)
    assert found == pytest.approx(loss(start), abs=1e-5)
    gradient = method.propagated(slope) + by_first
    for node, k in rng.integers(0, [len(start), 5], (20, 2)):
        up, down = start.copy(), start.copy()
        up[node, k] += 1e-5
        down[node, k] -= 1e-5
        assert gradient[node, k] == pytest.approx((loss(up) - loss(down)) / 2e-5, abs=1e-5)


def test_lightgcn_never_draws_what_is_to_be_avoided(data):
    method = built(data, "lightgcn")
    seen = {}
    step = method._step

    def watched(some, negatives, number):
        seen["negatives"] = negatives
        return step(some, negatives, number)

    method._step = watched
    method.sweep(1)
    for client, drawn in zip(method._owner, seen["negatives"], strict=True):
        assert drawn not in method.task.avoid.of(client)


@pytest.mark.parametrize("name", ["ials", "lightgcn"])
def test_threads_change_no_bit_and_seeds_do(data, name):
    one, two = built(data, name), built(data, name, threads=2)
    task = make_task(data, protocol("honest-sampled"), seed=3)
    other = recipe(name, None, SMALL).build(task)
    for method in (one, two, other):
        method.sweep(1)
        method.sweep(2)
    np.testing.assert_array_equal(one.items, two.items)
    np.testing.assert_array_equal(one.users, two.users)
    assert not np.array_equal(one.items, other.items)


@pytest.mark.parametrize(
    ("name", "sets"),
    [("ials", {"ridge": 0}), ("ials", {"factors": 0}), ("lightgcn", {"layers": 0})],
)
def test_numbers_that_cannot_be_are_refused(name, sets):
    with pytest.raises(JobError):
        recipe(name, None, sets)
