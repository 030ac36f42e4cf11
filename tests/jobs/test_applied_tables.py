"""A linear model, trees and a scorecard applied to other rows: the same scores, without labels."""

import polars as pl
import pytest

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
