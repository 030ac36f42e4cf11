import time

import numpy as np
import pytest

from isthmus.errors import MetricError
from isthmus.metrics import auc, bootstrap_uplift


def two_models(rows, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.55
    shared = rng.normal(size=rows)
    return labels, labels + shared + 0.5 * rng.normal(size=rows), 0.6 * labels + shared


def test_the_mean_is_the_difference_and_lies_in_the_interval():
    labels, a, b = two_models(2000)
    uplift = bootstrap_uplift(labels, a, b, seed=1)
    assert uplift.mean == pytest.approx(auc(labels, a) - auc(labels, b))
    assert uplift.low < uplift.mean < uplift.high
    assert uplift.excludes_zero
    other = bootstrap_uplift(labels, b, a, seed=1)
    assert (other.mean, other.low) == (pytest.approx(-uplift.mean), pytest.approx(-uplift.high))


def test_it_is_the_plain_bootstrap_with_the_same_draws():
    labels, a, b = two_models(60, seed=4)
    a = a.round(1)  # ties
    rng = np.random.default_rng(9)
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    differences = []
    for _ in range(50):
        rows = np.concatenate(
            [
                positive[rng.integers(0, positive.size, positive.size)],
                negative[rng.integers(0, negative.size, negative.size)],
            ]
        )
        differences.append(auc(labels[rows], a[rows]) - auc(labels[rows], b[rows]))
    uplift = bootstrap_uplift(labels, a, b, seed=9, resamples=50)
    low, high = np.quantile(differences, [0.025, 0.975])
    assert uplift.low == pytest.approx(low)
    assert uplift.high == pytest.approx(high)


def test_it_holds_zero_as_often_as_it_says():
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.arange(300) % 2
        a, b = rng.normal(size=(2, 300)) + labels
        uplift = bootstrap_uplift(labels, a, b, seed=seed, resamples=200, level=0.8)
        held += not uplift.excludes_zero
    assert 38 <= held <= 57  # 48 expected; about three standard deviations each way


def test_the_same_model_gains_nothing():
    labels, a, _ = two_models(200)
    uplift = bootstrap_uplift(labels, a, a, seed=0, resamples=50)
    assert (uplift.mean, uplift.low, uplift.high) == (0, 0, 0)
    assert not uplift.excludes_zero


def test_it_is_reproducible_and_fast():
    labels, a, b = two_models(16_000)
    began = time.perf_counter()
    first = bootstrap_uplift(labels, a, b, seed=5)
    assert time.perf_counter() - began < 5  # 0.2 s on an idle core
    assert first == bootstrap_uplift(labels, a, b, seed=5)
    assert first != bootstrap_uplift(labels, a, b, seed=6)


def test_bad_input_is_one_clear_error():
    with pytest.raises(MetricError, match="all 3 labels"):
        bootstrap_uplift([1, 1, 1], [1, 2, 3], [1, 2, 3], seed=0)
    with pytest.raises(MetricError, match="NaN"):
        bootstrap_uplift([0, 1], [1, 2], [1, np.nan], seed=0)
    with pytest.raises(MetricError, match="20 resamples"):
        bootstrap_uplift([0, 1], [1, 2], [1, 2], seed=0, resamples=5)
