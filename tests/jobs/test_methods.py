"""What models that are no networks are made of: columns as numbers, and what partners say."""

import numpy as np
import polars as pl
import pytest
from tests.jobs.tables import made_up

from isthmus.errors import BadMessage, DataError, StorageError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.methods.columns import OTHER, Design, LevelsColumn, NumberColumn, fit_design
from isthmus.jobs.methods.trees import TOPIC, TreesLearner
from isthmus.linear import LinearOptions, LinearResult
from isthmus.link import memory_links
from isthmus.session import Session

ALL = np.arange(100)


def fitted(column, *, train=ALL, least=5, scale=True):
    table = pl.DataFrame({"c": column})
    return fit_design(table, np.asarray(train), least=least, scale=scale, party="bob"), table


def towns(**counts):
    return [name for name, count in counts.items() for _ in range(count)]


def test_numbers_are_scaled_by_the_training_rows():
    values = np.r_[np.zeros(25), np.full(25, 4.0), np.full(50, 1000.0)]
    design, table = fitted(values, train=np.arange(50))
    assert design.columns == (NumberColumn("c", 2.0, 2.0),)
    np.testing.assert_array_equal(design.apply(table)[:, 0], (values - 2) / 2)
    assert design.terms[0].deviation == 2.0


def test_numbers_stay_as_they_are_where_they_are_woe():
    design, table = fitted(np.linspace(0, 1, 100), scale=False)
    np.testing.assert_array_equal(design.apply(table)[:, 0], table["c"].to_numpy())


def test_a_constant_column_is_zero():
    design, table = fitted(np.full(100, 0.1))
    assert not design.apply(table).any()


def test_levels_by_frequency_without_the_first():
    design, table = fitted(towns(b=30, a=40, c=30))
    assert design.columns == (LevelsColumn("c", "a", ("b", "c"), other=False),)
    np.testing.assert_array_equal(
        design.apply(table), np.column_stack([table["c"] == "b", table["c"] == "c"])
    )
    unknown = pl.DataFrame({"c": ["z", "a", "b"]})
    np.testing.assert_array_equal(design.apply(unknown), [[0, 0], [0, 0], [1, 0]])


def test_a_column_may_be_called_count():
    table = pl.DataFrame({"count": towns(b=30, a=70)})
    design = fit_design(table, ALL, least=5, scale=True, party="bob")
    assert design.columns == (LevelsColumn("count", "a", ("b",), other=False),)


def test_levels_are_in_each_batch():
    # c is in the first half alone, e and f in the second, and d is rare there.
    half = towns(a=30, b=10, d=6)
    column = [*half, *towns(c=14), *half[:-4], *towns(e=9, f=9)]
    table = pl.DataFrame({"c": column})
    parts = [np.arange(60), np.arange(60, 120)]
    design = fit_design(table, np.arange(120), least=5, scale=True, party="bob", parts=parts)
    assert design.columns == (LevelsColumn("c", "a", ("b",), other=True),)
    together = fit_design(table, np.arange(120), least=5, scale=True, party="bob")
    assert [term.level for term in together.terms] == ["b", "c", "e", "f", "d"]


def test_rare_levels_are_one_together():
    design, _ = fitted(towns(a=60, b=33, c=4, d=3))
    assert design.columns == (LevelsColumn("c", "a", ("b",), other=True),)
    assert [term.level for term in design.terms] == ["b", OTHER]
    unknown = pl.DataFrame({"c": ["z", "d", "a"]})
    np.testing.assert_array_equal(design.apply(unknown), [[0, 1], [0, 1], [0, 0]])


def test_a_rest_that_is_too_small_takes_the_rarest_level_with_it():
    design, _ = fitted(towns(a=60, b=31, c=6, d=3))
    assert design.columns == (LevelsColumn("c", "a", ("b",), other=True),)
    # Of one level and a rest that stays too small there is nothing to learn.
    design, table = fitted(towns(a=97, d=3))
    assert design.columns == (LevelsColumn("c", "a", (), other=False),)
    assert design.apply(table).shape == (100, 0)


@pytest.mark.parametrize("least", [1, 5, 20])
def test_no_column_sets_fewer_rows_apart_than_agreed(least):
    rng = np.random.default_rng(least)
    names = [f"t{int(n)}" for n in np.minimum(rng.geometric(0.3, 100), 9)]
    design, table = fitted(names, least=least)
    sums = design.apply(table).sum(axis=0)
    assert (sums >= least).all()


def test_gaps_and_too_many_levels_are_told():
    with pytest.raises(DataError, match=r"'c' is missing in 1 of 3 .* of bob"):
        fitted([1.0, None, 2.0], train=[0, 2])
    with pytest.raises(DataError, match="'c' is missing in 1"):
        fitted([1.0, float("nan"), 2.0], train=[0, 2])
    with pytest.raises(DataError, match="has 1500 levels, more than 1000"):
        fitted([f"id{n}" for n in range(1500)], train=np.arange(1500), least=1)
    with pytest.raises(DataError, match="'c' of bob has no level of at least 5 training"):
        fitted([f"id{n // 4}" for n in range(100)])


def test_numbers_without_a_deviation_are_told_by_column():
    with pytest.raises(DataError, match="'c' of bob has values too great") as caught:
        fitted(np.r_[np.arange(99.0), 1e300])
    assert "parties.bob.clean.c.clip" in caught.value.mend


def test_a_design_comes_back_from_its_file(tmp_path):
    design = Design((NumberColumn("a", 1.5, 0.1), LevelsColumn("b", "x", ("y",), other=True)))
    design.save(tmp_path / "columns.json")
    assert Design.load(tmp_path / "columns.json") == design
    with pytest.raises(DataError, match="no column 'a'"):
        design.apply(pl.DataFrame({"b": ["x"]}))


@pytest.mark.parametrize("text", ["", "{}", '{"columns": [{"kind": "numeric"}]}', "[]"])
def test_a_file_of_something_else_is_no_design(tmp_path, text):
    path = tmp_path / "columns.json"
    path.write_text(text)
    with pytest.raises(StorageError, match="does not hold the columns"):
        Design.load(path)


@pytest.mark.parametrize("told", [None, 1, 1001, 2.5, True, "3"])
def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path, told):
    tables = made_up(tmp_path, rows=50)
    job = tables.job("trees: {}\n", "label.kind=multiclass", "label.expression=grade")
    here, there = memory_links("alice", "bob")
    there.send(TOPIC, header={} if told is None else {"classes": told})
    session = Session(
        me="alice", parties=job.spec.order, label_party="bob", links={"bob": here}, seed=1
    )
    with pytest.raises(BadMessage, match="bob sent no number of classes"):
        TreesLearner().train(Context(job=job, session=session, folder=PartyFolder(tmp_path)))


def test_a_row_has_the_same_score_among_few_as_among_many():
    rng = np.random.default_rng(2)
    data, weights = rng.normal(size=(200, 13)), rng.normal(size=13)
    options = LinearOptions()
    result = LinearResult(options=options, coefficients=weights, rounds=0, converged=True, shown=0)
    whole = result.score(data)
    for count in range(1, 100):
        np.testing.assert_array_equal(result.score(data[7 : 7 + count]), whole[7 : 7 + count])
