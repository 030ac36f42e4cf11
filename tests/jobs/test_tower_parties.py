"""A job whose labels are at several parties: bob's click, alice's bargain, carol's mood."""

import numpy as np
import polars as pl
import pytest

from isthmus.errors import BadMessage, JobError, SchemaError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.precheck import check_choices, check_own_side
from isthmus.jobs.report.parts import TargetFigures
from isthmus.jobs.samples import WEIGHTS, hear_weights
from isthmus.jobs.steps.evaluate import check_targets
from isthmus.jobs.tables import features_of
from isthmus.link.memory import memory_links
from isthmus.session import Session

LABEL = 'label: {party: bob, expression: "Clicked == 1"}'
TOWERS = """\
label:
  party: bob
  expression: "Clicked == 1"
  name: click
  weight: Counts
  also:
    bargain: {party: alice, expression: Bargain}
    mood: {party: carol, expression: Mood, kind: multiclass, weight: 0.5}
"""
CAROL = """\
  carol:
    table: carol/people.csv
    features: {}
  bob:
"""


@pytest.fixture
def towers(workshop):
    """The workshop with a label at alice that some rows lack, one at carol, weights at bob."""
    rng = np.random.default_rng(2)
    people = pl.read_csv(workshop.table("alice"))
    (workshop.folder / "carol").mkdir()
    moods = pl.Series("Mood", np.array(["bad", "good", "so"])[rng.integers(0, 3, len(people))])
    people.select("ID").with_columns(moods).write_csv(workshop.folder / "carol" / "people.csv")

    def bargain(frame):
        wish = frame["Income"].to_numpy() + rng.normal(size=len(frame)) * frame["Income"].std()
        found = pl.Series("Bargain", (wish > np.nanmedian(wish)).astype(np.int8))
        missing = pl.Series(rng.random(len(frame)) < 0.2)
        return frame.with_columns(pl.when(missing).then(None).otherwise(found).alias("Bargain"))

    workshop.spoil("alice", bargain)
    counts = pl.Series("Counts", rng.integers(1, 4, 600))
    workshop.spoil("bob", lambda events: events.with_columns(counts[: len(events)]))
    workshop.change(LABEL + "\n", TOWERS)
    workshop.change("  bob:\n", CAROL)
    workshop.change("  model: {dim: 4,", "  model: {name: mmoe, experts: {width: 8}, dim: 4,")
    return workshop


def test_each_label_party_learns_measures_and_predicts_its_own(towers):
    job = towers.job("evaluate.pooled=true", "train.epochs=3")
    pages = towers.run(job)
    add_pooled(job, towers.out / job.folder_name)
    for party in job.spec.order:
        write_party_report(job, party, PartyFolder(pages[party].parent))
    reports = {party: towers.report(job, party) for party in job.spec.order}

    found = {
        party: {(t["name"], t["metric"]): t for t in report["targets"]}
        for party, report in reports.items()
    }
    own = {
        "bob": [("click", "AUC"), ("click", "log loss")],
        "alice": [("bargain", "AUC"), ("bargain", "log loss")],
        "carol": [("mood", "accuracy"), ("mood", "log loss")],
    }
    for party, names in own.items():
        for name in names:
            figure = found[party][name]
            assert figure["federation"] == pytest.approx(figure["pooled"], abs=1e-5)
            if party != "bob":
                assert found["bob"][name]["federation"] == round(figure["federation"], 4)
    assert found["alice"]["bargain", "AUC"]["federation"] > 0.5
    assert ("mood", "accuracy") not in found["alice"]
    assert found["alice"]["click", "AUC"]["federation"] == round(
        found["bob"]["click", "AUC"]["federation"], 4
    )
    assert reports["alice"]["metrics"] == reports["carol"]["metrics"]
    assert "alice holds the labels" in " ".join(reports["bob"]["notes"])
    assert [part["name"] for part in reports["carol"]["model"]["parts"]] == ["tower"]

    epochs = {party: report["training"]["curve"] for party, report in reports.items()}
    assert len(epochs["alice"]) == 3
    for epoch in epochs["alice"]:
        assert epoch["tower_train_loss"] > 0
        assert epoch["tower_validation_auc"] != epoch["validation_auc"]
    assert all(epoch["tower_validation_loss"] > 0 for epoch in epochs["carol"])
    assert all(epoch["tower_validation_auc"] is None for epoch in epochs["carol"])
    assert all(epoch["tower_train_loss"] is None for epoch in epochs["bob"])
    page = (towers.results(job, "alice") / "report.html").read_text()
    assert "Validation AUC by epoch of alice" in page
    assert "by epoch of bob" not in (towers.results(job, "bob") / "report.html").read_text()

    columns = {
        "bob": ["probability", "label"],
        "alice": ["probability_bargain", "label_bargain"],
        "carol": ["class_mood", "probability_mood", "label_mood"],
    }
    for party, names in columns.items():
        table = pl.read_parquet(towers.results(job, party) / "predict" / "predictions.parquet")
        assert table.columns == ["row", "ID", *names, "split"]
    table = pl.read_parquet(towers.results(job, "alice") / "predict" / "predictions.parquet")
    people = pl.read_csv(towers.table("alice")).with_columns(pl.col("ID").cast(pl.String))
    joined = table.join(people, on="ID")
    assert joined["label_bargain"].equals(joined["Bargain"].cast(pl.Int8).rename("label_bargain"))
    assert joined["Bargain"].null_count() > 0


def test_the_model_is_applied_to_other_rows_and_each_has_its_own_predictions(towers):
    before = towers.job("predict.rows=all", "evaluate.alone=false", "train.epochs=1")
    towers.run(before)
    folder = "predict/predictions.parquet"
    known = {p: pl.read_parquet(towers.results(before, p) / folder) for p in before.spec.order}
    for party, label in (("alice", "Bargain"), ("bob", "Clicked")):
        towers.spoil(party, lambda rows, label=label: rows.drop(label))
    people = pl.read_csv(towers.folder / "carol" / "people.csv").drop("Mood")
    people.head(50).write_csv(towers.folder / "carol" / "people.csv")
    job = towers.job(
        "predict.rows=all", "evaluate.alone=false", "train.epochs=1",
        f"predict.model={before.folder_name}",
    )  # fmt: skip
    ends = towers.run(job)
    assert not [end for end in ends.values() if isinstance(end, Exception)]
    columns = {
        "bob": ["probability"],
        "alice": ["probability_bargain"],
        "carol": ["class_mood", "probability_mood"],
    }
    for party, names in columns.items():
        found = pl.read_parquet(towers.results(job, party) / folder)
        assert found.columns == ["row", "ID", *names]
        both = found.join(known[party], on="ID", suffix="_before")
        assert 0 < len(both) == len(found) < len(known[party])
        for name in names:
            if name.startswith("class"):
                assert both[name].equals(both[f"{name}_before"].rename(name))
            else:
                np.testing.assert_allclose(both[name], both[f"{name}_before"], atol=1e-6)


@pytest.mark.parametrize("share", [True, False])
def test_a_secure_sum_and_figures_that_are_shared_or_not(towers, share):
    towers.change("features: {}", "features: {Age: numeric, Trait1: categorical}")
    towers.change("  weight: Counts\n", "")
    people = pl.read_csv(towers.table("alice")).select("ID", "Age", "Trait1")
    path = towers.folder / "carol" / "people.csv"
    pl.read_csv(path).join(people, on="ID").write_csv(path)
    shared = f"evaluate.share_metrics={str(share).lower()}"
    job = towers.job("train.secure_sum=true", shared, "train.epochs=1")
    pages = towers.run(job)
    assert all(page.name == "report.html" for page in pages.values()), pages
    assert [t["name"] for t in towers.report(job, "alice")["targets"]] == ["bargain"] * 2
    names = [t["name"] for t in towers.report(job, "bob")["targets"]]
    assert names == (["click", "click", "bargain", "bargain", "mood", "mood"] if share else [])
    assert (towers.results(job, "bob") / "evaluate" / "towers.json").exists() == share


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("party: alice, expression", "party: dora, expression", "'dora' is not one of"),
        ("Income: numeric", "Income: numeric, Bargain: categorical", "cannot be a feature"),
        ("  epochs: 2", "  epochs: 2\n  secure_sum: true", "carol, which brings no columns"),
        ("party: carol, ", "", "only a party with labels may do without features"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(towers, old, new, said):
    towers.change(old, new)
    with pytest.raises(JobError, match=said):
        towers.job()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  epochs: 2", "  epochs: 2\n  schedule: local:2", "labels at several parties"),
        ("name: mmoe, experts: {width: 8}, ", "", "one number a sample"),
    ],
)
def test_networks_and_schedules_that_cannot_are_told(towers, old, new, said):
    towers.change(old, new)
    with pytest.raises(JobError, match=said):
        check_choices(towers.job())


def test_a_tower_party_is_told_what_its_table_lacks(towers):
    job = towers.job()
    check_own_side(job, "carol")
    towers.spoil("alice", lambda frame: frame.drop("Bargain"))
    with pytest.raises(SchemaError, match=r"'Bargain', which the label .*also\.\w+\.expr") as told:
        check_own_side(job, "alice")
    assert "label.also.bargain.party" in told.value.mend


def test_a_guess_leaves_the_label_out(towers):
    towers.change(
        "features: {Age: numeric, Income: numeric, Trait1: categorical, Trait2: categorical}", ""
    )
    assert "Bargain" not in features_of(towers.job(), "alice")


def test_figures_of_targets_that_are_not_the_partners_are_refused(towers):
    label = towers.job().spec.label
    figures = TargetFigures(name="bargain", kind="binary", metric="AUC", federation=0.5)
    check_targets(label, [figures], "alice")
    for partner in ("bob", "carol"):
        with pytest.raises(BadMessage, match="does not have"):
            check_targets(label, [figures], partner)
    with pytest.raises(BadMessage):
        check_targets(label, [figures.model_copy(update={"rows": 60})], "alice")


@pytest.mark.parametrize(
    "weight",
    [
        np.array([1, -1, 1], np.float32),
        np.array([1, np.nan, 1], np.float32),
        np.array([1, 1], np.float32),
        np.array([1, 1, 1], np.float64),
    ],
)
def test_weights_are_checked(weight):
    bob, alice = memory_links("bob", "alice")
    bob.send(WEIGHTS, {"weight": weight})
    session = Session(me="alice", parties=("alice", "bob"), label_party="bob", links={"bob": alice})
    with pytest.raises(BadMessage, match=WEIGHTS):
        hear_weights(session, 3)
