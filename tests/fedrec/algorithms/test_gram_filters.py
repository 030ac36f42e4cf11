"""GF-CF and FedCIA's model-free form against their definitions on pooled data."""

import numpy as np
import pytest

from isthmus.fedrec import Candidates, make_task, protocol, recipe
from isthmus.fedrec.algorithms import ease
from isthmus.fedrec.algorithms._one_round import gram, interaction_rows, row_sums


def scores_of(name, data, **sets):
    task = make_task(data, protocol("honest-sampled"), seed=2)
    method = recipe(name, None, sets).build(task)
    report = method.round(1, lambda clients, score: None)
    everything = Candidates.everything(data.users, data.items)
    found = method.score(np.arange(data.users), everything).reshape(data.users, -1)
    r = np.zeros((data.users, data.items))
    for u in range(data.users):
        r[u, task.population.train.of(u)] = 1
    return found, r, report


def test_gfcf_equals_its_definition(data):
    found, r, report = scores_of("gfcf", data, components=3, alpha=0.4)
    used = r.sum(axis=0) > 0
    root_u, root_i = np.sqrt(r.sum(axis=1)), np.sqrt(np.where(used, r.sum(axis=0), 1))
    normal = r / root_u[:, None] / root_i
    v = np.linalg.svd(normal)[2][:3].T
    ideal = np.diag(used / root_i) @ v @ v.T @ np.diag(root_i * used)
    np.testing.assert_allclose(found, r @ (normal.T @ normal + 0.4 * ideal), atol=1e-4)
    assert report.up == data.users * 8 * (data.items * (data.items + 1) // 2 + data.items)


def test_model_free_fedcia_equals_the_mean_of_the_clients_filters(data):
    found, r, _ = scores_of("fedcia-model-free", data, agg=10, wp=0.5)
    filters = []
    for row in r:
        # GF-CF of one user: item degrees are 1 where it has the item.
        normal = row[None] / np.sqrt(row.sum())
        v = np.linalg.svd(normal)[2][:1].T
        degree = np.diag(row)
        filters.append(normal.T @ normal + 0.5 * degree @ v @ v.T @ degree)
    z = np.mean(filters, axis=0)
    wanted = [10 * row @ z + row @ own for row, own in zip(r, filters, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_sums_over_interactions_are_products_of_their_matrix(data):
    task = make_task(data, protocol("honest-sampled"), seed=2)
    some = np.array([3, 4, 7])
    table = np.random.default_rng(0).normal(size=(data.items, 5)).astype(np.float32)
    x = interaction_rows(task, np.arange(data.users))
    np.testing.assert_array_equal(gram(task), x.T @ x)
    np.testing.assert_allclose(row_sums(task, some, table), x[some] @ table, atol=1e-5)


@pytest.mark.parametrize("ridge", [30.0, 300.0])
def test_ease_of_many_items_in_single_precision_is_the_same(data, monkeypatch, ridge):
    task = make_task(data, protocol("honest-sampled"), seed=2)
    exact = ease.ease_weights(gram(task), ridge)
    monkeypatch.setattr(ease, "MANY_ITEMS", 2)
    single = ease.ease_weights(gram(task), ridge)
    np.testing.assert_allclose(single, exact, atol=1e-6)
    assert np.abs(exact).max() > 1e-3
