"""Boosted trees as whole jobs: equal to the pooled model, of all kinds of labels, and how told."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from tests.jobs.tables import made_up

from isthmus.errors import JobError
from isthmus.jobs.local import run_here
from isthmus.jobs.precheck import check_own_side
from isthmus.session import SilentProgress
from isthmus.trees import boosting, label_side

TREES = "trees: {trees: 8, depth: 3, learning_rate: 0.3, min_rows: 10, bins: 8}\n"
DRAWN = (
    "trees: {trees: 30, depth: 3, leaves: 5, learning_rate: 0.5, min_rows: 10, bins: 8, "
    "subsample: 0.8, columns: 0.8, patience: 3}\n"
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("trees"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """With gaps, which trees take as they are."""
    tables = made_up(tmp_path_factory.mktemp("drawn"))
    tables.spoil("alice", a0=pl.when(pl.col("a1") > 1).then(None).otherwise(pl.col("a0")))
    job = tables.job(DRAWN, "evaluate.pooled=true", third=True)
    return tables, job, tables.run(job, pooled=True)


def same_as_pooled(tables, job):
    scores = load_file(tables.at(job, "bob", "evaluate", "scores.safetensors"))
    pooled = load_file(tables.at(job, "bob", "pooled", "scores.safetensors"))["pooled"]
    np.testing.assert_array_equal(scores["federation"], pooled)
    assert not np.allclose(scores["label_party_alone"], pooled)
    return pooled


def test_three_parties_are_the_pooled_model_to_the_last_bit(drawn):
    tables, job, reports = drawn
    same_as_pooled(tables, job)
    assert reports["bob"]["uplift"]["over_pooled"]["mean"] == 0.0
    assert reports["bob"]["uplift"]["over_label_party_alone"]["mean"] > 0.0


def test_training_stops_by_the_validation_samples(drawn):
    _, _, reports = drawn
    fitted = reports["bob"]["fitted"]
    losses = [point["validation"] for point in fitted["curve"]]
    assert fitted["trees"] == 1 + int(np.argmin(losses))
    assert fitted["trees"] < len(losses) < 30
    trained = [point["training"] for point in fitted["curve"]]
    assert trained[-1] < trained[0]


def test_importance_names_own_columns_alone(drawn):
    tables, job, reports = drawn
    rows = reports["bob"]["fitted"]["importance"]
    names = {party: [r["column"] for r in rows if r["party"] == party] for party in job.spec.order}
    assert set(names["bob"]) <= {"b0", "b1", "colour"}
    assert all(name.startswith("#") for name in [*names["alice"], *names["carol"]])
    theirs = reports["alice"]["fitted"]["importance"]
    assert {row["column"] for row in theirs} <= {"a0", "a1", "town"}
    assert all(row["gain"] is None for row in theirs)
    splits = {row["column"]: row["splits"] for row in rows if row["party"] == "alice"}
    assert sorted(splits.values()) == sorted(row["splits"] for row in theirs)
    page = tables.at(job, "bob", "report.html").read_text()
    for said in ("Boosted trees", "Loss by trees", "share of all gain", "trees kept"):
        assert said in page


def test_a_feature_party_keeps_its_cuts_and_learns_no_loss(drawn):
    tables, job, reports = drawn
    fitted = reports["alice"]["fitted"]
    assert fitted["curve"] == []
    assert fitted["trees"] is None
    assert fitted["stability"] is None
    model = json.loads(tables.at(job, "alice", "train", "model.json").read_text())
    assert model["trees"] == []
    assert len(model["cuts"]) > 0
    assert not list(tables.at(job, "alice").rglob("fitted.*"))
    page = tables.at(job, "alice", "report.html").read_text()
    assert "Loss by trees" not in page


def test_resuming_skips_what_is_finished(drawn):
    tables, job, reports = drawn
    model = tables.at(job, "bob", "train", "model.json")
    before = model.stat().st_mtime_ns
    again = tables.run(job, resume=True)
    assert model.stat().st_mtime_ns == before
    assert again["bob"]["metrics"]["federation"] == reports["bob"]["metrics"]["federation"]


def test_several_classes(tables):
    job = tables.job(
        TREES, "label.kind=multiclass", "label.expression=grade", "evaluate.pooled=true"
    )
    reports = tables.run(job, pooled=True)
    assert same_as_pooled(tables, job).shape[1] == 3
    figures = {one["metric"]: one for one in reports["bob"]["targets"]}
    assert set(figures) == {"accuracy", "log loss"}
    assert figures["accuracy"]["federation"] > figures["accuracy"]["label_party_alone"]
    found = pl.read_parquet(tables.at(job, "bob", "predict", "predictions.parquet"))
    assert set(found["class"]) <= {"low", "mid", "high"}
    assert (found["class"] == found["label"]).mean() == figures["accuracy"]["federation"]
    assert "trees.tree" in tables.at(job, "bob", "report.html").read_text()


@pytest.mark.parametrize(
    ("column", "family", "metrics"),
    [
        ("amount", "", {"RMSE", "MAE"}),
        ("claims", "family: poisson, ", {"RMSE", "MAE", "deviance", "Gini"}),
    ],
)
def test_numbers_and_counts(tables, column, family, metrics):
    job = tables.job(
        TREES.replace("{", "{" + family),
        "label.kind=real",
        f"label.expression={column}",
        "label.weight=w",
        "evaluate.pooled=true",
    )
    reports = tables.run(job, pooled=True)
    same_as_pooled(tables, job)
    figures = {one["metric"]: one for one in reports["bob"]["targets"]}
    assert set(figures) == metrics
    if column == "amount":
        # Of counts next to nothing can be foretold, and so few rows do not show it.
        assert figures["RMSE"]["federation"] < figures["RMSE"]["label_party_alone"]
    found = pl.read_parquet(tables.at(job, "bob", "predict", "predictions.parquet"))
    squares = (found["value"] - found["label"]) ** 2
    assert figures["RMSE"]["federation"] == pytest.approx(squares.mean() ** 0.5)


def test_first_trees_of_own_columns_alone_show_partners_nothing(tables):
    job = tables.job(TREES.replace("{", "{own_trees: 8, "))
    reports = tables.run(job)
    assert {one["party"] for one in reports["bob"]["fitted"]["importance"]} == {"bob"}
    assert reports["alice"]["fitted"]["importance"] == []
    found = reports["bob"]["metrics"]
    assert found["federation"]["auc"] == found["label_party_alone"]["auc"]


def test_a_label_party_with_a_label_alone_shares_no_figures(tables):
    job = tables.job(
        TREES, "parties.bob.features={}", "evaluate.pooled=true", "evaluate.share_metrics=false"
    )
    reports = tables.run(job, pooled=True)
    metrics = reports["bob"]["metrics"]
    assert metrics["federation"] == metrics["pooled"]
    assert metrics["label_party_alone"] is None
    assert reports["alice"]["metrics"]["federation"] is None
    assert {one["party"] for one in reports["bob"]["fitted"]["importance"]} == {"alice"}


def test_noise_on_partners_sums_is_accounted_for(tables):
    reports = tables.run(tables.job(TREES.replace("{", "{noise: 4.0, ")))
    for party in ("alice", "bob"):
        assert reports[party]["fitted"]["rho"] > 0
    assert reports["bob"]["metrics"]["federation"]["auc"] > 0.5


def test_fewer_and_coarser_sums(tables):
    plain = tables.job(TREES, "evaluate.pooled=true")
    coarse = tables.job(TREES.replace("{", "{bits: 6, "), "evaluate.pooled=true")
    grouped = tables.job(TREES.replace("{", "{cell: 30, bits: 40, "), "evaluate.pooled=true")
    # Left out, or as it is anyway, they are no part of what is agreed.
    assert tables.job(TREES.replace("{", "{cell: 1, ")).hash == tables.job(TREES).hash
    assert len({job.hash for job in (plain, coarse, grouped)}) == 3
    reports = {job.hash: tables.run(job, pooled=True)["bob"] for job in (plain, coarse, grouped)}
    same_as_pooled(tables, coarse)
    for other in (coarse, grouped):
        models = [
            json.loads(tables.at(job, "bob", "train", "model.json").read_text())
            for job in (plain, other)
        ]
        assert models[0]["trees"] != models[1]["trees"]
        federation = reports[other.hash]["metrics"]["federation"]["auc"]
        assert abs(federation - reports[plain.hash]["metrics"]["federation"]["auc"]) < 0.05
    page = tables.at(grouped, "alice", "report.html").read_text()
    assert "rows of a shown sum at least" in page
    assert "binary places" not in page


def test_groups_of_rows_that_partners_cannot_count_are_refused(tables):
    job = tables.job(TREES.replace("{", "{cell: 5, goss: [0.2, 0.2], "))
    with pytest.raises(JobError, match="cell counts rows that goss leaves out"):
        check_own_side(job, "bob")


def test_predictions_along_paths_are_the_same(tables):
    plain, along = tables.job(TREES), tables.job(TREES.replace("{", "{paths: true, "))
    reports = [tables.run(job)["bob"] for job in (plain, along)]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    topics = {one["topic"] for one in reports[1]["traffic"]["topics"]}
    assert "trees.told" in topics
    assert "trees.bits" not in topics


def test_patience_needs_validation_samples(tables):
    job = tables.job(DRAWN, "split.valid=0.0", "split.test=0.3", third=True)
    with pytest.raises(JobError, match=r"trees\.patience: there are no validation samples"):
        check_own_side(job, "bob")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TREES + "linear: {family: logistic}\n", "linear or trees"),
        (TREES.replace("{", "{family: poisson, "), "a count is a real label"),
        (TREES.replace("depth: 3", "depth: 0"), "depth"),
        (TREES.replace("depth: 3", "cell: 0"), "cell"),
        (TREES.replace("depth: 3", "bits: 3"), "bits"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_place(tables, text, said):
    with pytest.raises(JobError, match=said):
        tables.job(text)


def test_options_that_the_trees_refuse_are_told_before_the_job(tables):
    job = tables.job(TREES.replace("{", "{goss: [0.7, 0.7], "))
    with pytest.raises(JobError, match="goss cannot be"):
        check_own_side(job, "alice")


class Heard(SilentProgress):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_a_job_that_was_stopped_within_its_fit_goes_on(tables, monkeypatch):
    job = tables.job(DRAWN, "seed=6")
    whole = tables.run(job)
    kept = {party: tables.at(job, party, "train", "model.json").read_text() for party in whole}
    made = boosting.Boosting.round

    def some(self, number):
        if number == 5:
            raise KeyboardInterrupt
        made(self, number)

    # As if trees took long.
    monkeypatch.setattr(label_side.Keeping.__init__, "__defaults__", (0.0, lambda: 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(boosting.Boosting, "round", some)
        with pytest.raises(KeyboardInterrupt):
            run_here(job, tables.folder / "runs")
    for party in whole:
        assert len(list(tables.at(job, party, "train", "checkpoints").iterdir())) == 2
    heard = Heard()
    run_here(job, tables.folder / "runs", resume=True, progress=heard)
    assert heard.said.count("continuing after round 5") == 2
    for party, model in kept.items():
        assert tables.at(job, party, "train", "model.json").read_text() == model
        assert not tables.at(job, party, "train", "checkpoints").exists()
        report = json.loads(tables.at(job, party, "report.json").read_text())
        assert report["metrics"] == whole[party]["metrics"]


def test_without_resume_a_stopped_job_begins_anew(tables, monkeypatch):
    job = tables.job(TREES, "seed=7")

    def fails(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(label_side.Keeping.__init__, "__defaults__", (0.0, lambda: 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(boosting.Boosting, "end", fails)
        with pytest.raises(KeyboardInterrupt):
            run_here(job, tables.folder / "runs")
    assert tables.at(job, "bob", "train", "checkpoints").exists()
    heard = Heard()
    run_here(job, tables.folder / "runs", progress=heard)
    assert not any("continuing" in line for line in heard.said)
