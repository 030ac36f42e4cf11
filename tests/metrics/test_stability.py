import numpy as np
import pytest

from isthmus.errors import MetricError
from isthmus.metrics.stability import psi, psi_of_scores, score_stability


def test_psi_by_hand():
    found = psi([50, 30, 20], [40, 40, 20])
    by_hand = (0.4 - 0.5) * np.log(0.4 / 0.5) + (0.4 - 0.3) * np.log(0.4 / 0.3)
    assert found == pytest.approx(by_hand, abs=1e-12)
    assert psi([5, 5], [500, 500]) == 0
    assert found == pytest.approx(psi([40, 40, 20], [50, 30, 20]))


def test_an_empty_bin_is_adjusted_and_one_empty_in_both_does_not_count():
    found = psi([90, 10, 0], [100, 0, 0])
    tail = (0.5 / 100 - 10.5 / 100) * np.log(0.5 / 10.5)
    assert found == pytest.approx((1 - 0.9) * np.log(1 / 0.9) + tail, abs=1e-12)
    assert psi([90, 10], [100, 0], adjustment=0) == pytest.approx(0.1 * np.log(1 / 0.9))


def test_psi_of_scores_is_small_for_one_population_and_great_for_another():
    rng = np.random.default_rng(0)
    before, same, other = rng.normal(size=5000), rng.normal(size=5000), rng.normal(1, 1, 5000)
    assert psi_of_scores(before, same) < 0.02
    assert psi_of_scores(before, other) > 0.5
    edges = np.quantile(before, np.arange(1, 10) / 10, method="inverted_cdf")
    counts = [np.bincount(np.searchsorted(edges, s), minlength=10) for s in (before, other)]
    assert psi_of_scores(before, other) == psi(*counts)
    table = score_stability(before, other)
    np.testing.assert_array_equal(table.edges, edges)
    np.testing.assert_allclose([table.before, table.after], np.array(counts) / 5000)
    assert table.psi == psi_of_scores(before, other)


@pytest.mark.parametrize(
    ("before", "after"),
    [([1, 2], [1]), ([0, 0], [1, 2]), ([-1, 2], [1, 2]), ([np.nan, 1], [1, 2]), ([], []), (1, 1)],
)
def test_counts_that_have_no_stability(before, after):
    with pytest.raises(MetricError):
        psi(before, after)


def test_scores_that_have_no_stability():
    with pytest.raises(MetricError, match="scores of both"):
        psi_of_scores([], [0.5])
    with pytest.raises(MetricError, match="NaN"):
        psi_of_scores([np.nan], [0.5])
