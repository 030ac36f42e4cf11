"""Means, paired tests and the leak check of comparisons, against cases that are known."""

from itertools import product
from math import log2

import numpy as np
import pytest

from isthmus.fedrec.compare.leak import check, impossible, spread
from isthmus.fedrec.compare.statistics import (
    against,
    bootstrap,
    client_values,
    holm,
    mean_of,
    sign_flip,
)
from isthmus.fedrec.evaluate import metrics


def test_mean_and_deviation():
    found = mean_of([1.0, 2.0, 6.0])
    assert (found.mean, found.seeds) == (3.0, 3)
    assert found.deviation == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert mean_of([0.5]).deviation is None


def test_a_clients_metric_follows_from_its_rank():
    rank = np.array([1, 2, 10, 11, 0], np.int32)
    np.testing.assert_allclose(client_values(rank, "hr@10"), [1, 1, 1, 0, np.nan])
    np.testing.assert_allclose(
        client_values(rank, "ndcg@10"), [1, 1 / log2(3), 1 / log2(11), 0, np.nan]
    )
    np.testing.assert_allclose(client_values(rank, "mrr@5"), [1, 0.5, 0, 0, np.nan])


@pytest.mark.parametrize("metric", ["hr@5", "ndcg@10", "recall@20", "mrr@10"])
def test_the_mean_over_clients_is_the_runs_metric(metric):
    rank = np.random.default_rng(0).integers(0, 40, 200).astype(np.int64)
    found = np.nanmean(client_values(rank.astype(np.int32), metric))
    assert found == pytest.approx(metrics(rank)[metric])


def test_the_bootstrap_interval_is_that_of_the_mean():
    rng = np.random.default_rng(1)
    table = np.stack([rng.normal(0.3, 1, 400), rng.normal(0, 1, 400), np.zeros(400)], 1)
    low, high, p = bootstrap(table, seed=0)
    error = table[:, :2].std(0) / 20
    np.testing.assert_allclose(low[:2], table[:, :2].mean(0) - 1.96 * error, atol=0.2 * error[0])
    np.testing.assert_allclose(high[:2], table[:, :2].mean(0) + 1.96 * error, atol=0.2 * error[0])
    assert p[0] < 0.001 < 0.05 < p[1]
    assert p[2] == 1.0


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])


def test_sign_flips_are_all_tried():
    values = np.array([0.3, 0.1, -0.05, 0.2])
    sums = [abs(np.dot(signs, values)) for signs in product((-1, 1), repeat=4)]
    wanted = np.mean([one >= abs(values.sum()) - 1e-12 for one in sums])
    assert sign_flip(values) == pytest.approx(wanted)
    assert sign_flip(np.ones(5)) == pytest.approx(2 / 2**5)
    assert sign_flip(np.ones(30)) < 0.01


def test_a_method_is_paired_with_the_reference_by_client_and_seed():
    reference = np.array([[1, 20, 20, 0], [20, 1, 20, 0]], np.int32)
    better = np.array([[1, 1, 20, 0], [1, 1, 20, 0]], np.int32)
    found, same = against([better, reference], reference, "hr@10")
    assert found.difference == pytest.approx(1 / 3)
    assert (found.seeds, found.won, found.p_seeds) == (2, 2, 0.5)
    assert (same.difference, same.won, same.p) == (0, 0, 1.0)


def test_a_method_with_fewer_seeds_is_compared_over_those():
    reference = np.array([[1, 1], [20, 20]], np.int32)
    (found,) = against([reference[:1]], reference, "hr@10")
    assert (found.seeds, found.difference) == (1, 0)
    assert against([], reference, "hr@10") == []


def test_the_leak_warning_is_one_sentence_with_its_page():
    found = check("authors", 0.893, 0.1, 0.01, popularity=0.398, honest=0.112)
    assert found.leaks
    for word in ("0.893", "0.100", "0.398", "0.112", "docs/fedrec/protocols.md"):
        assert word in found.sentence
    assert ". " not in found.sentence


@pytest.mark.parametrize("alone", [0.05, 0.1, 0.119])
def test_chance_is_no_leak(alone):
    assert not check("honest-sampled", alone, 0.1, 0.01).leaks


def test_a_protocol_that_leaks_by_its_rules_is_told_though_too_few_rounds_show_it():
    found = check("authors", 0.27, 0.1, 0.05, by_its_rules=True)
    assert not found.leaks
    assert "Its rules leak all the same" in found.sentence
    assert "leak all" not in check("honest-sampled", 0.12, 0.1, 0.05).sentence


def test_a_lump_of_clients_with_one_item_counts_once():
    hits = np.repeat([1.0, 0.0], [40, 360])
    apart = spread(hits, np.arange(400))
    lump = spread(hits, np.concatenate([np.zeros(40, int), np.arange(1, 361)]))
    assert apart == pytest.approx(np.sqrt(0.1 * 0.9 / 400))
    assert lump > 5 * apart
    assert impossible(0.1, 0.02, apart)
    assert not impossible(0.1, 0.02, lump)
