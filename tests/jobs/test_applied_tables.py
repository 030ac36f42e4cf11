"""A linear model, trees and a scorecard applied to other rows: the same scores, without labels."""

import polars as pl
import pytest

from isthmus.errors import SchemaError
from isthmus.jobs.applied import check_applied
from isthmus.jobs.artefacts import PartyFolder

BASE = """\
isthmus: 1
name: tiny
seed: 3
parties:
  alice:
    table: alice/people.csv
    features: {Age: numeric, Income: numeric, Trait1: categorical}
    clean: {Income: {missing: median, winsorise: 0.01}}
  bob:
    table: bob/events.csv
    features: {Price: numeric, ItemID: ignore}
label: {party: bob, expression: "Clicked == 1"}
align: {key: ID}
evaluate: {resamples: 50, alone: false}
predict: {rows: all}
"""
LINEAR = "linear: {l2: 0.001}\n"
SCORECARD = "bin: {bins: 4, tell: woe, transform: true}\nlinear: {l2: 0.001}\nscorecard: {}\n"
TREES = "trees: {trees: 3, depth: 3}\n"


def table(workshop, job, party="bob"):
    return pl.read_parquet(workshop.results(job, party) / "predict" / "predictions.parquet")


@pytest.mark.parametrize("section", [LINEAR, SCORECARD, TREES], ids=["linear", "card", "trees"])
def test_some_of_the_rows_get_the_scores_that_they_had(workshop, section):
    number = pl.int_range(pl.len()) % 17
    workshop.spoil("bob", lambda rows: rows.with_columns(Price=number + pl.col("Clicked")))
    workshop.text = BASE + section
    before = workshop.job()
    workshop.run(before)
    known = table(workshop, before)

    kept = known["ID"].head(50).to_list()
    few = pl.col("ID").cast(pl.String).is_in(kept)
    workshop.spoil("bob", lambda rows: rows.filter(few).drop("Clicked"))
    job = workshop.job(f"predict.model={before.folder_name}", "predict.to=[alice]")
    ends = workshop.run(job)
    assert all(not isinstance(end, Exception) for end in ends.values()), ends
    found = table(workshop, job)
    assert not {"label", "split"} & set(found.columns)
    assert set(found.columns) == set(known.columns) - {"label", "split"}
    both = found.join(known, on="ID", suffix="_before")
    assert len(both) == len(kept) == len(found)
    for name in set(found.columns) - {"ID", "row"}:
        assert (both[name] == both[f"{name}_before"]).all(), name
    theirs = table(workshop, job, "alice").join(found, on="ID", suffix="_bob")
    assert (theirs["probability"] == theirs["probability_bob"]).all()
    assert not PartyFolder(workshop.results(job, "bob")).step("train").is_sealed


GUESSED = """\
isthmus: 1
name: guessed
seed: 3
parties:
  alice: {table: alice/people.csv}
  bob: {table: bob/events.csv, features: {Price: numeric, ItemID: categorical}}
label: {party: bob, expression: "Clicked == 1"}
align: {key: ID}
evaluate: {resamples: 50, alone: false}
trees: {trees: 2, depth: 2}
"""


@pytest.mark.parametrize(
    ("party", "spoil", "said"),
    [
        ("alice", {"Age": None}, r"alice/people\.csv has no column 'Age', from which guessed-"),
        (
            "alice",
            {"Income": pl.lit("a lot")},
            r"people\.csv: numeric column 'Income' holds text .* has learnt from numbers there",
        ),
        ("bob", {"ItemID": None}, r"bob/events\.csv has no column 'ItemID'"),
    ],
    ids=["missing", "text", "label party"],
)
def test_a_table_that_lacks_what_the_model_needs_is_told_before_anybody_is_met(
    workshop, party, spoil, said
):
    number = pl.int_range(pl.len()) % 17
    workshop.spoil("bob", lambda rows: rows.with_columns(Price=number + pl.col("Clicked")))
    workshop.text = GUESSED
    before = workshop.job()
    workshop.run(before)
    for name, value in spoil.items():
        workshop.spoil(
            party,
            lambda rows, name=name, value=value: (
                rows.drop(name) if value is None else rows.with_columns(value.alias(name))
            ),
        )
    job = workshop.job(f"predict.model={before.folder_name}", "name=later")
    with pytest.raises(SchemaError, match=said) as caught:
        check_applied(job, party, workshop.out)
    assert caught.value.mend
    other = "bob" if party == "alice" else "alice"
    check_applied(job, other, workshop.out)
    assert not workshop.results(job, party).exists()
