import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isthmus.errors import MetricError
from isthmus.metrics import auc, ks, lift_table, roc_curve

# Scores from a small set, so that ties are the rule.
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 4)), min_size=2)


def both(rows):
    return 0 < sum(label for label, _, _ in rows) < len(rows)


@given(ROWS.filter(both))
def test_auc_is_that_of_scikit_learn(rows):
    labels, scores, weights = map(np.array, zip(*rows, strict=True))
    assert auc(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert auc(labels, scores, weights) == pytest.approx(
        oracle.roc_auc_score(labels, scores, sample_weight=weights)
    )


@given(ROWS.filter(both))
def test_roc_and_ks_are_those_of_scikit_learn(rows):
    labels, scores, _ = map(np.array, zip(*rows, strict=True))
    false, true, thresholds = oracle.roc_curve(labels, scores, drop_intermediate=False)
    ours = roc_curve(labels, scores)
    np.testing.assert_allclose(ours.false_positive_rate, false)
    np.testing.assert_allclose(ours.true_positive_rate, true)
    np.testing.assert_allclose(ours.thresholds[1:], thresholds[1:])
    assert ks(labels, scores) == pytest.approx(np.abs(true - false).max())


@given(ROWS.filter(both))
def test_a_weight_counts_like_repeated_rows(rows):
    labels, scores, weights = map(np.array, zip(*rows, strict=True))
    repeated = auc(np.repeat(labels, weights), np.repeat(scores, weights))
    assert auc(labels, scores, weights) == pytest.approx(repeated)


def test_a_thinned_roc_keeps_its_ends_and_its_area():
    rng = np.random.default_rng(3)
    labels = rng.random(20_000) < 0.3
    scores = rng.normal(size=20_000) + labels
    curve = roc_curve(labels, scores, points=150)
    assert curve.thresholds.size <= 150
    ends = curve.false_positive_rate[[0, -1]], curve.true_positive_rate[[0, -1]]
    np.testing.assert_array_equal(ends, [[0, 1], [0, 1]])
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(auc(labels, scores), abs=2e-4)


def test_lift_of_a_perfect_ranking():
    labels = np.repeat([1, 0], [20, 80])
    table = lift_table(labels, np.arange(100)[::-1])
    np.testing.assert_allclose(table.lift, [5, 5] + [0] * 8)
    np.testing.assert_allclose(table.gain, [0.5] + [1] * 9)
    np.testing.assert_allclose(table.rows, 10)


def test_lift_shares_tied_rows_out_whatever_their_order():
    labels = np.repeat([1, 0], [20, 80])
    table = lift_table(labels, np.zeros(100))
    np.testing.assert_allclose(table.lift, 1)
    np.testing.assert_allclose(table.positives, 2)


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([1, 1], [0.1, 0.2], "all 2 labels are 1"),
        ([0, 0], [0.1, 0.2], "all 2 labels are 0"),
        ([0, 1], [0.1, np.nan], "1 of 2 scores are NaN"),
        ([0, 1], [0.1, np.inf], "1 of 2 scores are NaN"),
        ([0, 1], [0.1], r"shape \(1,\) for 2 labels"),
        ([0, 2], [0.1, 0.2], "must be 0 or 1"),
        ([0, np.nan], [0.1, 0.2], "must be 0 or 1"),
        ([], [], "at least one"),
        ([[0, 1]], [[0.1, 0.2]], "at least one"),
    ],
)
@pytest.mark.parametrize("metric", [auc, ks, roc_curve, lift_table])
def test_bad_input_is_one_clear_error(metric, labels, scores, said):
    with pytest.raises(MetricError, match=said):
        metric(labels, scores)


@pytest.mark.parametrize("weights", [[-1, 1], [1], [0, 1], [np.nan, 1]])
def test_bad_weights_are_one_clear_error(weights):
    with pytest.raises(MetricError, match="weight"):
        auc([0, 1], [0.1, 0.2], weights)
