"""Bins, losses, cuts, draws and options by themselves."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import DataError, JobError
from isthmus.trees import TreeOptions
from isthmus.trees.binning import fit_bins
from isthmus.trees.drawing import Draws
from isthmus.trees.losses import loss_of
from isthmus.trees.nodes import NodeRows
from isthmus.trees.shape import BinShape, Coded, Cut, goes_left


def bins_of(values, bins=8, least=5, learnt=None):
    table = pl.DataFrame({"x": values})
    kept = np.ones(len(values), bool) if learnt is None else learnt
    found = fit_bins(table, kept, bins, least)
    return (found[0], found[0].codes(table)) if found else (None, None)


@given(st.lists(st.integers(0, 30), min_size=10, max_size=300), st.integers(2, 12))
def test_bins_are_in_order_and_not_too_small(values, bins):
    one, codes = bins_of([float(value) for value in values], bins)
    if one is None:
        return
    counts = np.bincount(codes, minlength=one.width)
    assert one.values <= bins
    assert counts.min() >= 5
    order = np.argsort(values, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    # The same value is always in the same bin.
    assert len({(value, code) for value, code in zip(values, codes, strict=True)}) == len(
        set(values)
    )


def test_even_values_make_even_bins_and_a_frequent_value_has_its_own():
    _, codes = bins_of(np.arange(800.0))
    assert np.bincount(codes).tolist() == [100] * 8
    one, codes = bins_of(np.concatenate([np.zeros(500), np.arange(1.0, 501)]), bins=6)
    assert one.edges[0] == 0.5
    assert np.bincount(codes).tolist() == [500] + [100] * 5


def test_missing_values_have_a_bin_if_there_are_enough():
    one, codes = bins_of([None] * 6 + [1.0] * 10 + [2.0] * 20)
    assert (one.values, one.width, codes[0]) == (2, 3, 2)
    few, codes = bins_of([None] * 2 + [1.0] * 10 + [2.0] * 20)
    assert (few.values, few.width, codes[0]) == (2, 2, 1)
    none, _ = bins_of([1.0] * 10 + [2.0] * 20)
    # There a value that is missing later has a code of its own, for the cut's side.
    assert none.codes(pl.DataFrame({"x": [None, float("nan"), 0.0]})).tolist() == [2, 2, 0]


def test_categories_by_frequency_with_one_bin_for_all_others():
    values = ["b"] * 20 + ["a"] * 10 + ["c"] * 7 + ["d"] * 2 + ["e"] * 3 + [None] * 6
    one, codes = bins_of(values)
    assert one.categories == ("b", "a", "c")
    assert np.bincount(codes).tolist() == [20, 10, 7, 5, 6]
    assert one.codes(pl.DataFrame({"x": ["new", None, "b"]})).tolist() == [3, 4, 0]
    # Too few others for a bin: they join the rarest category.
    rare, codes = bins_of(["b"] * 20 + ["a"] * 10 + ["d"] * 2)
    assert rare.categories == ("b",)
    assert np.bincount(codes).tolist() == [20, 12]


def test_bins_are_of_the_rows_learnt_from():
    learnt = np.arange(100) < 50
    one, _ = bins_of(np.arange(100.0), learnt=learnt)
    assert max(one.edges) < 50


def test_a_column_of_one_value_is_left_out():
    assert bins_of([1.0] * 50) == (None, None)
    assert bins_of([None] * 50) == (None, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [([1.0, float("inf")] * 20, "infinite"), ([pl.Series([1])] * 20, "neither numbers nor text")],
)
def test_columns_that_cannot_be_used(values, said):
    with pytest.raises(DataError, match=said):
        bins_of(values)


def test_a_column_of_another_kind_or_none_in_prediction():
    one, _ = bins_of(["a"] * 20 + ["b"] * 20)
    with pytest.raises(DataError, match="was text"):
        one.codes(pl.DataFrame({"x": [1.0]}))
    with pytest.raises(DataError, match="no column 'x'"):
        one.codes(pl.DataFrame({"y": [1.0]}))


@pytest.mark.parametrize("name", ["binary", "real", "poisson", "multiclass"])
def test_derivatives_are_those_of_the_loss(name):
    rng = np.random.default_rng(0)
    loss = loss_of(TreeOptions(objective=name, classes=3 if name == "multiclass" else None))
    labels = rng.integers(0, 2, 40).astype(float)
    scores = rng.normal(size=(40, 3 if name == "multiclass" else 1))
    first, second = loss.derivatives(labels, scores)
    step, factor = 1e-4, {"multiclass": 1.5, "poisson": np.exp(0.7)}.get(name, 1.0)
    for each in range(scores.shape[1]):
        shift = step * (np.arange(scores.shape[1]) == each)
        up, here, down = (loss.losses(labels, scores + s) for s in (shift, 0 * shift, -shift))
        np.testing.assert_allclose(first[:, each], (up - down) / (2 * step), atol=1e-6)
        np.testing.assert_allclose(
            second[:, each], factor * (up - 2 * here + down) / step**2, atol=1e-5
        )


@pytest.mark.parametrize("name", ["binary", "real", "poisson", "multiclass"])
def test_the_start_is_the_constant_of_least_loss(name):
    rng = np.random.default_rng(0)
    loss = loss_of(TreeOptions(objective=name, classes=3 if name == "multiclass" else None))
    labels = rng.integers(0, 2 if name == "binary" else 3, 60).astype(float)
    weights = rng.random(60) + 0.1
    start = loss.start(labels, weights)
    first, _ = loss.derivatives(labels, np.tile(start, (60, 1)))
    np.testing.assert_allclose(weights @ first, 0.0, atol=1e-12)
    mean = loss.mean(np.tile(start, (60, 1)))
    if name != "multiclass":
        np.testing.assert_allclose(mean, np.average(labels, weights=weights))


SHAPE = BinShape((3, 1, 4), (True, True, False))


def test_cuts_of_columns_with_and_without_missing_values():
    assert SHAPE.widths == (4, 2, 4)
    np.testing.assert_array_equal(SHAPE.cuts[0], [1, 1, 1, 0, 1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(SHAPE.cuts[1], [1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    for direction, place in np.argwhere(SHAPE.cuts):
        assert SHAPE.place(SHAPE.cut(direction, place)) == (direction, place)
    assert SHAPE.place(Cut(2, 1, True)) == (0, 7)
    for cut in (Cut(0, 2, True), Cut(0, 3, False), Cut(3, 0, False), Cut(-1, 0, False)):
        assert SHAPE.place(cut) is None


def test_left_sums_counts_and_sides_agree():
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, width, 200) for width in SHAPE.widths], 1).astype(np.int16)
    coded, rows = Coded(codes, SHAPE), np.arange(0, 200, 3)
    numbers = rng.integers(-9, 9, (200, 2)).astype(float)
    sums, counts = coded.sums(rows, numbers), coded.counts(rows)
    allowed = SHAPE.allowed(counts, 18)
    for direction, place in np.argwhere(SHAPE.cuts):
        left = coded.goes_left(SHAPE.cut(direction, place), rows)
        assert SHAPE.left(sums[:, 0])[direction, place] == numbers[rows[left], 0].sum()
        enough = min(left.sum(), (~left).sum()) >= 18
        assert allowed[direction, place] == enough
    assert 0 < allowed.sum() < SHAPE.cuts.sum()


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 2))
def test_groups_have_enough_rows_in_every_node(seed, least, nodes):
    rng = np.random.default_rng(seed)
    counts = [rng.integers(0, 25, SHAPE.total) for _ in range(nodes)]
    before = rng.random(SHAPE.total) < 0.8
    lasts = SHAPE.starts + np.array(SHAPE.widths) - 1
    before[lasts] = True
    ends = SHAPE.ends(counts, before, least)
    assert not (ends & ~before).any()
    assert ends[lasts].all()
    for each in counts:
        shares = np.stack([each, -each], axis=1).astype(np.uint64)
        grouped = SHAPE.grouped(shares, ends).view(np.int64)
        assert (grouped[~ends] == 0).all()
        np.testing.assert_array_equal(
            np.add.reduceat(grouped, SHAPE.starts),
            np.add.reduceat(shares.view(np.int64), SHAPE.starts),
        )
        for column, (start, last) in enumerate(zip(SHAPE.starts, lasts, strict=True)):
            some = grouped[start : last + 1, 0][ends[start : last + 1]]
            assert len(some) == 1 or some.min() >= least, column
        # A cut between groups has the same sums on its left by groups as by bins.
        between = SHAPE.cuts & SHAPE.between(ends)
        np.testing.assert_array_equal(SHAPE.left(grouped[:, 0])[between], SHAPE.left(each)[between])


def test_no_more_is_put_together_than_has_to_be():
    shape = BinShape((4, 3), (True, False))
    everything = np.ones(8, bool)
    ends = shape.ends([np.array([5, 1, 5, 9, 4, 6, 6, 6])], everything, 5)
    assert ends.tolist() == [True, False, True, False, True, True, True, True]
    assert shape.between(ends)[1].tolist()[:5] == [False] * 5  # missing rows are not apart


def test_missing_rows_go_where_the_cut_says():
    codes = np.array([0, 1, 2, 3], np.int16)
    assert goes_left(codes, Cut(0, 1, True), 3).tolist() == [True, True, False, True]
    assert goes_left(codes, Cut(0, 1, False), 3).tolist() == [True, True, False, False]


def test_nodes_hold_all_rows_and_learn_from_some():
    nodes = NodeRows(np.array([True, True, False, True, True]))
    left, right = nodes.split(0, np.array([True, False, True, True, False]))
    assert nodes.rows(left).tolist() == [0, 2, 3]
    assert nodes.learnt(left).tolist() == [0, 3]
    assert nodes.smaller(left) == (left, right)
    options = TreeOptions(min_rows=1, depth=2)
    assert nodes.wanted([left], options) == [left]
    assert nodes.wanted([left], replace(options, min_rows=2)) == []
    assert nodes.wanted([left], replace(options, depth=1)) == []
    assert nodes.wanted([left], replace(options, leaves=2)) == []


def test_one_side_sampling_keeps_the_sum_in_the_mean():
    options = TreeOptions(goss=(0.2, 0.2))
    sizes = np.arange(100.0)
    used = np.ones(100, bool)
    factors = [
        Draws(np.random.default_rng(seed), options).factors(used, sizes) for seed in range(9)
    ]
    for one in factors:
        assert (one[80:] == 1).all()
        assert sorted(set(one[:80])) == [0.0, 4.0]
        assert one.sum() == 100.0
    assert any((one != factors[0]).any() for one in factors[1:])


def test_rows_and_columns_are_drawn_in_number():
    options = TreeOptions(subsample=0.3, columns=0.5)
    draws = Draws(np.random.default_rng(0), options)
    learnt = np.arange(50) < 40
    rows = draws.rows(learnt)
    assert rows.sum() == 12
    assert not (rows & ~learnt).any()
    chosen = draws.columns([3, 0, 5])
    assert sum(map(len, chosen)) == 4
    assert chosen[1] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "ranking"},
        {"objective": "multiclass"},
        {"classes": 3},
        {"trees": 0},
        {"trees": 2.0},
        {"learning_rate": 0.0},
        {"depth": 25},
        {"leaves": 1},
        {"bins": 1},
        {"l2": -1.0},
        {"min_rows": 0},
        {"min_hessian": float("nan")},
        {"min_gain": -1.0},
        {"subsample": 0.0},
        {"columns": 1.5},
        {"goss": (0.8, 0.4)},
        {"goss": (0.8,)},
        {"patience": 0},
        {"own_trees": 21},
        {"bits": 41},
        {"seed": -1},
        {"cell": 0},
        {"noise": -1.0},
        {"noise": 1001.0},
    ],
)
def test_options_that_cannot_be_are_named(wrong):
    with pytest.raises(JobError, match=next(iter(wrong))):
        TreeOptions(**wrong)
