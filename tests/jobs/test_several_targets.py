"""A job with several targets: binary, real with missing values, classes; weights of samples."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from isthmus.errors import BadMessage, JobError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.measured import Measured
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_choices
from isthmus.jobs.report.parts import TargetFigures
from isthmus.jobs.steps.evaluate import check_targets
from isthmus.jobs.steps.predict import predicted
from isthmus.jobs.targets import load_targets, save_targets
from isthmus.split import Target, Targets

LABEL = 'label: {party: bob, expression: "Clicked == 1"}'
SEVERAL = """\
label:
  party: bob
  expression: "Clicked == 1"
  name: click
  weight: Counts
  also:
    stars: {expression: Stars, kind: real, weight: 0.5}
    mood: {expression: Mood, kind: multiclass}
"""


@pytest.fixture
def several(workshop):
    """The workshop with a rating that half of the rows lack, a mood, and weights."""

    def add(events):
        rng = np.random.default_rng(2)
        clicked = events["Clicked"].to_numpy()
        stars = np.round(3 + clicked + rng.normal(scale=0.5, size=len(events)), 1)
        kinds = np.where(rng.random(len(events)) < 0.7, clicked, 2)
        rated = rng.random(len(events)) < 0.5
        return events.with_columns(
            pl.Series("Stars", np.where(rated, stars, np.nan)).fill_nan(None),
            pl.Series("Mood", np.array(["bad", "good", "none"])[kinds]),
            pl.Series("Counts", rng.integers(1, 4, len(events))),
        )

    workshop.spoil("bob", add)
    workshop.change(LABEL + "\n", SEVERAL)
    workshop.change("  model: {dim: 4,", "  model: {name: mmoe, experts: {width: 8}, dim: 4,")
    return workshop


def test_a_job_with_targets_of_all_kinds(several):
    job = several.job("evaluate.pooled=true", "train.epochs=4")
    pages = several.run(job)
    add_pooled(job, several.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(pages["bob"].parent))
    report, theirs = several.report(job, "bob"), several.report(job, "alice")

    assert report["metrics"]["federation"]["auc"] > 0.5
    found = {(t["name"], t["metric"]): t for t in report["targets"]}
    assert list(found) == [
        *(("click", "AUC"), ("click", "log loss")),
        *(("stars", "RMSE"), ("stars", "MAE")),
        *(("mood", "accuracy"), ("mood", "log loss")),
    ]
    for target in found.values():
        assert target["federation"] == pytest.approx(target["pooled"], abs=1e-5)
        assert target["label_party_alone"] is not None
    assert found["click", "AUC"]["federation"] == report["metrics"]["federation"]["auc"]
    # Rows without a rating are not measured, and its figures are in stars.
    assert 0 < found["stars", "RMSE"]["rows"] < found["click", "AUC"]["rows"]
    assert 0.3 < found["stars", "RMSE"]["federation"] < 1.0
    assert report["training"]["curve"][0]["validation_loss"] is not None
    assert "stars" in pages["bob"].read_text()

    shared = {(t["name"], t["metric"]): t for t in theirs["targets"]}
    for name, target in found.items():
        assert shared[name]["federation"] == round(target["federation"], 4)
        assert shared[name]["rows"] is None

    table = pl.read_parquet(several.results(job, "bob") / "predict" / "predictions.parquet")
    assert table.columns == [
        *("row", "ID", "probability", "label", "value_stars", "label_stars"),
        *("class_mood", "probability_mood", "label_mood", "split"),
    ]
    events = pl.read_csv(several.table("bob")).select("ID", "Stars", "Mood", "Clicked")
    joined = table.join(events.with_columns(pl.col("ID").cast(pl.String)), on="ID")
    assert len(joined) == len(table) > 50
    assert (joined["label"] == joined["Clicked"]).all()
    assert joined["label_mood"].equals(joined["Mood"].rename("label_mood"))
    assert joined["label_stars"].is_null().equals(joined["Stars"].is_null())
    np.testing.assert_allclose(
        joined["label_stars"].drop_nulls(), joined["Stars"].drop_nulls(), atol=1e-5
    )
    assert joined["value_stars"].is_between(0, 7).all()


def test_levels_of_experts_are_split_as_they_are_pooled(several):
    """PLE in a job: two levels, an expert of each target's own."""
    several.change("experts: {width: 8}", "experts: {width: 8, own: 1, levels: 2}")
    job = several.job("evaluate.pooled=true", "evaluate.alone=false", "predict.rows=none")
    pages = several.run(job)
    add_pooled(job, several.out / job.folder_name)
    write_party_report(job, "bob", PartyFolder(pages["bob"].parent))
    report = several.report(job, "bob")
    assert report["model"]["hyper_parameters"]["experts.levels"] == 2
    for target in report["targets"]:
        assert target["federation"] == pytest.approx(target["pooled"], abs=1e-5)
    state = load_file(several.results(job, "bob") / "train" / "top.safetensors")
    assert any(name.startswith("deeper.0.own.2.") for name in state)


@pytest.mark.parametrize("network", ["mmoe, experts: {width: 8}", "deepfm"])
def test_a_real_target_alone(several, network):
    several.change("name: mmoe, experts: {width: 8}", f"name: {network}")
    several.change(SEVERAL, "label: {party: bob, expression: Stars, kind: real, name: stars}\n")
    job = several.job("train.metric=loss")
    pages = several.run(job)
    report = several.report(job, "bob")
    assert report["metrics"]["federation"] is None
    assert report["data"]["positive_rate"] is None
    assert [t["metric"] for t in report["targets"]] == ["RMSE", "MAE"]
    assert 0.3 < report["targets"][0]["federation"] < 1.5
    assert "root mean square error" in pages["bob"].read_text()
    table = pl.read_parquet(several.results(job, "bob") / "predict" / "predictions.parquet")
    assert table.columns == ["row", "ID", "value", "label", "split"]
    assert table["label"].null_count() > 0
    labels = load_file(several.results(job, "bob") / "encode" / "labels.safetensors")["labels"]
    assert labels.shape[1] == 1


def test_a_network_of_one_output_refuses_several_targets(several):
    several.change("name: mmoe, experts: {width: 8}, ", "")
    with pytest.raises(JobError, match="one number a sample"):
        check_choices(several.job())


def test_targets_are_kept_beside_the_labels(tmp_path):
    targets = Targets((Target("a"), Target("b", "multiclass", 2, classes=("x", "y"))))
    save_targets(tmp_path, targets)
    assert load_targets(tmp_path) == targets


def test_one_binary_label_needs_no_file(tmp_path):
    save_targets(tmp_path, Targets((Target("click"),)))
    assert list(tmp_path.iterdir()) == []
    assert load_targets(tmp_path).plain


def test_a_further_target_of_one_class_in_the_test_samples_has_no_auc():
    targets = Targets((Target("a"), Target("b")))
    labels = np.array([[0, 1], [1, 1], [1, np.nan]], np.float32)
    scores = {"federation": np.array([[0.1, 0.5], [0.9, 0.6], [0.8, 0.2]])}
    measured = Measured(labels, scores, targets)
    figures = {(t.name, t.metric): t for t in measured.target_figures()}
    assert figures["b", "AUC"].federation is None
    assert figures["b", "AUC"].rows == 2
    assert figures["b", "log loss"].federation == pytest.approx(-np.log([0.5, 0.6]).mean())
    assert figures["a", "AUC"].federation == 1.0


def test_predictions_of_one_binary_label_are_as_they_were():
    made = list(predicted(Targets(), np.array([0, 1], np.float32), np.array([0.25, 0.5])))
    assert [(s.name, s.dtype, s.to_list()) for s in made] == [
        ("probability", pl.Float64, [0.25, 0.5]),
        ("label", pl.Int8, [0, 1]),
    ]


def test_weights_change_what_a_network_of_one_output_learns(several):
    """A sample of weight 0 is not learnt from: labels turned round there change nothing."""
    several.change("name: mmoe, experts: {width: 8}, ", "")
    several.change(SEVERAL, LABEL.replace("}", ", weight: Counts}") + "\n")

    def weigh(turned):
        def change(events):
            low = pl.col("ItemID") % 4 == 0
            label = pl.when(low & turned).then(1 - pl.col("Clicked")).otherwise(pl.col("Clicked"))
            return events.with_columns(Counts=(~low).cast(pl.Int8), Clicked=label)

        return change

    learnt = []
    for turned in (False, True):
        several.spoil("bob", weigh(turned))
        job = several.job("predict.rows=none", "evaluate.alone=false", "train.patience=0")
        several.run(job)
        result = json.loads((several.results(job, "bob") / "train" / "result.json").read_text())
        learnt.append([epoch["train_loss"] for epoch in result["epochs"]])
    assert learnt[0] == learnt[1]


@pytest.mark.parametrize(
    "wrong",
    [
        [("click", "binary", "AUC"), ("click", "binary", "AUC")],
        [("click", "real", "RMSE")],
        [("stars", "real", "AUC")],
        [("stars", "real", "RMSE\x1b[2J")],
        [("likes", "binary", "AUC")],
    ],
)
def test_shared_figures_are_of_the_jobs_targets(several, wrong):
    """What a partner sends as a name would else stand in the report and on the screen."""

    def figures(rows):
        return [TargetFigures(name=n, kind=k, metric=m, federation=0.5) for n, k, m in rows]

    label = several.job().spec.label
    check_targets(label, figures([("stars", "real", "RMSE"), ("click", "binary", "AUC")]), "bob")
    with pytest.raises(BadMessage, match="bob sent metrics of targets that the job does not have"):
        check_targets(label, figures(wrong), "bob")
