"""Profiles: the owner's in full, a partner's as the policy allows, and drift."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from isthmus.errors import BadMessage, DataError, JobError, LinkError
from isthmus.metrics.stability import psi
from isthmus.session import run_parties
from isthmus.stats import (
    ProfilePolicy,
    TableProfile,
    drift,
    exchange_profiles,
    profile,
    shown_profile,
)

RNG = np.random.default_rng(4)
AGES = np.where(RNG.random(2000) < 0.05, np.nan, RNG.normal(40, 12, 2000))
CITIES = np.array(["ulm", "bonn", "kiel", "oslo"])[RNG.choice(4, 2000, p=[0.5, 0.3, 0.198, 0.002])]
TABLE = pl.DataFrame({"age": AGES, "city": CITIES})


def test_the_owner_sees_everything():
    found = profile(TABLE)
    age, city = found.columns
    known = AGES[~np.isnan(AGES)]
    assert (found.rows, age.missing, age.distinct) == (2000, 2000 - known.size, known.size)
    assert age.numbers.mean == pytest.approx(known.mean())
    assert age.numbers.std == pytest.approx(known.std())
    assert (age.numbers.least, age.numbers.greatest) == (known.min(), known.max())
    np.testing.assert_allclose(age.numbers.quantiles, np.quantile(known, age.numbers.levels))
    assert sum(age.numbers.counts) == known.size
    q1, q3 = np.quantile(known, [0.25, 0.75])
    far = (known < q1 - 1.5 * (q3 - q1)) | (known > q3 + 1.5 * (q3 - q1))
    assert age.numbers.outliers == far.sum() > 0
    names, counts = np.unique(CITIES, return_counts=True)
    assert dict(zip(city.categories.names, city.categories.counts, strict=True)) == dict(
        zip(names.tolist(), counts.tolist(), strict=True)
    )
    assert profile(TABLE, categories=2).columns[1].categories.others == counts.sum() - sum(
        sorted(counts)[-2:]
    )


def test_an_empty_column_has_a_profile():
    found = profile(
        pl.DataFrame({"x": [None, None], "t": pl.Series([None, None], dtype=pl.String)})
    )
    assert [column.missing for column in found.columns] == [2, 2]
    assert found.columns[0].numbers.mean is None
    assert TableProfile.from_json(found.to_json()) == found


VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=120)


@given(VALUES, st.integers(1, 30), st.one_of(st.none(), st.floats(0.1, 3)))
def test_no_shown_cell_is_smaller_than_the_policy_allows(values, least, epsilon):
    texts = [None if v is None else f"c{int(v) % 5}" for v in values]
    table = pl.DataFrame(
        {"x": pl.Series(values, dtype=pl.Float64), "c": pl.Series(texts, dtype=pl.String)}
    )
    policy = ProfilePolicy(least=least, epsilon=epsilon)
    found = shown_profile(table, policy, rng=np.random.default_rng(1))
    assert TableProfile.from_json(found.to_json()) == found
    for column in found.columns:
        cells = [column.missing]
        if column.numbers:
            cells += column.numbers.counts
            assert column.numbers.least is column.numbers.greatest is column.distinct is None
            # Edges are round numbers, not anybody's value.
            assert all(float(f"{edge:.6g}") == pytest.approx(edge) for edge in column.numbers.edges)
        else:
            cells += (*column.categories.counts, column.categories.others)
        if epsilon is None:
            assert sum(cells) == (len(values) if found.rows else 0)
            assert all(cell == 0 or cell >= least for cell in cells)


def test_a_shown_profile_is_near_the_truth_and_names_no_rare_category():
    age, city = shown_profile(TABLE, ProfilePolicy(least=10)).columns
    known = AGES[~np.isnan(AGES)]
    assert age.numbers.mean == pytest.approx(known.mean(), abs=1)
    truth = np.quantile(known, age.numbers.levels)
    np.testing.assert_allclose(age.numbers.quantiles, truth, atol=1.5)
    assert set(city.categories.names) == {"ulm", "bonn", "kiel"}
    assert city.numbers is None


def test_a_constant_is_not_told():
    (column,) = shown_profile({"x": np.full(100, 3.25)}, ProfilePolicy()).columns
    assert (column.numbers.mean, column.numbers.std) == (None, None)
    assert "3.25" not in json.dumps(column.numbers.edges)


def test_only_named_columns_are_shown():
    found = shown_profile(TABLE, ProfilePolicy(columns=["city"]))
    assert [column.name for column in found.columns] == ["city"]
    assert shown_profile(TABLE[:5], ProfilePolicy()).columns == ()
    assert shown_profile(TABLE[:5], ProfilePolicy()).rows == 0


def test_noise_has_the_deviation_of_its_epsilon():
    table = pl.DataFrame({"c": ["a"] * 5000 + ["b"] * 5000})
    policy = ProfilePolicy(epsilon=0.5, categories={"c": ["a", "b"]})
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(1000):
        (column,) = shown_profile(table, policy, rng=rng).columns
        found = dict(zip(column.categories.names, column.categories.counts, strict=True))
        drawn.append(found["b"] - 5000)
    p = np.exp(-0.5)
    assert np.std(drawn) == pytest.approx(np.sqrt(2 * p) / (1 - p), rel=0.15)
    assert abs(np.mean(drawn)) < 0.5
    assert len({shown_profile(table, policy).to_json() for _ in range(8)}) > 1


def test_bounds_fix_the_edges_whatever_the_data():
    policy = ProfilePolicy(least=1, epsilon=1.0, bounds={"x": (0, 100)}, bins=10)
    found = [
        shown_profile({"x": RNG.normal(m, 50, 5000)}, policy, rng=RNG).columns[0].numbers.edges
        for m in (40, 60)
    ]
    assert found[0] == found[1] == tuple(np.arange(0, 101, 10.0))


def test_parties_see_their_partners_as_allowed_and_themselves_in_full():
    other = pl.DataFrame({"x": RNG.normal(size=300)})

    programs = {
        "bob": lambda s: exchange_profiles(s, TABLE, ProfilePolicy(columns=["city"])),
        "alice": lambda s: exchange_profiles(s, other),
        "carol": lambda s: exchange_profiles(s, other[:100]),
    }
    found = run_parties(programs, label_party="bob")
    assert found["alice"]["bob"] == shown_profile(TABLE, ProfilePolicy(columns=["city"]))
    assert found["bob"]["alice"] == shown_profile(other, ProfilePolicy())
    assert found["bob"]["bob"] == profile(TABLE)
    assert set(found["carol"]) == {"carol", "bob"}


GOOD = profile(TABLE)
AGE = GOOD.columns[0]


def with_numbers(**changes):
    return replace(GOOD, columns=(replace(AGE, numbers=replace(AGE.numbers, **changes)),)).to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"rows": 1}',
        GOOD.to_json().replace('"rows": 2000', '"rows": "2000"'),
        GOOD.to_json()[:-1] + ', "more": 1}',
        GOOD.to_json().replace(str(AGE.numbers.mean), "NaN"),
        replace(GOOD, columns=(replace(AGE, numbers=None),)).to_json(),
        replace(GOOD, columns=(replace(AGE, missing=-1),)).to_json(),
        replace(GOOD, columns=(replace(AGE, missing=3000),)).to_json(),
        with_numbers(counts=AGE.numbers.counts[1:]),
        with_numbers(counts=(-1, *AGE.numbers.counts[1:])),
        with_numbers(edges=AGE.numbers.edges[::-1]),
        with_numbers(quantiles=AGE.numbers.quantiles[::-1]),
        with_numbers(levels=AGE.numbers.levels[1:]),
        with_numbers(std=-1.0),
    ],
)
def test_a_profile_that_cannot_be_is_refused(text):
    with pytest.raises(DataError, match="profile"):
        TableProfile.from_json(text)


@pytest.mark.parametrize("tensors", [{}, {"json": np.zeros(3)}, {"json": np.zeros(3, np.uint8)}])
def test_a_partner_that_sends_no_profile(tensors):
    def hostile(session):
        session.hub.send("profile.shown", tensors)
        session.hub.recv("never")

    programs = {"hostile": hostile, "honest": lambda s: exchange_profiles(s, TABLE)}
    with pytest.raises(LinkError) as caught:
        run_parties(programs, label_party="honest")
    assert isinstance(caught.value, BadMessage)


def test_drift_between_overlap_and_rest():
    table = pl.DataFrame({"same": RNG.normal(size=3000), "moved": np.arange(3000.0), "city": None})
    table = table.with_columns(city=pl.Series(["a"] * 1000 + ["b"] * 2000))
    rows = np.concatenate([np.arange(0, 3000, 4), np.arange(1500, 3000)])
    found = {one.column: one for one in drift(table, rows)}
    inside = np.isin(np.arange(3000), rows)
    for name in ("same", "moved"):
        values = table[name].to_numpy()
        expected = ks_2samp(values[inside], values[~inside]).statistic
        assert found[name].ks == pytest.approx(expected)
    counts = [
        [(~inside)[:1000].sum(), (~inside)[1000:].sum()],
        [inside[:1000].sum(), inside[1000:].sum()],
    ]
    assert found["city"].psi == pytest.approx(psi(*counts))
    assert found["city"].ks is None
    assert found["same"].psi < 0.05 < 0.25 < found["moved"].psi


def test_drift_sees_more_missing_values():
    values = np.where(np.arange(1000) < 300, np.nan, 1.0)
    (found,) = drift({"x": values}, np.arange(500))
    assert found.psi > 1
    assert found.ks == 0


@pytest.mark.parametrize("rows", [[], np.arange(2000), [-1], [2000], [0.5]])
def test_rows_that_leave_nothing_to_compare(rows):
    with pytest.raises(DataError):
        drift(TABLE, rows)


@pytest.mark.parametrize(
    "setting",
    [{"least": 0}, {"bins": 1}, {"epsilon": 0.0}, {"epsilon": np.nan}, {"bounds": {"x": (1, 1)}}],
)
def test_impossible_policies(setting):
    with pytest.raises(JobError):
        ProfilePolicy(**setting)


def test_a_policy_for_a_column_that_is_not_there():
    with pytest.raises(DataError, match="'wage'"):
        shown_profile(TABLE, ProfilePolicy(columns=["wage"]))
