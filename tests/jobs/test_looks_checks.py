"""What is wrong with a job that looks at tables is told at the check, by place in the file."""

import importlib.util

import polars as pl
import pytest
from tests.jobs.tables import made_up

from isthmus.errors import DataError, JobError
from isthmus.jobs.precheck import check_choices, check_own_side
from isthmus.jobs.tune.space import is_comparable


@pytest.fixture
def tables(tmp_path):
    return made_up(tmp_path, 120)


@pytest.mark.parametrize(
    ("rule", "said", "mend"),
    [
        (
            "{age: {missing: drop}}",
            "parties.alice.clean.age: alice has no numeric or categorical feature 'age'",
            "a0, a1, town",
        ),
        (
            "{town: {missing: mean}}",
            "parties.alice.clean.town: the rule is for numbers, and 'town' is categorical",
            "`mode`",
        ),
        (
            "{town: {standardise: true}}",
            "parties.alice.clean.town: the rule is for numbers, and 'town' is categorical",
            "`mode`",
        ),
        ("{a0: {clip: [3, 1]}}", "clip needs a least value below the greatest", ""),
        ("{a0: {missing: nan}}", "parties.alice.clean.a0.missing", ""),
    ],
)
def test_rules_that_do_not_fit(tables, rule, said, mend):
    with pytest.raises(JobError) as caught:
        # Any party finds it where the job names the columns.
        check_choices(tables.job("profile: {}\n", f"parties.alice.clean={rule}"))
    assert said in caught.value.message
    assert mend in (caught.value.mend or "")


def test_columns_that_are_guessed_are_checked_by_their_owner(tables):
    changes = ("parties.alice.features=null", "parties.alice.clean={town: {missing: zero}}")
    job = tables.job("profile: {}\n", *changes)
    check_choices(job)
    check_own_side(job, "bob")
    with pytest.raises(JobError, match=r"clean\.town: the rule is for numbers"):
        check_own_side(job, "alice")


def test_rules_that_leave_no_row(tables):
    tables.spoil("alice", a1=pl.lit(None, pl.Float64))
    job = tables.job("profile: {}\n", "parties.alice.clean={a1: {missing: drop}}")
    with pytest.raises(DataError, match="leaves none of the 120 rows"):
        check_own_side(job, "alice")


def test_cleaning_has_no_effect_on_a_network(tables):
    with pytest.raises(JobError, match=r"parties\.alice\.clean: has no effect on a network"):
        tables.job("train: {epochs: 1}\n", "parties.alice.clean={a0: {missing: mean}}")


@pytest.mark.parametrize("section", ["bin", "correlation", "pca"])
def test_a_missing_package_is_named(tables, monkeypatch, section):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tenseal" else found(name, *a)
    )
    with pytest.raises(JobError, match=rf"{section}: the package tenseal") as caught:
        check_own_side(tables.job(f"{section}: {{}}\n"), "bob")
    assert "pip install 'isthmus[vertical]'" in caught.value.mend
    check_own_side(tables.job("profile: {}\n"), "bob")


@pytest.mark.parametrize(("section", "refused"), [("bin", False), ("correlation", True)])
def test_a_label_party_without_columns(tables, section, refused):
    job = tables.job(f"{section}: {{}}\n", "parties.bob.features={}")
    if not refused:
        check_choices(job)
        assert tables.run(job)["bob"]["looks"]["bins"]["columns"][0]["party"] == "alice"
        return
    with pytest.raises(JobError, match="correlation: bob brings no columns"):
        check_choices(job)


def test_bins_need_a_binary_label(tables):
    with pytest.raises(JobError, match="WOE is of a binary label"):
        tables.job("bin: {}\n", "label={party: bob, expression: amount, kind: real}")


def test_a_search_is_for_networks(tables):
    job = tables.job("profile: {}\n")
    with pytest.raises(JobError, match="this one trains none") as caught:
        is_comparable(job)
    assert "isthmus run" in caught.value.mend
    is_comparable(tables.job("profile: {}\n", "train.epochs=1"))


def test_the_hash_tells_of_each_look(tables):
    plain = tables.job("profile: {}\n")
    hashes = {
        plain.hash,
        tables.job("profile: {least: 51}\n").hash,
        tables.job("profile: {}\n", "parties.alice.clean={a0: {missing: mean}}").hash,
        tables.job("bin: {}\n").hash,
    }
    assert len(hashes) == 4
    assert tables.job("profile: {least: 50}\n").hash == plain.hash


def test_statistics_of_a_table_with_too_few_rows(tables):
    job = tables.job("correlation: {}\n", "split={train: 0.5, valid: 0.0, test: 0.5}")
    tables.frames["bob"].head(15).write_csv(tables.folder / "bob.csv")
    with pytest.raises(DataError, match="15 rows are too few for 2 columns"):
        tables.run(job)


@pytest.mark.parametrize("section", ["profile", "bin", "correlation", "pca", "linear", "trees"])
def test_a_section_with_nothing_in_it_is_no_section_left_out(tables, section):
    with pytest.raises(JobError, match=rf"job\.yaml:11: {section}: is empty") as caught:
        tables.job(f"{section}:\n")
    assert "{}" in caught.value.message
