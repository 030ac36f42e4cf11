"""A whole job in one process: what it leaves, what it skips when resumed, how it fails."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from isthmus.errors import (
    AlignError,
    DataError,
    JobError,
    NotFinite,
    PartnerFailed,
    SchemaError,
    StorageError,
)
from isthmus.jobs import steps
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.steps import train as train_step

NAMES = ("align", "encode", "train", "evaluate", "predict")
STEPS = [step for step in steps.STEPS if step.name in NAMES]
"""What a job goes through that neither looks at tables nor retrieves."""


def markers(workshop, job, party):
    folder = PartyFolder(workshop.results(job, party))
    return {step.name: folder.step(step.name).marker() for step in STEPS}


def events(workshop, job, party):
    lines = (workshop.results(job, party) / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def topics(report):
    """What crossed for the steps, without their coordination."""
    return [t for t in report["traffic"]["topics"] if not t["topic"].startswith("job.")]


def part_files(workshop):
    return [path.name for path in workshop.out.rglob("*.part")]


def test_a_job_from_end_to_end(workshop):
    job = workshop.job()
    pages = workshop.run(job)
    alice, bob = (workshop.results(job, party) for party in ("alice", "bob"))
    assert pages == {"alice": alice / "report.html", "bob": bob / "report.html"}

    report = json.loads((bob / "report.json").read_text())
    assert report["job"]["hash"] == job.hash
    assert 0.5 < report["metrics"]["federation"]["auc"] <= 1
    assert report["metrics"]["label_party_alone"]["auc"] > 0
    assert report["metrics"]["pooled"] is None
    assert report["alignment"]["samples"] == len(np.load(bob / "align" / "rows.npy"))
    assert report["traffic"]["sent_bytes"] > 0
    assert [phase["name"] for phase in report["phases"]] == [step.name for step in STEPS]

    theirs = json.loads((alice / "report.json").read_text())
    told, exact = theirs["metrics"]["federation"], report["metrics"]["federation"]
    assert told.pop("positives") is None
    assert told == {name: round(exact[name], 4) for name in told}
    assert told["auc"] != exact["auc"]
    gain = report["uplift"]["over_label_party_alone"]
    assert theirs["uplift"]["over_label_party_alone"] == {k: round(v, 4) for k, v in gain.items()}
    assert theirs["data"]["positive_rate"] is None
    assert theirs["traffic"]["received_bytes"] == report["traffic"]["sent_bytes"]

    predictions = pl.read_parquet(bob / "predict" / "predictions.parquet")
    assert predictions.columns == ["row", "ID", "probability", "label", "split"]
    assert len(predictions) == report["data"]["test_samples"]
    assert set(predictions["split"]) == {"test"}
    truth = pl.read_csv(workshop.table("bob"), schema_overrides={"ID": pl.String})
    joined = predictions.join(truth, on="ID", how="left")
    assert (joined["label"] == joined["Clicked"]).all()

    for party in (alice, bob):
        assert party.stat().st_mode & 0o777 == 0o700

    # Labels, scores and the top stay with their owner.
    assert not list(alice.rglob("labels*"))
    assert not list(alice.rglob("scores*"))
    assert not list(alice.rglob("top*"))
    assert not list(alice.rglob("predictions*"))


def test_both_sides_train_the_same_rows(workshop):
    job = workshop.job()
    workshop.run(job)
    ids = {}
    for party in ("alice", "bob"):
        rows = np.load(workshop.results(job, party) / "align" / "rows.npy")
        ids[party] = pl.read_csv(workshop.table(party))["ID"].to_numpy()[rows]
    assert (ids["alice"] == ids["bob"]).all()
    assert len(set(ids["alice"])) == len(ids["alice"])


def test_the_log_holds_no_ids_and_no_values(workshop):
    workshop.spoil("bob", lambda t: t.with_columns(ID=pl.format("person-{}", "ID")))
    workshop.spoil("alice", lambda t: t.with_columns(ID=pl.format("person-{}", "ID")))
    job = workshop.job()
    workshop.run(job)
    for party in ("alice", "bob"):
        assert "person-" not in (workshop.results(job, party) / "log.jsonl").read_text()


def test_resuming_skips_what_is_finished(workshop):
    job = workshop.job()
    workshop.run(job)
    before = markers(workshop, job, "bob")
    report = (workshop.results(job, "bob") / "report.json").read_text()
    workshop.run(job, resume=True)
    assert markers(workshop, job, "bob") == before
    skipped = [e["step"] for e in events(workshop, job, "bob") if e["event"] == "step.skip"]
    assert skipped == [step.name for step in STEPS]
    again = workshop.report(job, "bob")
    assert topics(again) == topics(json.loads(report)) != []


def test_without_resume_everything_runs_again(workshop):
    job = workshop.job()
    workshop.run(job)
    before = markers(workshop, job, "bob")
    workshop.run(job)
    after = markers(workshop, job, "bob")
    assert all(before[name].token != after[name].token for name in before)


def test_one_party_that_begins_anew_makes_all_begin_anew(workshop):
    job = workshop.job()
    workshop.run(job)
    before = markers(workshop, job, "bob")
    workshop.run(job, resume={"alice": False, "bob": True})
    after = markers(workshop, job, "bob")
    assert all(before[name].token != after[name].token for name in before)
    assert after == {**markers(workshop, job, "bob")}


def test_a_damaged_file_is_made_again_with_all_that_follows(workshop):
    job = workshop.job()
    workshop.run(job)
    before = markers(workshop, job, "bob")
    damaged = workshop.results(job, "alice") / "train" / "bottom.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert markers(workshop, job, "alice")["train"] is None
    workshop.run(job, resume=True)
    after = markers(workshop, job, "bob")
    changed = [name for name in before if before[name].token != after[name].token]
    assert changed == ["train", "evaluate", "predict"]
    tokens = {name: marker.token for name, marker in markers(workshop, job, "alice").items()}
    assert tokens == {name: marker.token for name, marker in after.items()}


def test_a_changed_table_is_noticed(workshop):
    job = workshop.job()
    workshop.run(job)
    before = markers(workshop, job, "alice")
    workshop.spoil("bob", lambda table: table.head(200))
    workshop.run(job, resume=True)
    after = markers(workshop, job, "alice")
    assert all(before[name].token != after[name].token for name in before)


def test_the_result_is_the_same_after_a_failure_and_a_resume(workshop, monkeypatch):
    job = workshop.job()
    workshop.run(job)
    scores = workshop.results(job, "bob") / "evaluate" / "scores.safetensors"
    whole = load_file(scores)

    real = train_step.save_module

    def fails_once(module, path):
        monkeypatch.setattr(train_step, "save_module", real)
        raise StorageError("the disk is gone")

    monkeypatch.setattr(train_step, "save_module", fails_once)
    outcome = workshop.run(job)
    assert any(isinstance(error, StorageError) for error in outcome.values())
    assert not scores.exists()
    workshop.run(job, resume=True)
    again = load_file(scores)
    for name, values in whole.items():
        assert (again[name] == values).all()
    result = json.loads((workshop.results(job, "bob") / "train" / "result.json").read_text())
    assert result["resumed_from"] == 2


def test_the_pooled_model_equals_the_federation(workshop):
    job = workshop.job("evaluate.pooled=true")
    workshop.run(job)
    folder = workshop.out / job.folder_name
    add_pooled(job, folder)
    write_party_report(job, "bob", PartyFolder(folder / "bob"))
    report = json.loads((folder / "bob" / "report.json").read_text())
    federation, pooled = report["metrics"]["federation"], report["metrics"]["pooled"]
    assert pooled["auc"] == pytest.approx(federation["auc"], abs=1e-3)
    assert pooled["log_loss"] == pytest.approx(federation["log_loss"], abs=1e-5)
    assert report["uplift"]["over_pooled"]["mean"] == pytest.approx(0, abs=1e-3)

    stamp = (folder / "bob" / "pooled" / "scores.safetensors").stat().st_mtime_ns
    add_pooled(job, folder)
    assert (folder / "bob" / "pooled" / "scores.safetensors").stat().st_mtime_ns == stamp
    workshop.run(job)  # a new run's report does not show an old pooled model
    assert json.loads((folder / "bob" / "report.json").read_text())["metrics"]["pooled"] is None


def test_options_of_evaluation_and_prediction(workshop):
    job = workshop.job("evaluate.alone=false", "evaluate.share_metrics=false", "predict.rows=all")
    workshop.run(job)
    report = workshop.report(job, "bob")
    assert report["metrics"]["label_party_alone"] is None
    theirs = workshop.report(job, "alice")
    assert theirs["metrics"]["federation"] is None
    assert all(epoch["validation_auc"] is None for epoch in theirs["training"]["curve"])
    predictions = pl.read_parquet(workshop.results(job, "bob") / "predict" / "predictions.parquet")
    assert len(predictions) == report["alignment"]["samples"]
    assert set(predictions["split"]) == {"train", "valid", "test"}


def test_features_may_be_left_to_the_owner(workshop):
    start = workshop.text.index("    features: {Age")
    workshop.text = workshop.text[:start] + workshop.text[workshop.text.index("  bob:") :]
    job = workshop.job("predict.rows=none")
    pages = workshop.run(job)
    report = json.loads((pages["alice"].parent / "report.json").read_text())
    assert "ID" not in [feature["name"] for feature in report["data"]["features"]]
    assert len(report["data"]["features"]) >= 4
    assert not (workshop.results(job, "bob") / "predict").exists()


def drop(column):
    return lambda table: table.drop(column)


def twice(table):
    return pl.concat([table, table.head(3)])


@pytest.mark.parametrize(
    ("party", "spoil", "kind", "said"),
    [
        ("alice", drop("Age"), SchemaError, "no column 'Age'"),
        ("bob", drop("ID"), SchemaError, "no column 'ID'"),
        ("bob", twice, AlignError, "3 of"),
        (
            "alice",
            lambda t: t.with_columns(Income=pl.lit("much")),
            SchemaError,
            "numeric column 'Income' holds text",
        ),
        (
            "alice",
            lambda t: t.with_columns(Age=pl.lit(float("inf"))),
            SchemaError,
            "holds infinity",
        ),
        (
            "bob",
            lambda t: t.with_columns(
                Clicked=pl.when(pl.int_range(pl.len()) < 2).then(None).otherwise("Clicked")
            ),
            SchemaError,
            "missing in 2 of",
        ),
        (
            "bob",
            lambda t: t.with_columns(
                ID=pl.when(pl.int_range(pl.len()) < 5).then(None).otherwise("ID")
            ),
            AlignError,
            "5 of",
        ),
        ("alice", lambda t: t.head(0), DataError, ""),
    ],
)
def test_a_bad_table_is_one_clear_error_on_both_sides(workshop, party, spoil, kind, said):
    workshop.spoil(party, spoil)
    job = workshop.job()
    outcome = workshop.run(job)
    partner = "alice" if party == "bob" else "bob"
    assert isinstance(outcome[party], kind | AlignError)
    assert said in outcome[party].message
    assert isinstance(outcome[partner], PartnerFailed)
    told = str(outcome[partner])
    for private in ("Age", "Income", "Clicked", ".csv"):
        assert private not in told
    assert not (workshop.results(job, "bob") / "report.json").exists()
    assert part_files(workshop) == []


def test_the_label_at_the_wrong_party(workshop):
    workshop.change("label: {party: bob", "label: {party: alice")
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["alice"], SchemaError)
    assert "which the label 'Clicked == 1' needs (label.expression)" in outcome["alice"].message
    assert "label.party" in outcome["alice"].mend
    assert isinstance(outcome["bob"], PartnerFailed)


def test_nothing_in_common_is_an_alignment_error_on_both_sides(workshop):
    workshop.spoil("alice", lambda t: t.with_columns(ID=pl.col("ID") + 100_000))
    outcome = workshop.run(workshop.job())
    assert all(isinstance(error, AlignError) for error in outcome.values())


def test_an_unreadable_table(workshop):
    workshop.table("alice").unlink()
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["alice"], DataError)
    assert "people.csv" in outcome["alice"].message
    assert isinstance(outcome["bob"], PartnerFailed)


def test_a_partner_that_sends_nan(workshop, monkeypatch):
    real = train_step.modules_of

    def poisoned(context):
        bottom, top = real(context)
        if context.me == "alice":
            for parameter in bottom.parameters():
                parameter.data.fill_(float("nan"))
        return bottom, top

    monkeypatch.setattr(train_step, "modules_of", poisoned)
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["bob"], NotFinite)
    assert isinstance(outcome["alice"], NotFinite | PartnerFailed)


@pytest.mark.parametrize("victim", ["rows.npy", "index.npy", "bottom.safetensors", "report.json"])
def test_a_full_disk_leaves_nothing_half_written(workshop, monkeypatch, victim):
    import errno
    import os

    real = os.replace

    def full(source, target):
        if str(target).endswith(victim) and "alice" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    job = workshop.job()
    outcome = workshop.run(job)
    assert isinstance(outcome["alice"], StorageError)
    assert "no space left" in outcome["alice"].message
    assert victim in outcome["alice"].message
    if victim != "report.json":  # by then the partner has finished
        assert isinstance(outcome["bob"], PartnerFailed)
    assert not list(workshop.results(job, "alice").rglob(victim))
    assert part_files(workshop) == []
    monkeypatch.setattr(os, "replace", real)
    pages = workshop.run(job, resume=True)
    assert pages["alice"].exists()
    assert pages["bob"].exists()


def test_a_full_disk_while_predictions_are_written(workshop, monkeypatch):
    import polars.exceptions

    def full(self, file, **options):
        raise polars.exceptions.ComputeError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["bob"], StorageError)
    assert "no space left" in outcome["bob"].message
    assert "predictions.parquet" in outcome["bob"].message
    assert part_files(workshop) == []


def test_entity_keys(tmp_path, workshop):
    from isthmus.data.synthetic import SyntheticOptions, synthetic_tables

    options = SyntheticOptions(rows=600, users=60, items=30, keys="entity")
    synthetic_tables(1, options).write(tmp_path)
    workshop.change("align: {key: ID}", "align: {key: UserID, keys: entity}")
    job = workshop.job()
    pages = workshop.run(job)
    report = json.loads((pages["alice"].parent / "report.json").read_text())
    assert report["alignment"]["samples"] > report["alignment"]["common_keys"]
    encode = workshop.results(job, "alice") / "encode"
    assert len(np.load(encode / "features" / "index.npy")) == report["alignment"]["common_keys"]
    assert len(load_file(encode / "samples.safetensors")["rows"]) == report["alignment"]["samples"]


def test_keys_of_other_names(workshop):
    workshop.spoil("alice", lambda t: t.rename({"ID": "person id"}))
    workshop.change(
        "    table: alice/people.csv", "    table: alice/people.csv\n    key: person id"
    )
    pages = workshop.run(workshop.job())
    assert pages["alice"].exists()


def test_a_job_without_a_table_for_a_party(workshop):
    workshop.change("    table: alice/people.csv\n", "")
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["alice"], JobError)
    assert isinstance(outcome["bob"], PartnerFailed)


def test_three_parties(workshop):
    people = pl.read_csv(workshop.table("alice"))
    (workshop.folder / "carol").mkdir()
    people.select("ID", "Trait2").sample(fraction=0.9, seed=1).write_csv(
        workshop.folder / "carol" / "traits.csv"
    )
    workshop.change(", Trait2: categorical}", "}")
    workshop.change(
        "label:", "  carol: {table: carol/traits.csv, features: {Trait2: categorical}}\nlabel:"
    )
    job = workshop.job("evaluate.pooled=true")
    pages = workshop.run(job)
    report = json.loads((pages["bob"].parent / "report.json").read_text())
    assert {topic["partner"] for topic in report["traffic"]["topics"]} == {"alice", "carol"}
    theirs = json.loads((pages["carol"].parent / "report.json").read_text())
    assert theirs["alignment"]["samples"] == report["alignment"]["samples"]
    add_pooled(job, workshop.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(workshop.results(job, "bob")))
    metrics = json.loads((pages["bob"].parent / "report.json").read_text())["metrics"]
    assert metrics["pooled"]["log_loss"] == pytest.approx(
        metrics["federation"]["log_loss"], abs=1e-5
    )


def test_a_failure_at_one_feature_party_reaches_the_other(workshop):
    people = pl.read_csv(workshop.table("alice"))
    (workshop.folder / "carol").mkdir()
    people.select("ID", "Trait2").write_csv(workshop.folder / "carol" / "traits.csv")
    workshop.change(
        "label:", "  carol: {table: carol/traits.csv, features: {Trait9: categorical}}\nlabel:"
    )
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["carol"], SchemaError)
    assert isinstance(outcome["bob"], PartnerFailed)
    assert isinstance(outcome["alice"], PartnerFailed)


def test_a_label_party_may_bring_only_the_label(workshop):
    start = workshop.text.index("    features:\n      ItemID")
    workshop.change(workshop.text[start : workshop.text.index("label:")], "    features: {}\n")
    job = workshop.job("evaluate.pooled=true")
    pages = workshop.run(job)
    add_pooled(job, workshop.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(workshop.results(job, "bob")))
    report = json.loads((pages["bob"].parent / "report.json").read_text())
    assert report["data"]["features"] == []
    assert report["metrics"]["label_party_alone"] is None
    assert report["metrics"]["pooled"]["log_loss"] == pytest.approx(
        report["metrics"]["federation"]["log_loss"], abs=1e-5
    )
    assert not workshop.results(job, "bob").joinpath("train", "bottom.safetensors").exists()
    assert "bob alone" not in pages["bob"].read_text()


def test_a_feature_party_must_bring_features(workshop):
    workshop.change(
        "features: {Age: numeric, Income: numeric, Trait1: categorical, Trait2: categorical}",
        "features: {Age: ignore}",
    )
    with pytest.raises(JobError, match=r"parties\.alice\.features: only a party with labels may"):
        workshop.job()


def test_guards_and_schedules_by_the_job_file(workshop):
    plain = workshop.run(workshop.job())
    pages = workshop.run(
        workshop.job(
            "train.guards.cut=int8", "train.guards.gradient=int8", "train.schedule=microbatch:2"
        )
    )
    crossed = {}
    for name, found in (("plain", plain), ("guarded", pages)):
        report = json.loads((found["bob"].parent / "report.json").read_text())
        crossed[name] = sum(
            topic["sent_bytes"] + topic["received_bytes"]
            for topic in report["traffic"]["topics"]
            if topic["topic"] in ("train.valid", "predict.cut")
        )
    assert crossed["guarded"] < crossed["plain"] / 2
    page = pages["bob"].read_text()
    assert "Guards make what crosses smaller (cut tensors: int8, gradients: int8)" in page
    assert "Guards make" not in plain["bob"].read_text()
