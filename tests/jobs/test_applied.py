"""A trained model applied to other rows: the same predictions, no labels, nothing trained."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from isthmus.errors import BadMessage, JobError, PartnerFailed
from isthmus.jobs.applied import check_applied
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.steps import predict

TRAINED = ("predict.rows=all", "train.epochs=1", "evaluate.alone=false")


def trained(workshop):
    job = workshop.job(*TRAINED)
    workshop.run(job)
    return job


def applied(workshop, earlier, *more):
    """The same job file with the model that is there already, and tables without labels."""
    workshop.spoil("bob", lambda table: table.drop("Clicked"))
    return workshop.job(*TRAINED, f"predict.model={earlier.folder_name}", *more)


def table(workshop, job, party="bob"):
    return pl.read_parquet(workshop.results(job, party) / "predict" / "predictions.parquet")


def test_the_same_rows_get_the_same_predictions(workshop):
    before = trained(workshop)
    job = applied(workshop, before)
    check_applied(job, "bob", workshop.out)
    pages = workshop.run(job)
    assert pages["bob"].name == "report.html"
    found, known = table(workshop, job), table(workshop, before)
    assert found.columns == ["row", "ID", "probability"]
    both = known.join(found, on=["row", "ID"], how="full", suffix="_now")
    assert len(both) == len(found) == len(known)
    assert (both["probability"] == both["probability_now"]).all()

    folder = PartyFolder(workshop.results(job, "bob"))
    assert not any(folder.step(name).is_sealed for name in ("train", "evaluate"))
    report = json.loads(folder.file("report.json").read_text())
    assert report["job"]["applies"] == before.folder_name
    assert report["training"] is None
    assert report["metrics"]["federation"] is None
    assert before.folder_name in folder.file("report.html").read_text()


def test_new_rows_are_encoded_as_the_old_ones_were(workshop):
    before = trained(workshop)
    known = table(workshop, before)
    kept = known["ID"].head(40).to_list()
    workshop.spoil("bob", lambda rows: rows.filter(pl.col("ID").cast(pl.String).is_in(kept)))
    # A vocabulary fitted on forty rows would give other numbers.
    job = applied(workshop, before)
    workshop.run(job)
    both = table(workshop, job).join(known, on="ID", suffix="_before")
    assert len(both) == len(kept)
    np.testing.assert_allclose(both["probability"], both["probability_before"], atol=1e-6)


def test_predictions_go_to_the_parties_that_the_job_names(workshop):
    before = trained(workshop)
    job = applied(workshop, before, "predict.to=[alice]")
    workshop.run(job)
    theirs, ours = table(workshop, job, "alice"), table(workshop, job)
    assert theirs.columns == ["row", "ID", "probability"]
    both = theirs.join(ours, on="ID", suffix="_bob")
    assert len(both) == len(ours)
    assert (both["probability"] == both["probability_bob"]).all()
    people = pl.read_csv(workshop.table("alice"), schema_overrides={"ID": pl.String})
    assert (people["ID"][(theirs["row"] - 1).to_list()] == theirs["ID"]).all()


def test_they_go_in_pieces(workshop, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 7)
    before = trained(workshop)
    job = applied(workshop, before, "predict.to=[alice]")
    workshop.run(job)
    both = table(workshop, job, "alice").join(table(workshop, job), on="ID", suffix="_bob")
    assert (both["probability"] == both["probability_bob"]).all()


@pytest.mark.parametrize(
    "spoil", [lambda s: s[:-1], lambda s: s + 1.5, lambda s: s * np.nan, lambda s: s.astype("f4")]
)
def test_predictions_that_are_none_are_refused(workshop, monkeypatch, spoil):
    before = trained(workshop)
    real = predict.tell
    monkeypatch.setattr(predict, "tell", lambda context, scores: real(context, spoil(scores)))
    ends = workshop.run(applied(workshop, before, "predict.to=[alice]"))
    assert isinstance(ends["alice"], BadMessage)


def test_a_model_of_another_kind_is_refused(workshop):
    before = trained(workshop)
    job = applied(workshop, before, "train.model.dim=8")
    with pytest.raises(JobError, match=r"predict\.model: train is not what it was in tiny-"):
        check_applied(job, "bob", workshop.out)
    job = applied_again(workshop, before, "parties.bob.features={ItemID: categorical}")
    with pytest.raises(JobError, match=r"parties\.bob\.features is not what it was"):
        check_applied(job, "bob", workshop.out)


def applied_again(workshop, earlier, *more):
    return workshop.job(*TRAINED, f"predict.model={earlier.folder_name}", *more)


def test_a_model_that_is_not_there_or_not_finished_is_refused(workshop):
    job = workshop.job(*TRAINED, "predict.model=tiny-00000000")
    with pytest.raises(JobError, match=r"there is no .*tiny-00000000/bob/job\.json") as none:
        check_applied(job, "bob", workshop.out)
    assert none.value.mend.startswith("--out names")
    before = trained(workshop)
    with pytest.raises(JobError) as other:
        check_applied(job, "bob", workshop.out)
    assert f"latest trainings of bob there: {before.folder_name}. " in other.value.mend
    job = applied(workshop, before)
    PartyFolder(workshop.results(before, "bob")).step("train").unseal()
    with pytest.raises(JobError, match="holds no finished training"):
        check_applied(job, "bob", workshop.out)
    said = workshop.results(before, "alice") / "job.json"
    said.write_text(said.read_text().replace('"seed":3', '"seed":4'))
    with pytest.raises(JobError, match="not of the job that its folder is called after"):
        check_applied(job, "alice", workshop.out)


def test_parts_of_two_trainings_do_not_go_together(workshop):
    before = trained(workshop)
    kept = workshop.folder / "kept"
    shutil.copytree(workshop.results(before, "alice"), kept)
    workshop.run(before)
    shutil.rmtree(workshop.results(before, "alice"))
    shutil.copytree(kept, workshop.results(before, "alice"))
    ends = workshop.run(applied(workshop, before))
    assert all(isinstance(end, (JobError, PartnerFailed)) for end in ends.values())
    assert any("is of another run of it" in str(end) for end in ends.values())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("predict.to=[bob]", r"predict\.to: 'bob' is not one of alice"),
        ("predict.rows=none", r"predict\.model: there is nothing to predict"),
        ("predict.model=tiny", r"predict\.model"),
    ],
)
def test_what_cannot_be_is_refused_in_the_file(workshop, override, said):
    with pytest.raises(JobError, match=said):
        workshop.job("predict.model=tiny-00000000", override)


def test_predictions_of_other_tables_are_not_lost(workshop):
    before = trained(workshop)
    job = applied(workshop, before)
    workshop.run(job)
    with pytest.raises(JobError, match=r"tiny-\w+/bob holds predictions that were made before"):
        check_applied(job, "bob", workshop.out)
    check_applied(job, "bob", workshop.out, resume=True)
    check_applied(applied_again(workshop, before, "name=march"), "bob", workshop.out)
