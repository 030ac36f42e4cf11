"""FedCA's aggregation against cases worked out by hand, and its parts against plain programs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isthmus.fedrec import LocalTraining, Model, backbone, make_task, protocol
from isthmus.fedrec.algorithms import _affinity as affinity
from isthmus.fedrec.algorithms._simplex import project
from isthmus.fedrec.algorithms.fedca import FedCA, Settings, composite

NUMBERS = st.floats(-5, 5, allow_nan=False, width=32)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=NUMBERS))
def test_the_projection_is_the_nearest_point_of_the_simplex(points):
    found = project(points)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert (found >= 0).all()
    # Kuhn and Tucker: where weight lies, point minus weight is one number, elsewhere not above it.
    for point, weight in zip(points, found, strict=True):
        gap = point - weight
        level = gap[weight > 1e-12].max()
        np.testing.assert_allclose(gap[weight > 1e-12], level, atol=1e-9)
        assert (gap[weight <= 1e-12] <= level + 1e-9).all()


def test_a_projection_by_hand():
    np.testing.assert_allclose(project(np.array([[0.9, 0.5, -1.0]])), [[0.7, 0.3, 0.0]])


# Two items, two dimensions; the second client's table is the first's but for one entry.
TABLES = np.array([[[1, 0], [-1, 0]], [[1, 0], [-4, 0]]], np.float32)
ALONG_X, ALONG_Y = [[1.0, 0.0]], [[0.0, 1.0]]


def test_the_papers_weights_by_hand():
    """|Q_1 - Q_2| = 3, so sim = 1/4; subspaces at right angles: cos = 0, with oneself 1."""
    settings = Settings(variant="paper", alpha=0.5, beta=0.4)
    basis = np.array([ALONG_X, ALONG_Y])
    weights = composite(np.array([3.0, 1.0]), TABLES, basis, settings)
    # (p + alpha sim - beta cos / 2) / (1 + alpha), p = (3/4, 1/4): first client
    # (0.75 + 0.5 - 0.2, 0.25 + 0.125) / 1.5 = (0.7, 0.25), projected + 0.025 each.
    # Second client: (0.75 + 0.125, 0.25 + 0.5 - 0.2) / 1.5 = (7/12, 11/30), + 1/40 each.
    np.testing.assert_allclose(weights, [[0.725, 0.275], [7 / 12 + 1 / 40, 11 / 30 + 1 / 40]])


def test_the_printed_formula_rewards_the_aligned():
    settings = Settings(variant="paper", alpha=0.5, beta=0.4, reward="aligned")
    basis = np.array([ALONG_X, ALONG_Y])
    weights = composite(np.array([1.0, 1.0]), TABLES, basis, settings)
    # (0.5 + 0.5 + 0.2, 0.5 + 0.125) / 1.5 = (0.8, 5/12), both less (0.8 + 5/12 - 1) / 2.
    first = 0.8 - (0.8 + 5 / 12 - 1) / 2
    np.testing.assert_allclose(weights, [[first, 1 - first], [1 - first, first]])


def test_the_authors_weights_by_hand():
    """Principal scores (1, -1) and (2.5, -2.5): distance 1.5 sqrt 2. alpha weighs the angle."""
    settings = Settings(variant="authors", alpha=0.2, beta=0.4)
    basis = np.array([ALONG_X, [[math.cos(1), math.sin(1)]]])
    weights = composite(np.array([1.0, 1.0]), TABLES, basis, settings)
    other = 0.5 + 0.2 * math.cos(1) + 0.4 / (1 + 1.5 * math.sqrt(2))
    own = 0.5 + 0.2 + 0.4
    gap = (own + other - 1) / 2
    np.testing.assert_allclose(weights, [[own - gap, other - gap], [other - gap, own - gap]])


def greedy(one, two):
    """As the released code pairs components."""
    cosine, angles = one @ two.T, []
    for _ in range(len(one)):
        i, j = np.unravel_index(cosine.argmax(), cosine.shape)
        angles.append(math.acos(min(1, max(-1, cosine[i, j]))))
        cosine[i, :] = cosine[:, j] = -np.inf
    return np.mean(angles)


def bases(count, k=3, d=5):
    rng = np.random.default_rng(0)
    return np.array([np.linalg.qr(rng.normal(size=(d, k)))[0].T for _ in range(count)])


def test_greedy_angles_equal_a_plain_loop():
    basis = bases(4)
    found = affinity.greedy_angle(basis)
    wanted = [[greedy(one, two) for two in basis] for one in basis]
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_principal_angles_know_equal_and_opposite_subspaces():
    basis = np.array([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]], [[0, -1.0, 0, 0], [1.0, 0, 0, 0]],
                      [[0, 0, 1.0, 0], [0, 0, 0, 1.0]]])  # fmt: skip
    found = affinity.principal_angle(basis)
    np.testing.assert_allclose(found[0], [0, 0, math.pi / 2], atol=1e-7)


def test_principal_scores_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    tables = np.random.default_rng(2).normal(size=(3, 50, 6)).astype(np.float32)
    found = affinity.principal_scores(tables)
    for table, scores in zip(tables, found, strict=True):
        wanted = PCA(n_components=1, svd_solver="full").fit_transform(table.astype(float))[:, 0]
        np.testing.assert_allclose(scores, wanted, atol=1e-4)


@pytest.mark.parametrize("variant", ["paper", "authors"])
@pytest.mark.parametrize("kind", ["fcf", "fedncf"])
def test_a_round_mixes_the_chosen_clients_and_no_others(data, variant, kind):
    """A round of FedCA is a round of each alone, then a mixture by the composite weights."""
    task = make_task(data, protocol("authors"), seed=4)
    training = LocalTraining(dim=6, epochs=2, batch=16)
    none = Settings(variant=variant, mixed=0.0)
    some = Settings(variant=variant, mixed=0.5, interpolation=0.8, components=2)
    alone, method = (
        FedCA(task, Model.new(backbone(kind), training, task), settings)
        for settings in (none, some)
    )
    for one in (alone, method):
        report = one.round(1, lambda clients, score: None)
    chosen = method.chosen(1)
    assert len(chosen) == 4
    assert report.down == 4 * (method.items[0].nbytes + method.network[0].nbytes)
    basis = np.stack([subspace(task, alone, client, variant, 2) for client in chosen])
    weights = composite(task.population.weights[chosen], alone.items[chosen], basis, some)
    for name in ("items", "network"):
        own = getattr(alone, name)
        wanted = own.copy()
        for row, client in zip(weights, chosen, strict=True):
            mean = sum(w * own[other] for w, other in zip(row, chosen, strict=True))
            wanted[client] = 0.8 * own[client] + 0.2 * mean
        np.testing.assert_allclose(getattr(method, name), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["fcf", "fedncf"])
def test_the_server_mixes_what_guards_let_through(data, kind):
    """A guard that leaves but one row of each client, and noise on it: no other change gets by."""

    def one_row(uploads, number):
        first = uploads.indptr[:-1]
        return replace(
            uploads,
            indptr=np.arange(len(first) + 1),
            items=uploads.items[first],
            counts=uploads.counts[first],
            rows=uploads.rows[first] + 3,
            network=uploads.network - 2,
        )

    bare = make_task(data, protocol("authors"), seed=4)
    training = LocalTraining(dim=6, epochs=2, batch=16)
    settings = Settings(variant="authors", mixed=0.5, interpolation=0.8, components=2)
    alone = FedCA(bare, Model.new(backbone(kind), training, bare), replace(settings, mixed=0.0))
    method = FedCA(
        replace(bare, guards=(one_row,)), Model.new(backbone(kind), training, bare), settings
    )
    start, network = method.items[0].copy(), method.network[0].copy()
    for one in (alone, method):
        one.round(1, lambda clients, score: None)
    chosen, liked = method.chosen(1), bare.population.train
    sent = np.repeat(start[None], len(chosen), axis=0)
    spread = np.zeros((len(chosen), 6, 6))
    for place, client in enumerate(chosen):
        touched = np.flatnonzero((alone.items[client] != start).any(axis=1))
        sent[place, touched[0]] = alone.items[client, touched[0]] + 3
    assert liked.counts[chosen].min() > 1
    basis = affinity.leading(spread, 2)
    w = composite(bare.population.weights[chosen], sent, basis, settings)
    for mine, own, there in (
        (method.items, alone.items, sent),
        (method.network, alone.network, alone.network[chosen] - 2),
    ):
        wanted = own.copy()
        mixed = np.einsum("uv,v...->u...", w, there)
        wanted[chosen] = 0.8 * own[chosen] + 0.2 * mixed
        np.testing.assert_allclose(mine, wanted, atol=1e-5)
    assert network.size == 0 or (method.network != alone.network).any()


def subspace(task, method, client, variant, k):
    """The client's own principal directions, from a fresh draw of its samples."""
    from tests.fedrec.reference import draw_samples

    liked = task.population.train.of(client).tolist()
    rows = method.items[client][liked].astype(float)
    if variant == "authors":
        avoid = set(task.avoid.of(client).tolist())
        samples = draw_samples(liked, avoid, task.population.items, 4, task.seed, 1, int(client))
        rows = method.items[client][[item for item, _ in samples]].astype(float)
        rows = rows - rows.mean(axis=0)
    directions = np.linalg.svd(rows)[2][:k]
    return np.array([one * np.sign(one[np.abs(one).argmax()]) for one in directions])
