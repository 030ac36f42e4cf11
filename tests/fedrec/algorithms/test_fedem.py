"""FedEM's weights and merging by hand; its score function is with the others."""

import math
from dataclasses import replace

import numpy as np
from tests.fedrec.reference import with_gradient

from isthmus.fedrec import Guard, Model, backbone, make_task, protocol, recipe
from isthmus.fedrec.algorithms.fedem import merged, weights

# Two items along one axis: principal scores (1, -1) and (2.5, -2.5), their distance 1.5 sqrt 2.
TABLES = np.array([[[1, 0], [-1, 0]], [[1, 0], [-4, 0]]], np.float32)


def test_weights_by_hand():
    likeness = 1 / (1 + 1.5 * math.sqrt(2))
    found = weights(np.array([3.0, 1.0]), TABLES, alpha=0.5)
    # p + alpha sim = (0.75 + 0.5, 0.25 + 0.5 l), two numbers less half of what exceeds 1.
    gap = (1.0 - 0.5 * likeness) / 2
    np.testing.assert_allclose(found[0], [0.5 + gap, 0.5 - gap])
    # (0.75 + 0.5 l, 0.25 + 0.5): half their difference is l / 4.
    np.testing.assert_allclose(found[1], [0.5 + likeness / 4, 0.5 - likeness / 4])


def test_likeness_above_nine_tenths_counts_as_one():
    near = np.stack([TABLES[0], TABLES[0] * np.float32(1.01)])
    np.testing.assert_allclose(weights(np.ones(2), near, 0.9), np.full((2, 2), 0.5))


def test_merging_takes_a_ratio_for_each_row():
    rng = np.random.default_rng(0)
    private = rng.normal(size=backbone("fedem").sizes(2).user)
    own, sent = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    found = merged(own, sent, private)
    for row, other, new in zip(own, sent, found, strict=True):
        x = np.concatenate([row, other - row])
        z, _, _ = with_gradient(x, private[2:-1], (4, 16, 8, 1))
        np.testing.assert_allclose(new, row + (other - row) / (1 + math.exp(-z)), atol=1e-6)


class Doubled(Guard):
    """Sends twice what was trained."""

    def __call__(self, uploads, number):
        return replace(uploads, rows=2 * uploads.rows)


def mixed_once(data, *guards):
    chosen = recipe("fedem", None, {"mixed": 1.0, "dim": 4, "epochs": 1})
    task = replace(make_task(data, protocol("honest-sampled"), seed=1), guards=guards)
    method = chosen.build(task)
    method.round(1, lambda clients, score: None)
    return method


def test_what_is_mixed_is_what_went_up(data):
    plain, doubled = mixed_once(data), mixed_once(data, Doubled())
    np.testing.assert_array_equal(plain.items, doubled.items)
    assert not np.allclose(plain.mixture, doubled.mixture)
    w = weights(plain.task.population.weights, plain.items, 0.9)
    np.testing.assert_allclose(plain.mixture, np.einsum("uv,vmd->umd", w, plain.items), atol=1e-5)
    assert (plain.user[:, -1] == 1).all()


def test_a_client_that_was_sent_a_table_begins_from_the_merged_one(data):
    method = mixed_once(data)
    start = merged(method.items[0], method.mixture[0], method.user[0])
    items, sent, user = method.items.copy(), method.mixture.copy(), method.user.copy()
    report = method.round(2, lambda clients, score: None)
    changed = np.flatnonzero((method.items[0] != start).any(axis=1))
    touched = method.task.population.train.of(0)
    assert set(touched) <= set(changed)
    assert len(changed) < data.items
    assert report.up > items.nbytes
    assert not np.array_equal(user, method.user)
    assert not np.array_equal(sent, method.mixture)


def test_the_model_has_private_network_and_flag(data):
    task = make_task(data, protocol("honest-sampled"), seed=1)
    model = Model.new(backbone("fedem"), recipe("fedem").training, task)
    assert model.initial.network.size == 0
    assert model.initial.user[-1] == 0
