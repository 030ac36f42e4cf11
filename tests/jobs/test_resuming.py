"""`--resume` that cannot resume says why, on the screen and in the log."""

import json

import polars as pl
import pytest

from isthmus.errors import StorageError
from isthmus.jobs.local import run_here
from isthmus.jobs.steps import train as train_step
from isthmus.session import SilentProgress


class Heard(SilentProgress):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def resume(workshop, job):
    heard = Heard()
    run_here(job, workshop.out, resume=True, progress=heard)
    return heard.said


def logged(workshop, job, party):
    lines = (workshop.results(job, party) / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [event["said"] for event in events if event["event"] == "resume"]


def test_no_earlier_run(workshop):
    job = workshop.job()
    said = resume(workshop, job)
    for party in ("alice", "bob"):
        why = f"nothing to resume: no run of this job in {workshop.results(job, party)} has come"
        assert any(line.startswith(why) for line in said)
        assert logged(workshop, job, party)[0].startswith(why)


def test_a_run_that_is_resumed_has_nothing_to_explain(workshop):
    job = workshop.job()
    workshop.run(job)
    resume(workshop, job)
    assert logged(workshop, job, "alice") == logged(workshop, job, "bob") == []


def test_a_changed_table(workshop):
    job = workshop.job()
    workshop.run(job)
    workshop.spoil("bob", lambda table: table.head(400))
    workshop.run(job, resume=True)
    assert logged(workshop, job, "bob") == ["nothing to resume: bob's table changed since"]
    assert logged(workshop, job, "alice") == [
        "nothing to resume: bob cannot go on from an earlier run"
    ]


def test_only_one_party_asks(workshop):
    job = workshop.job()
    workshop.run(job, resume={"alice": True, "bob": False})
    said = ["nothing to resume: only alice asked for it; all begins anew"]
    assert logged(workshop, job, "alice") == logged(workshop, job, "bob") == said


def test_nobody_asks(workshop):
    job = workshop.job()
    workshop.run(job)
    assert logged(workshop, job, "bob") == []


def test_a_damaged_file_of_a_later_step(workshop):
    job = workshop.job()
    workshop.run(job)
    damaged = workshop.results(job, "alice") / "train" / "bottom.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    workshop.run(job, resume=True)
    (said,) = logged(workshop, job, "alice")
    assert said == f"train is done anew: files in {damaged.parent} are not as they were left"
    assert logged(workshop, job, "bob") == ["train is done anew: alice lacks it"]


def test_an_unfinished_step_is_simply_done(workshop, monkeypatch):
    job, real = workshop.job(), train_step.save_module

    def fails(module, path):
        raise StorageError("the disk is gone")

    monkeypatch.setattr(train_step, "save_module", fails)
    workshop.run(job)
    monkeypatch.setattr(train_step, "save_module", real)
    workshop.run(job, resume=True)
    assert logged(workshop, job, "bob") == logged(workshop, job, "alice") == []


def test_the_time_of_a_resumed_job_holds_what_was_done_before(workshop):
    job = workshop.job()
    pages = workshop.run(job)
    done = workshop.results(job, "bob") / "train" / "done.json"
    marker = json.loads(done.read_text())
    done.write_text(json.dumps(marker | {"seconds": 1000.0}))
    workshop.run(job, resume=True)
    report = json.loads((pages["bob"].parent / "report.json").read_text())
    assert 1000 < report["seconds"] < 1100
    assert sum(phase["seconds"] for phase in report["phases"]) <= report["seconds"] + 0.01


@pytest.mark.parametrize("pooled", [True, False])
def test_a_pooled_model_that_nobody_can_train_is_noted(workshop, pooled):
    pages = workshop.run(workshop.job(f"evaluate.pooled={str(pooled).lower()}"))
    reports = {
        party: json.loads((pages[party].parent / "report.json").read_text()) for party in pages
    }
    assert any("Only `isthmus run`" in note for note in reports["bob"]["notes"]) is pooled
    assert reports["alice"]["notes"] == []


def test_what_looks_wrong_about_the_ids_is_said_logged_and_reported(workshop):
    workshop.spoil("alice", lambda t: t.with_columns(ID=pl.col("ID").cast(pl.String).str.zfill(4)))
    workshop.spoil("bob", lambda t: t.with_columns(pl.col("ID") + 900))
    workshop.spoil(
        "alice",
        lambda t: t.with_columns(
            ID=(pl.col("ID").cast(pl.Int64) + 900).cast(pl.String).str.zfill(4)
        ),
    )
    job, heard = workshop.job(), Heard()
    pages = run_here(job, workshop.out, progress=heard)
    assert any("warning: of the" in line and "leading zeros" in line for line in heard.said)
    log = (workshop.results(job, "alice") / "log.jsonl").read_text()
    assert '"level": "warning"' in log
    report = json.loads((pages["alice"].parent / "report.json").read_text())
    assert any("leading zeros" in warning for warning in report["warnings"])
