"""A party's own bins: how columns are cut, what gets a bin of its own, and the WOE of it."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import DataError, JobError
from isthmus.session import Session
from isthmus.stats import BinningOptions, WoeFit, fit_bins, fit_woe, woe_table
from isthmus.stats.columns import read

RNG = np.random.default_rng(7)
ALONE = Session(me="bob", parties=("bob",), label_party="bob")


def bins_of(values, label=None, name="x", **options):
    table = pl.DataFrame({name: values})
    bins = fit_bins(table, BinningOptions(**options), label)[name]
    return bins, bins.codes(read(table[name]))


@given(
    st.lists(st.one_of(st.none(), st.integers(-3, 12).map(float)), min_size=1, max_size=80),
    st.sampled_from(["quantile", "width"]),
    st.integers(2, 6),
    st.integers(1, 5),
)
def test_bins_cover_all_rows_and_none_is_too_small(values, method, number, least):
    if len(values) < least:
        return
    column = pl.Series(values, dtype=pl.Float64)
    bins, codes = bins_of(column, method=method, bins=number, least=least, special={"x": [3.0]})
    counts = bins.counts(codes)
    assert counts.sum() == len(values)
    assert (counts >= least).all()
    assert bins.values <= number
    assert len(bins.labels()) == bins.count


def test_value_bins_are_open_below_and_closed_above():
    bins, codes = bins_of(
        [0.0, 1.0, 1.5, 2.0, 3.0], method="custom", edges={"x": [1.0, 2.0]}, least=1
    )
    assert codes.tolist() == [0, 0, 1, 1, 2]
    assert bins.labels() == ("(-inf, 1]", "(1, 2]", "(2, inf)")


def test_quantiles_are_of_about_equal_count_and_ties_stay_together():
    bins, codes = bins_of(RNG.permutation(1000).astype(float), bins=8)
    assert bins.counts(codes).tolist() == [125] * 8
    _, codes = bins_of(np.repeat([0.0, 1.0, 2.0], [900, 50, 50]), bins=10)
    assert np.bincount(codes).tolist() == [900, 100]
    bins, codes = bins_of(np.zeros(50))
    assert (bins.edges, codes.max()) == ((), 0)


def test_equal_width():
    bins, _ = bins_of(np.arange(101.0), method="width", bins=4, least=1)
    np.testing.assert_allclose(bins.edges, [25, 50, 75])


def test_special_values_and_missing_have_bins_of_their_own_unless_too_small():
    values = [1.0] * 30 + [2.0] * 30 + [-1.0] * 25 + [None] * 21 + [-2.0] * 3
    bins, codes = bins_of(values, special={"x": [-1, -2]})
    assert bins.labels() == ("(-inf, 1] or = -2", "(1, inf)", "= -1", "missing")
    assert bins.counts(codes).tolist() == [33, 30, 25, 21]
    assert bins.values == 2
    # Never seen while fitting: no bin.
    bins, _ = bins_of([1.0] * 30 + [2.0] * 30)
    assert bins.codes(read(pl.Series("x", [None, 5.0]))).tolist() == [-1, 1]


def test_categories_by_frequency_with_the_rest_as_others():
    values = ["a"] * 50 + ["b"] * 30 + ["c"] * 12 + ["d"] * 11 + [None] * 25 + ["?"] * 21
    bins, codes = bins_of(values, categories=2, special={"x": ["?"]})
    assert bins.labels() == ("a", "b", "others", "= ?", "missing")
    assert bins.counts(codes).tolist() == [50, 30, 23, 21, 25]
    found = bins.codes(read(pl.Series("x", ["b", "new", None])))
    assert found.tolist() == [1, 2, 4]
    flags, codes = bins_of([True] * 30 + [False] * 40)
    assert flags.labels() == ("false", "true")


def test_a_category_never_seen_has_no_bin():
    bins, _ = bins_of(["a"] * 30 + ["b"] * 30)
    assert bins.codes(read(pl.Series("x", ["c", "a"]))).tolist() == [-1, 0]


def test_monotone_bins_of_categories_are_sorted_by_their_rate():
    names = np.array(["p", "q", "r", "s"])[np.repeat(np.arange(4), 200)]
    label = np.concatenate([np.arange(200) < n for n in (100, 20, 102, 22)])
    bins, codes = bins_of(names, label, method="monotone", bins=2)
    assert bins.labels() == ("p or r", "q or s")
    assert bins.count == 2
    assert np.bincount(codes).tolist() == [400, 400]


def test_monotone_and_chi_follow_the_label():
    x = RNG.normal(size=4000)
    label = RNG.random(4000) < 1 / (1 + np.exp(1 - 2 * x))
    for method in ("monotone", "chi"):
        bins, codes = bins_of(x, label, method=method, bins=6)
        rows, hits = np.bincount(codes), np.bincount(codes[label])
        assert 2 < bins.count <= 6
        if method == "monotone":
            assert (np.diff(hits / rows) >= 0).all()


def test_woe_and_iv_by_hand():
    # 100 positives, 400 negatives. FATE: ln of positive share over negative share.
    table = woe_table([200, 250, 50], [20, 30, 50])
    expected = np.log(
        [(20 / 100) / (180 / 400), (30 / 100) / (220 / 400), (50.5 / 100) / (0.5 / 400)]
    )
    np.testing.assert_allclose(table.woe, expected, atol=1e-12)
    parts = (np.array([0.2, 0.3, 0.505]) - np.array([0.45, 0.55, 0.00125])) * expected
    np.testing.assert_allclose(table.iv, parts, atol=1e-12)
    assert table.total_iv == pytest.approx(parts.sum())


def test_without_adjustment_a_bin_of_one_class_counts_nothing_as_in_optbinning():
    table = woe_table([200, 250, 50], [20, 30, 50], adjustment=0)
    assert (table.woe[2], table.iv[2]) == (0, 0)
    rate = np.array([20 / 200, 30 / 250])
    # optbinning's documented formula: ln(1 / rate - 1) + ln(events / non-events).
    np.testing.assert_allclose(-np.array(table.woe[:2]), np.log(1 / rate - 1) + np.log(100 / 400))


def test_a_label_party_alone_bins_transforms_selects_and_is_kept_as_json():
    x, noise = RNG.normal(size=2000), RNG.normal(size=2000)
    label = (x + RNG.normal(size=2000) > 1).astype(int)
    table = pl.DataFrame({"x": x, "noise": noise})
    fit = fit_woe(ALONE, table, label=label, options=BinningOptions(bins=5))
    (good, poor) = fit.ivs().rows(named=True)
    assert (good["column"], poor["column"]) == ("x", "noise")
    assert good["iv"] > 0.5 > 0.05 > poor["iv"]
    codes = np.searchsorted(fit.columns[0].bins.edges, x)
    rows, hits = np.bincount(codes), np.bincount(codes[label == 1])
    woe = np.log((hits / hits.sum()) / ((rows - hits) / (rows - hits).sum()))
    np.testing.assert_allclose(fit.transform(table)["x"], woe[codes], atol=1e-12)
    assert WoeFit.from_json(fit.to_json()) == fit
    with pytest.raises(DataError, match="no binning"):
        WoeFit.from_json('{"rows": 3}')
    moved = fit.stability(table, table.with_columns(x=pl.col("x") + 1))
    assert moved["x"] > 0.25
    assert moved["noise"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "magic"}, "no method 'magic'"),
        ({"bins": 1}, "bins is 1"),
        ({"least": 0}, "least is 0"),
        ({"trend": "down"}, "trend 'down'"),
    ],
)
def test_impossible_options(options, said):
    with pytest.raises(JobError, match=said):
        BinningOptions(**options)


@pytest.mark.parametrize(
    ("values", "options", "error", "said"),
    [
        ([1.0, 2.0], {}, DataError, "'x' has 2 rows, a bin must have 20"),
        ([1.0, np.inf], {}, DataError, "'x' has infinite"),
        ([1.0, -1e300], {}, DataError, "'x' has values beyond 1e\\+100"),
        ([1.0] * 30, {"method": "custom"}, JobError, "'x' has no edges"),
        ([1.0] * 30, {"edges": {"x": [2.0, 1.0]}}, JobError, "do not rise"),
        ([1.0] * 30, {"edges": {"y": [2.0]}}, JobError, "the column 'y'"),
        ([1.0] * 30, {"special": {"x": ["a"]}}, JobError, "must be numbers"),
        ([1.0] * 30, {"special": {"x": [np.nan]}}, JobError, "must be numbers"),
        (["a"] * 30, {"special": {"x": [1.0]}}, JobError, "must be text"),
    ],
)
def test_what_cannot_be_binned(values, options, error, said):
    with pytest.raises(error, match=said):
        bins_of(values, **options)


@pytest.mark.parametrize("table", [np.zeros((30, 2)), [1, 2]])
def test_a_table_has_columns_by_name(table):
    with pytest.raises(DataError, match=f"not of type {type(table).__name__}") as caught:
        fit_bins(table, BinningOptions())
    assert "schema" in caught.value.mend


def test_a_date_is_no_column_and_a_column_keeps_its_kind():
    with pytest.raises(DataError, match="kind Date"):
        read(pl.Series("d", ["2020-01-01"]).str.to_date())
    bins, _ = bins_of([1.0] * 30)
    with pytest.raises(DataError, match="another kind"):
        bins.codes(read(pl.Series("x", ["a"])))


@pytest.mark.parametrize(
    ("label", "said"),
    [([0, 1, 2] * 10, "other values"), ([1] * 30, "all 30 labels are 1"), ([0, 1], "has 2 rows")],
)
def test_what_is_no_label(label, said):
    with pytest.raises(DataError, match=said):
        fit_woe(ALONE, {"x": np.arange(30.0)}, label=label)
