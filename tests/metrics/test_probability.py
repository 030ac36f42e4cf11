import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from isthmus.errors import MetricError
from isthmus.metrics import binary_metrics, brier, calibration, log_loss, wilson

ROWS = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1)


@given(ROWS)
def test_losses_are_those_of_scikit_learn(rows):
    labels, p = map(np.array, zip(*rows, strict=True))
    assert brier(labels, p) == pytest.approx(oracle.brier_score_loss(labels, p), abs=1e-12)
    for precision in (np.float64, np.float32):
        given = p.astype(precision)
        theirs = oracle.log_loss(labels, given, labels=[False, True])
        assert log_loss(labels, given) == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@given(ROWS, st.integers(1, 12))
def test_calibration_bins_hold_every_row_once(rows, bins):
    labels, p = map(np.array, zip(*rows, strict=True))
    table = calibration(labels, p, bins=bins)
    assert table.count.sum() == len(rows)
    assert 1 <= table.count.size <= bins
    assert table.observed @ table.count == pytest.approx(labels.sum())
    assert table.predicted @ table.count == pytest.approx(p.sum())
    assert (np.diff(table.predicted) > 0).all()
    assert (table.low <= table.observed + 1e-12).all()
    assert (table.high >= table.observed - 1e-12).all()


def test_calibration_bins_are_equal_where_they_can_be():
    p = np.linspace(0, 1, 1000)
    np.testing.assert_array_equal(calibration(p > 0.5, p).count, 100)
    assert calibration(p > 0.5, np.full(1000, 0.3)).count.tolist() == [1000]


def test_wilson_interval_of_a_textbook_case():
    low, high = wilson(0.1, 10)  # 1 of 10; Newcombe (1998), method 3
    assert (round(float(low), 4), round(float(high), 4)) == (0.0179, 0.4042)


def test_binary_metrics_holds_all_figures():
    rng = np.random.default_rng(1)
    p = rng.random(500).astype(np.float32)
    labels = rng.random(500) < p
    figures = binary_metrics(labels.astype(np.float32), p)
    assert figures.rows == 500
    assert figures.positives == labels.sum()
    assert figures.auc == pytest.approx(oracle.roc_auc_score(labels, p))
    assert figures.log_loss == pytest.approx(oracle.log_loss(labels, p), rel=1e-5)
    assert figures.brier == pytest.approx(oracle.brier_score_loss(labels, p), rel=1e-5)


@pytest.mark.parametrize("metric", [log_loss, brier, calibration, binary_metrics])
@pytest.mark.parametrize("p", [[0.5, 1.5], [-0.1, 0.5], [0.5, np.nan], [0.5]])
def test_bad_probabilities_are_one_clear_error(metric, p):
    with pytest.raises(MetricError, match="probabilities"):
        metric([0, 1], p)
