import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isthmus.errors import MetricError
from isthmus.metrics import ks, lift_table
from isthmus.metrics.thresholds import average_precision, confusion, ks_curve, precision_recall

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)


@given(ROWS, st.integers(-1, 7))
def test_counts_and_ratios_are_those_of_scikit_learn(rows, cut):
    labels, scores = map(np.array, zip(*rows, strict=True))
    called = scores >= cut
    table = confusion(labels, scores, [cut])
    tn, fp, fn, tp = oracle.confusion_matrix(labels, called, labels=[False, True]).ravel()
    assert table.true_positive == tp
    assert table.false_positive == fp
    assert table.true_negative == tn
    assert table.false_negative == fn
    assert table.precision == pytest.approx(oracle.precision_score(labels, called, zero_division=1))
    assert table.recall == pytest.approx(oracle.recall_score(labels, called))
    assert table.f1 == pytest.approx(oracle.f1_score(labels, called, zero_division=0))
    assert table.accuracy == pytest.approx(oracle.accuracy_score(labels, called))
    assert table.called == pytest.approx(called.mean())
    expected = labels[called].mean() / labels.mean() if called.any() else 0
    assert table.lift == pytest.approx(expected)


@given(ROWS)
def test_precision_and_recall_at_all_scores_are_those_of_scikit_learn(rows):
    labels, scores = map(np.array, zip(*rows, strict=True))
    precision, recall, thresholds = oracle.precision_recall_curve(labels, scores)
    ours = confusion(labels, scores)
    np.testing.assert_allclose(ours.thresholds[::-1], thresholds)
    np.testing.assert_allclose(ours.precision[::-1], precision[:-1])
    np.testing.assert_allclose(ours.recall[::-1], recall[:-1])
    expected = oracle.average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected)


@given(ROWS)
def test_the_ks_curve_has_the_ks_where_it_says(rows):
    labels, scores = map(np.array, zip(*rows, strict=True))
    curve = ks_curve(labels, scores)
    assert curve.ks == pytest.approx(ks(labels, scores))
    gap = (scores[labels] >= curve.at).mean() - (scores[~labels] >= curve.at).mean()
    assert abs(gap) == pytest.approx(curve.ks)


def test_a_thinned_ks_curve_keeps_its_ends_and_the_ks():
    rng = np.random.default_rng(3)
    labels = rng.random(5000) < 0.3
    scores = rng.normal(size=5000) + labels
    curve = ks_curve(labels, scores, points=50)
    assert curve.thresholds.size <= 50
    assert (curve.positives[-1], curve.negatives[-1]) == (1, 1)
    assert np.abs(curve.positives - curve.negatives).max() == curve.ks == ks(labels, scores)


def test_gain_of_the_lift_table_is_the_recall_at_its_cut():
    rng = np.random.default_rng(5)
    labels, scores = rng.random(1000) < 0.2, rng.normal(size=1000)
    cut = np.sort(scores)[::-1][199]
    table = confusion(labels, scores, [cut])
    assert lift_table(labels, scores).gain[1] == pytest.approx(table.recall[0])


@given(ROWS)
def test_the_curve_of_precision_and_recall_is_that_of_scikit_learn(rows):
    labels, scores = map(np.array, zip(*rows, strict=True))
    precision, recall, thresholds = oracle.precision_recall_curve(labels, scores)
    curve = precision_recall(labels, scores)
    np.testing.assert_allclose(curve.thresholds[::-1], thresholds)
    np.testing.assert_allclose(curve.precision[::-1], precision[:-1])
    np.testing.assert_allclose(curve.recall[::-1], recall[:-1])
    assert curve.average == average_precision(labels, scores)


def test_a_thinned_curve_of_precision_and_recall_keeps_its_ends():
    rng = np.random.default_rng(3)
    labels = rng.random(5000) < 0.3
    scores = rng.normal(size=5000) + labels
    curve, whole = precision_recall(labels, scores, points=50), confusion(labels, scores)
    assert curve.thresholds.size <= 50
    assert curve.thresholds[0] == scores.max()
    assert curve.recall[-1] == 1
    assert np.diff(curve.recall).max() < 0.03
    at = np.searchsorted(-whole.thresholds, -curve.thresholds)
    np.testing.assert_array_equal(whole.precision[at], curve.precision)
    assert curve.average == average_precision(labels, scores)


def test_the_gains_curve_ends_with_all_rows():
    rng = np.random.default_rng(5)
    labels, scores = rng.random(1007) < 0.2, rng.normal(size=1007)
    table = lift_table(labels, scores, bins=100)
    assert (table.share[-1], table.gain[-1]) == (1, pytest.approx(1))
    assert table.cumulative_lift[-1] == pytest.approx(1)
    cut = np.sort(scores)[::-1][int(table.rows[:20].sum()) - 1]
    found = confusion(labels, scores, [cut])
    assert table.share[19] == pytest.approx(found.called[0])
    assert table.cumulative_lift[19] == pytest.approx(found.lift[0])
    few = lift_table([0, 1], [0.1, 0.2], bins=5)
    assert np.isfinite(few.cumulative_lift).all()


@pytest.mark.parametrize("thresholds", [[], [[0.5]], [np.nan]])
def test_impossible_thresholds(thresholds):
    with pytest.raises(MetricError, match="thresholds must be"):
        confusion([0, 1], [0.1, 0.2], thresholds)


def test_one_class_has_no_curve():
    with pytest.raises(MetricError, match="all 2 labels"):
        ks_curve([1, 1], [0.1, 0.2])
