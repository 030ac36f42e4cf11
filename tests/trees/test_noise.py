"""Noise on a partner's sums: how much, what it is counted as, and that trees still come out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.trees.made import OPTIONS, Y, pooled_model, split_models

from isthmus.metrics import auc
from isthmus.trees.noise import Noise, epsilon, rho_of_tree


def test_noise_is_of_the_stated_deviation_and_fresh():
    noise = Noise(replace(OPTIONS, noise=3.0))
    sums = np.full((200, 10, 2), 2**64 - 5, np.uint64)
    found = [(noise.added(sums, 20) - sums).view(np.int64) for _ in range(2)]
    assert (found[0] != found[1]).mean() > 0.99
    assert np.std(found) / 2**20 == pytest.approx(3.0, rel=0.03)
    assert abs(np.mean(found)) / 2**20 < 0.2
    np.testing.assert_array_equal(Noise(OPTIONS).added(sums, 20), sums)


def test_the_account_by_hand():
    options = replace(OPTIONS, noise=4.0)
    assert rho_of_tree(options, 3) == 4 * (4 * 3) / (2 * 16)
    assert rho_of_tree(OPTIONS, 3) == 0
    assert epsilon(0.5, 1e-6) == pytest.approx(0.5 + 2 * math.sqrt(0.5 * math.log(1e6)))


def test_trees_of_noisy_sums():
    parts, predicted = split_models(replace(OPTIONS, noise=2.0))
    exact, reference = pooled_model(OPTIONS)
    assert parts["alice"].trees != exact.trees
    assert 0.7 < auc(Y, predicted) < auc(Y, reference)
    # Four trees of depth four; bob has three columns, carol two.
    assert parts["bob"].rho == 4 * 4 * 12 / 8 == parts["alice"].rho
    assert parts["carol"].rho == 4 * 4 * 8 / 8


def test_own_first_trees_cost_nothing():
    parts, _ = split_models(replace(OPTIONS, noise=2.0, own_trees=3))
    assert parts["bob"].rho == 4 * 12 / 8
