"""Joining bins: by size, by ChiMerge, and the best monotone binning against trying all."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from isthmus.stats.merging import _chi_square, chi_merge, enough, monotone
from isthmus.stats.woe import evidence

COUNTS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=2, max_size=7).map(
    lambda pairs: [(rows, min(rows, hits)) for rows, hits in pairs]
)


def both(counts):
    return 0 < sum(hits for _, hits in counts) < sum(rows for rows, _ in counts)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 40))
def test_enough_leaves_groups_in_order_that_are_large_enough(sizes, least):
    groups = enough(sizes, least)
    assert groups[0] == 0
    assert set(np.diff(groups).tolist()) <= {0, 1}
    held = np.bincount(groups, weights=sizes)
    assert (held >= least).all() or held.size == 1


def test_enough_joins_the_smaller_neighbour():
    assert enough([30, 5, 20, 40], 10).tolist() == [0, 1, 1, 2]
    assert enough([30, 20, 5], 10).tolist() == [0, 1, 1]
    assert enough([10, 10], 10).tolist() == [0, 1]


@given(COUNTS)
def test_chi_square_is_that_of_scipy(counts):
    both_classes = [[hits, rows - hits] for rows, hits in counts]
    ours = _chi_square(np.array([[hits, rows] for rows, hits in counts], float))
    for found, pair in zip(ours, pairwise(both_classes), strict=True):
        table = np.array(pair)
        if table.sum(axis=0).all():
            expected = chi2_contingency(table, correction=False).statistic
            assert found == pytest.approx(expected, abs=1e-9)
        else:
            assert found == 0


def test_chi_merge_joins_what_is_alike_and_keeps_what_differs():
    rows, hits = [100] * 6, [10, 11, 9, 50, 51, 90]
    assert chi_merge(rows, hits, 10, 3.841).tolist() == [0, 0, 0, 1, 1, 2]
    assert chi_merge(rows, hits, 2, 0.0).tolist() == [0, 0, 0, 1, 1, 1]
    assert chi_merge([5, 5, 5], [1, 1, 1], 3, 3.841).tolist() in ([0, 1, 1], [0, 0, 1])


def all_groupings(bins, most):
    for cuts in range(min(most, bins)):
        for where in combinations(range(1, bins), cuts):
            yield np.searchsorted(where, np.arange(bins), side="right")


@given(COUNTS.filter(both), st.integers(2, 5), st.sampled_from(["auto", "rising", "falling"]))
def test_monotone_is_the_best_of_all_monotone_groupings(counts, most, trend):
    rows, hits = map(np.array, zip(*counts, strict=True))

    def value(groups):
        n, p = (np.bincount(groups, weights=x) for x in (rows, hits))
        steps = np.diff(p / n)
        turns = {"rising": (steps < 0).any(), "falling": (steps > 0).any()}
        turns["auto"] = turns["rising"] and turns["falling"]
        whole = (rows.sum(), hits.sum())
        return -np.inf if turns[trend] else evidence(n, p, totals=whole)[1].sum()

    best = max(value(groups) for groups in all_groupings(len(rows), most))
    found = monotone(rows, hits, most, trend=trend)
    assert found[0] == 0
    assert set(np.diff(found).tolist()) <= {0, 1}
    assert value(found) == pytest.approx(best, abs=1e-9)
