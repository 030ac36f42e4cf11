"""`isthmus run`: all parties as processes over TLS, and what the user sees when one fails."""

import json
import os
import shutil
import signal
import subprocess

import polars as pl
import pytest
from safetensors.numpy import load_file
from tests.end_to_end.conftest import PATIENCE

from isthmus.jobs.local import run_here


def test_a_job_over_tls_gives_what_it_gives_in_one_process(site):
    here = run_here(site.job(), site.folder / "memory")
    done = site.isthmus("run", site.job_file, "--out", site.folder / "runs", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["job"]["party"] == "bob"
    assert report["metrics"]["federation"]["auc"] > 0.5

    over_tls = load_file(site.results("bob") / "evaluate" / "scores.safetensors")
    in_memory = load_file(here["bob"].parent / "evaluate" / "scores.safetensors")
    assert over_tls.keys() == in_memory.keys()
    for name, values in in_memory.items():
        assert (over_tls[name] == values).all(), name
    memory_report = json.loads((here["bob"].parent / "report.json").read_text())
    bytes_by_topic = {t["topic"]: t["sent_bytes"] for t in memory_report["traffic"]["topics"]}
    assert {t["topic"]: t["sent_bytes"] for t in report["traffic"]["topics"]} == bytes_by_topic
    assert "job.plan" in bytes_by_topic

    transcript = (site.results("alice") / "transcript.jsonl").read_text().splitlines()
    sent = sum(json.loads(line)["bytes"] for line in transcript)
    theirs = json.loads((site.results("alice") / "report.json").read_text())
    assert sent == theirs["traffic"]["sent_bytes"]
    assert all("payload" not in json.loads(line) for line in transcript)


def test_a_bad_table_starts_nothing(site):
    table = site.folder / "alice" / "people.csv"
    pl.read_csv(table).with_columns(Income=pl.lit("much")).write_csv(table)
    done = site.isthmus("run", site.job_file, "--out", site.folder / "runs")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error [data.schema]")
    assert "numeric column 'Income' holds text" in done.stderr
    assert not (site.folder / "runs").exists()


def test_a_failure_is_one_message_a_party_and_an_exit_code(site):
    blocked = site.results("alice") / "encode"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    done = site.isthmus("run", site.job_file, "--out", site.folder / "runs")
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "error [" in line]
    assert len(errors) == 2
    assert errors[0].startswith("alice: error [storage]")
    assert str(blocked) in errors[0]
    assert errors[1].startswith("bob: error [link.failed]")
    assert "encode" not in errors[1]
    # No step is finished that one could go on from.
    assert "--resume" not in done.stderr
    assert "encode done" not in done.stderr
    assert not list(site.results("bob").glob("report*"))
    assert not list((site.folder / "runs").rglob("*.part"))


def test_a_bad_job_file_starts_nothing(site):
    site.write(site.job_file.read_text().replace("multi_hot", "multihot"))
    done = site.isthmus("run", site.job_file, "--out", site.folder / "runs")
    assert done.returncode == 2
    assert f"{site.job_file}:12: parties.bob.features.Tags.kind: 'multihot'" in done.stderr
    assert not (site.folder / "runs").exists()


@pytest.mark.slow
def test_debug_shows_the_traceback(site):
    (site.folder / "bob" / "events.csv").unlink()
    done = site.isthmus("run", site.job_file, "--out", site.folder / "runs", "--debug")
    assert done.returncode == 3
    assert "Traceback" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 100 kB; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if (
        os.geteuid()
        or shutil.which("mount") is None
        or subprocess.run(mount, check=False).returncode
    ):
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_really_full(site, small_disk):
    done = site.isthmus("run", site.job_file, "--out", small_disk)
    assert done.returncode == 7, done.stderr
    assert "error [storage] no space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(small_disk.rglob("*.part"))
    assert not list(small_disk.rglob("report*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_launcher_stops_the_parties(site, until, number):
    launcher = site.launch(
        "run", site.job_file, "--out", site.folder / "runs", "--set", "train.epochs=9999",
        "--set", "train.patience=0",
    )  # fmt: skip
    until(lambda: list((site.folder / "runs").rglob("epoch-*")))
    launcher.send_signal(number)
    _, said = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 128 + number
    assert "Traceback" not in said

    def parties():
        found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        return [line for line in found.stdout.splitlines() if str(site.job_file) in line]

    until(lambda: not parties())
