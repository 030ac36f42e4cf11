"""Jobs that align in other ways than the usual one, from beginning to end."""

import json

import numpy as np
import polars as pl
import pytest

from isthmus.errors import AlignError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_own_side
from isthmus.jobs.steps import encode


def alignment(workshop, job, party):
    folder = workshop.results(job, party) / "align"
    return np.load(folder / "rows.npy"), json.loads((folder / "alignment.json").read_text())


def keys(workshop, party, rows):
    ids = pl.read_csv(workshop.table(party))["ID"].to_list()
    return [None if row < 0 else ids[row] for row in rows.tolist()]


@pytest.mark.parametrize("features", ["all", "dense"])
def test_the_label_partys_rows_are_kept_and_what_is_missing_is_encoded_so(workshop, features):
    workshop.spoil("alice", lambda t: t.filter(pl.int_range(pl.len()) % 3 > 0))
    if features == "dense":
        workshop.change(
            "Trait1: categorical, Trait2: categorical", "Trait1: {kind: text, width: 4}"
        )
    workshop.change("align: {key: ID}", "align: {key: ID, rows: label}")
    job = workshop.job()
    assert not [page for page in workshop.run(job).values() if isinstance(page, Exception)]
    found = {party: alignment(workshop, job, party) for party in ("alice", "bob")}
    samples = keys(workshop, "bob", found["bob"][0])
    assert len(samples) == pl.read_csv(workshop.table("bob")).height
    has = set(pl.read_csv(workshop.table("alice"))["ID"])
    assert keys(workshop, "alice", found["alice"][0]) == [i if i in has else None for i in samples]
    assert found["alice"][1]["summary"]["unmatched"] == sum(i not in has for i in samples) > 0
    features = encode.load(workshop.results(job, "alice") / "encode")
    missing = np.flatnonzero(found["alice"][0] < 0)
    index, values = features.gather(missing)
    assert (index == index[:1]).all()
    assert (values == values[:1]).all()
    others, there = features.gather(np.flatnonzero(found["alice"][0] >= 0))
    alike = (others == index[:1]).all(axis=1) & (there == values[:1]).all(axis=1)
    assert not alike.any()


def test_keys_are_normalised_as_the_job_says(workshop):
    workshop.spoil("alice", lambda t: t.with_columns(ID="  U " + pl.col("ID").cast(pl.String)))
    workshop.spoil("bob", lambda t: t.with_columns(ID="u  " + pl.col("ID").cast(pl.String) + " "))
    workshop.change("align: {key: ID}", "align: {key: Person, normalise: {Person: text}}")
    workshop.change("table: alice/people.csv", "table: alice/people.csv\n    key: ID")
    workshop.change("table: bob/events.csv", "table: bob/events.csv\n    key: ID")
    job = workshop.job()
    assert not [page for page in workshop.run(job).values() if isinstance(page, Exception)]
    rows, about = alignment(workshop, job, "alice")
    ours, theirs = (
        set(pl.read_csv(workshop.table(p))["ID"].str.strip_chars().str.slice(1).str.strip_chars())
        for p in ("alice", "bob")
    )
    assert len(rows) == len(ours & theirs)
    (said,) = about["warnings"]
    assert said.startswith("normalising the key column 'ID' as text changed ")
    log = (workshop.results(job, "alice") / "log.jsonl").read_text()
    assert said in log


def test_values_that_become_equal_are_found_before_anything_runs(workshop):
    workshop.spoil(
        "alice",
        lambda t: pl.concat(
            [t.cast({"ID": pl.String}), t.head(1).with_columns(ID=pl.format(" {}", "ID"))]
        ),
    )
    check_own_side(workshop.job(), "alice")
    workshop.change("align: {key: ID}", "align: {key: ID, normalise: {ID: text}}")
    with pytest.raises(AlignError, match=r"1 of \d+ rows have an id that an earlier row has"):
        check_own_side(workshop.job(), "alice")


def test_by_blind_signatures(workshop):
    for party in ("alice", "bob"):
        workshop.spoil(party, lambda t: t.head(200))
    job = workshop.job("align.protocol=rsa-blind")
    assert not [page for page in workshop.run(job).values() if isinstance(page, Exception)]


def test_kept_rows_of_three_parties_train_as_the_pooled_table_does(workshop):
    people = pl.read_csv(workshop.table("alice"))
    (workshop.folder / "carol").mkdir()
    some = people.select("ID", "Trait2").sample(fraction=0.6, seed=1)
    some.write_csv(workshop.folder / "carol" / "traits.csv")
    workshop.spoil("alice", lambda t: t.head(300))
    workshop.change(", Trait2: categorical}", "}")
    workshop.change(
        "label:", "  carol: {table: carol/traits.csv, features: {Trait2: categorical}}\nlabel:"
    )
    workshop.change("align: {key: ID}", "align: {key: ID, rows: label, protocol: kkrt}")
    job = workshop.job("evaluate.pooled=true")
    assert not [page for page in workshop.run(job).values() if isinstance(page, Exception)]
    unmatched = {
        party: alignment(workshop, job, party)[1]["summary"]["unmatched"]
        for party in job.spec.order
    }
    assert unmatched["bob"] == 0
    assert 0 < unmatched["alice"] != unmatched["carol"] > 0
    add_pooled(job, workshop.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(workshop.results(job, "bob")))
    report = workshop.report(job, "bob")
    metrics = report["metrics"]
    assert metrics["pooled"]["log_loss"] == pytest.approx(
        metrics["federation"]["log_loss"], abs=1e-5
    )
