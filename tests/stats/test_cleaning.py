"""Cleaning rules against scikit-learn and NumPy: statistics of training rows, errors by column."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from isthmus.errors import DataError, JobError, StorageError
from isthmus.stats import Cleaning, CleanRule, fit_cleaning, rows_to_drop

RNG = np.random.default_rng(2)
ROWS = 300
X = np.where(RNG.random(ROWS) < 0.2, np.nan, np.round(RNG.normal(3, 2, ROWS), 1))
CITY = [None if u < 0.2 else "ulm" if u < 0.7 else "bonn" for u in RNG.random(ROWS)]
TABLE = pl.DataFrame({"x": X, "city": CITY, "whole": RNG.integers(0, 5, ROWS)})
TRAIN = np.arange(0, ROWS, 2)
WORDS = {"mean": "mean", "median": "median", "mode": "most_frequent", "zero": "constant"}


def clean(rule, values=X, rows=TRAIN):
    return fit_cleaning({"x": values}, {"x": rule}, rows).apply({"x": values})["x"]


@pytest.mark.parametrize("word", WORDS)
def test_missing_values_become_those_of_scikit_learn(word):
    oracle = SimpleImputer(strategy=WORDS[word], fill_value=0.0).fit(X[TRAIN, None])
    found = clean(CleanRule(missing=word)).to_numpy()
    np.testing.assert_allclose(found, oracle.transform(X[:, None]).ravel(), rtol=1e-12)


def test_a_value_given_keep_and_drop():
    assert clean(CleanRule(missing=-7)).to_numpy()[np.isnan(X)].tolist() == [-7] * np.isnan(X).sum()
    for word in ("keep", "drop"):
        found = clean(CleanRule(missing=word))
        assert found.null_count() == np.isnan(X).sum()
        assert not found.is_nan().any()


def test_clip_winsorise_fill_and_standardise_come_in_this_order():
    rule = CleanRule(missing="mean", clip=(0.0, 6.0), winsorise=0.1, standardise=True)
    known = X[TRAIN][~np.isnan(X[TRAIN])].clip(0, 6)
    low, high = np.quantile(known, (0.1, 0.9))
    filled = np.where(np.isnan(X), known.clip(low, high).mean(), X.clip(0, 6).clip(low, high))
    oracle = StandardScaler().fit(filled[TRAIN, None])
    expected = oracle.transform(filled[:, None]).ravel()
    np.testing.assert_allclose(clean(rule).to_numpy(), expected, atol=1e-12)


def test_standardised_gaps_stay_gaps():
    found = clean(CleanRule(standardise=True))
    assert found.null_count() == np.isnan(X).sum()
    training = found.gather(TRAIN).drop_nulls()
    assert training.mean() == pytest.approx(0, abs=1e-12)
    assert training.std(ddof=0) == pytest.approx(1)


def test_only_training_rows_count():
    other = np.where(np.isin(np.arange(ROWS), TRAIN), X, 1e9)
    first, second = (
        fit_cleaning({"x": v}, {"x": CleanRule(missing="mean", winsorise=0.1)}, TRAIN)
        for v in (X, other)
    )
    assert first == second
    assert first != fit_cleaning({"x": X}, {"x": CleanRule(missing="mean", winsorise=0.1)})


@pytest.mark.parametrize(("missing", "wanted"), [("mode", "ulm"), ("none", "none"), ("keep", None)])
def test_categories_are_filled(missing, wanted):
    rules = {"city": CleanRule(missing=missing)}
    found = fit_cleaning(TABLE, rules, TRAIN).apply(TABLE)
    assert found["city"].to_list() == [wanted if c is None else c for c in CITY]
    assert found.drop("city").equals(TABLE.drop("city"))
    assert found.columns == TABLE.columns


def test_booleans_categoricals_and_ties():
    table = pl.DataFrame({"b": [True, None], "c": pl.Series(["x", None], dtype=pl.Categorical)})
    rules = {name: CleanRule(missing="mode") for name in table.columns}
    found = fit_cleaning(table, rules).apply(table)
    assert found.rows() == [("true", "x"), ("true", "x")]
    assert clean(CleanRule(missing="mode"), [2.0, 1.0, np.nan], None).to_list() == [2, 1, 1]


def test_rows_to_drop_are_known_before_anything_is_fitted():
    rules = {"x": CleanRule(missing="drop"), "city": CleanRule(missing="drop")}
    out = rows_to_drop(TABLE, rules)
    expected = np.isnan(X) | np.array([city is None for city in CITY])
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(fit_cleaning(TABLE, rules, TRAIN).dropped(TABLE), expected)
    assert not rows_to_drop(TABLE, {"x": CleanRule(missing="mean")}).any()
    whole = rows_to_drop({"whole": [1, 2]}, {"whole": CleanRule(missing="drop")})
    assert whole.tolist() == [False, False]


def test_infinite_values_need_clip():
    values = [1.0, np.inf, -np.inf, 3.0]
    assert clean(CleanRule(clip=(0, 10)), values, None).to_list() == [1, 10, 0, 3]
    with pytest.raises(DataError, match="'x' has infinite values"):
        clean(CleanRule(), values, None)


def test_values_without_a_deviation_are_winsorised_or_refused():
    values = [*range(30), 1e300]
    whole = clean(CleanRule(winsorise=0.1, standardise=True), values, range(31))
    assert whole.is_finite().all()
    with pytest.raises(DataError, match="'x' has values too great for a deviation"):
        clean(CleanRule(standardise=True), values, range(31))


def test_training_rows_are_numbers_not_a_mask():
    with pytest.raises(DataError, match="numbers of at least one") as caught:
        fit_cleaning({"x": [1.0, 2.0]}, {"x": CleanRule()}, [True, False])
    assert "np.flatnonzero" in caught.value.mend


def test_a_file_gives_back_the_rules(tmp_path):
    rules = {"x": CleanRule(missing="median", winsorise=0.05, standardise=True),
             "city": CleanRule(missing="mode"), "whole": CleanRule(missing="drop")}  # fmt: skip
    found = fit_cleaning(TABLE, rules, TRAIN)
    found.save(tmp_path / "clean.json")
    back = Cleaning.load(tmp_path / "clean.json")
    assert back == found
    assert back.apply(TABLE).equals(found.apply(TABLE))
    assert found.table()["fill"].to_list() == [str(found.columns[0].fill), "ulm", None]
    (tmp_path / "clean.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        Cleaning.load(tmp_path / "clean.json")


@pytest.mark.parametrize(
    "change",
    [
        {"std": 0.0}, {"std": None}, {"low": 9e9}, {"high": None}, {"fill": "text"},
        {"drop": True}, {"numbers": False}, {"more": 1}, {"numbers": "yes"},
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(change):
    rule = CleanRule(missing="median", winsorise=0.05, standardise=True)
    whole = json.loads(fit_cleaning(TABLE, {"x": rule}).to_json())
    whole["columns"][0].update(change)
    with pytest.raises(DataError, match="in this text"):
        Cleaning.from_json(json.dumps(whole))


@given(
    st.lists(st.none() | st.floats(-1e6, 1e6), min_size=3),
    st.sampled_from(["keep", "mean", "median", "mode", "zero", 4.5]),
    st.none() | st.just((-10.0, 10.0)),
    st.none() | st.floats(0.01, 0.49),
)
def test_every_value_is_within_its_ends(values, missing, clip, winsorise):
    table = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    rules = {"x": CleanRule(missing=missing, clip=clip, winsorise=winsorise)}
    try:
        found = fit_cleaning(table, rules)
    except DataError as error:
        assert "no value" in str(error)  # noqa: PT017
        assert all(value is None for value in values)
        return
    out = found.apply(table)["x"]
    assert out.len() == len(values)
    assert (out.null_count() > 0) == (missing == "keep" and None in values)
    kept = [new for new, old in zip(out, values, strict=True) if old is not None]
    if kept and clip:
        assert -10 <= min(kept) <= max(kept) <= 10
    assert Cleaning.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("column", "rule", "said"),
    [
        ("city", {"missing": "mean"}, "'city' has categories"),
        ("city", {"clip": (0, 1)}, "'city' has categories"),
        ("city", {"standardise": True}, "'city' has categories"),
        ("x", {"missing": "red"}, "'x' has numbers"),
        ("z", {}, "no column 'z'"),
        ("gaps", {"missing": "mean"}, "'gaps' has no value"),
        ("gaps", {"winsorise": 0.1}, "'gaps' has no value"),
        ("gaps", {"standardise": True}, "'gaps' has no value"),
        ("gaps", {"missing": "zero", "standardise": True}, "'gaps' does not vary"),
        ("day", {}, "'day' is of kind Date"),
    ],
)
def test_what_a_rule_does_not_fit_names_the_column(column, rule, said):
    table = TABLE.with_columns(
        gaps=pl.lit(None, pl.Float64), day=pl.lit("2026-01-01").str.to_date()
    )
    with pytest.raises(DataError, match=said):
        fit_cleaning(table, {column: CleanRule(**rule)}, TRAIN)


def test_another_table_names_the_column():
    found = fit_cleaning(TABLE, {"x": CleanRule(missing="mean")}, TRAIN)
    with pytest.raises(DataError, match="no column 'x'"):
        found.apply(TABLE.drop("x"))
    with pytest.raises(DataError, match="'x' is of another kind"):
        found.apply({"x": ["red", "green"]})
    empty = pl.DataFrame({"x": pl.Series([None, None], dtype=pl.Null)})
    assert found.apply(empty)["x"].to_list() == [found.columns[0].fill] * 2


@pytest.mark.parametrize("rows", [[], [-1], [ROWS], [0.5], [[0]]])
def test_impossible_training_rows(rows):
    with pytest.raises(DataError, match="training row"):
        fit_cleaning(TABLE, {}, rows)


@pytest.mark.parametrize(
    "rule",
    [
        {"missing": np.nan}, {"clip": (1, 1)}, {"clip": (0, np.inf)}, {"winsorise": 0.5},
        {"winsorise": 0},
    ],
)  # fmt: skip
def test_impossible_rules(rule):
    with pytest.raises(JobError):
        CleanRule(**rule)
