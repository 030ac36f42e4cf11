from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import MetricError
from isthmus.metrics import ScoreHistogram, auc, confusion, ks

ROWS = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2)


@given(ROWS.filter(lambda rows: 0 < sum(label for label, _ in rows) < len(rows)), st.integers(1, 5))
def test_shards_add_up_to_the_whole_within_the_stated_error(rows, shards):
    labels, p = map(np.array, zip(*rows, strict=True))
    parts = [
        ScoreHistogram.of(labels[k::shards], p[k::shards])
        for k in range(shards)
        if labels[k::shards].size
    ]
    total = reduce(add, parts, ScoreHistogram.empty())
    assert total.rows == len(rows)
    assert total.auc == ScoreHistogram.of(labels, p).auc
    assert abs(total.auc - auc(labels, p)) <= total.auc_error + 1e-12
    assert total.ks <= ks(labels, p) + 1e-12


def test_rare_clicks_keep_their_resolution():
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(7 - rng.normal(size=100_000)))
    labels = rng.random(100_000) < p
    histogram = ScoreHistogram.of(labels, p)
    assert histogram.auc_error < 0.002
    assert histogram.auc == pytest.approx(auc(labels, p), abs=0.002)
    assert histogram.ks == pytest.approx(ks(labels, p), abs=0.01)


def test_counts_by_threshold_add_up_over_shards():
    rng = np.random.default_rng(1)
    p = rng.beta(1, 5, 3000)
    labels = rng.random(3000) < p
    parts = [ScoreHistogram.of(labels[k::3], p[k::3], bins=256) for k in range(3)]
    ours = reduce(add, parts).confusion()
    theirs = confusion(labels, p, ours.thresholds)
    for name in ("true_positive", "false_positive", "true_negative", "false_negative"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (np.diff(ours.thresholds) < 0).all()
    assert ours.recall[-1] == ours.false_positive_rate[-1] == 1
    assert (ours.recall - ours.false_positive_rate).max() == pytest.approx(reduce(add, parts).ks)
    with pytest.raises(MetricError, match="one of the two classes"):
        ScoreHistogram.of([1], [0.5]).confusion()


def test_bad_input_is_one_clear_error():
    one_class = ScoreHistogram.of([1, 1], [0.0, 1.0])
    for figure in ("auc", "auc_error", "ks"):
        with pytest.raises(MetricError, match="one of the two classes"):
            getattr(one_class, figure)
    with pytest.raises(MetricError, match="do not add up"):
        one_class + ScoreHistogram.empty(bins=8)
    with pytest.raises(MetricError, match="NaN"):
        ScoreHistogram.of([0, 1], [0.5, np.nan])
    with pytest.raises(MetricError, match="same bins"):
        ScoreHistogram(np.zeros(3, np.int64), np.zeros(4, np.int64))
