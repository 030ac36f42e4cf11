"""`isthmus overlap`: two parties over TLS learn the number, and stop at what is wrong."""

import json
import socket
import threading

import pytest
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.cli.overlap import revealed
from isthmus.data.synthetic import SyntheticOptions, synthetic_tables
from isthmus.errors import AlignError, DataError, JobMismatch
from isthmus.jobs.job import load_job
from isthmus.jobs.overlap import run_overlap
from isthmus.jobs.party import PartyRun
from isthmus.link import Deadlines, create_identity, trust

JOB = """\
isthmus: 1
name: tiny
parties:
  alice: {table: alice/people.csv, features: {Age: numeric}}
  bob: {table: bob/events.csv, features: {ItemID: categorical}}
label: {party: bob, expression: "Clicked == 1"}
align: {key: ID}
"""


@pytest.fixture
def site(tmp_path):
    synthetic_tables(1, SyntheticOptions(rows=300, users=40, items=20)).write(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB)
    ids = {
        name: create_identity(tmp_path / f"id-{name}", name, days=2) for name in ("alice", "bob")
    }
    trust(tmp_path / "id-alice", ids["bob"].certificate_path)
    trust(tmp_path / "id-bob", ids["alice"].certificate_path)
    return tmp_path


def keys(site, party):
    lines = next((site / party).glob("*.csv")).read_text().splitlines()
    place = lines[0].split(",").index("ID")
    return {line.split(",")[place] for line in lines[1:]}


def bob(site, port, found, *sets):
    def run():
        try:
            found["bob"] = run_overlap(
                PartyRun(
                    job=load_job(site / "job.yaml", sets),
                    me="bob",
                    identity=site / "id-bob",
                    listen=f"127.0.0.1:{port}",
                    out=site / "runs",
                    deadlines=Deadlines(connect=20),
                )
            )
        except Exception as error:
            found["bob"] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alice(site, port, *more):
    command = ["overlap", site / "job.yaml", "--as", "alice", "--identity", site / "id-alice"]
    command += ["--dial", f"127.0.0.1:{port}", "--out", site / "runs", "--wait", "20", *more]
    return CliRunner().invoke(app, [str(part) for part in command])


@pytest.mark.parametrize("form", ["text", "json"])
def test_both_learn_the_number(site, form):
    port, found = free_port(), {}
    thread = bob(site, port, found)
    shown = alice(site, port, "--format", form)
    thread.join(30)
    mine, theirs = keys(site, "alice"), keys(site, "bob")
    common = len(mine & theirs)
    assert found["bob"]["alice"].common == common
    figures = {"ours": len(mine), "theirs": len(theirs), "common": common}
    if form == "json":
        assert json.loads(shown.stdout) == {"bob": figures}
    else:
        assert f"alice and bob have {common:,} ids in common: " in shown.stdout
        assert f"{common / len(mine):.1%} of the {len(mine):,} of alice" in shown.stdout
        assert "alice and bob have learnt these numbers, and neither which ids" in shown.stdout
        assert "overlap.json, and overlap-transcript.jsonl, what alice sent" in shown.stdout
        assert "alice overlap done" in shown.stderr
        assert "align" not in shown.output
    (folder,) = (site / "runs").iterdir()
    assert json.loads((folder / "alice" / "overlap.json").read_text()) == {"bob": figures}
    sent = (folder / "alice" / "overlap-transcript.jsonl").read_text().splitlines()
    topics = [json.loads(line)["topic"] for line in sent]
    assert topics == ["align.hello", "align.points", "align.sorted"]


def test_an_arbiter_has_no_part_in_it(site):
    with (site / "job.yaml").open("a") as file:
        file.write("linear: {protocol: arbiter, arbiter: court}\n")
    port, found = free_port(), {}
    thread = bob(site, port, found)
    shown = alice(site, port)
    thread.join(30)
    assert shown.exit_code == 0, shown.output
    assert set(found["bob"]) == {"alice"}
    asked = CliRunner().invoke(app, ["overlap", str(site / "job.yaml"), "--as", "court"])
    assert "court is the arbiter" in asked.exception.message


def test_who_has_learnt_what_of_three_parties():
    assert revealed("bob", "bob", ("alice", "carol")).endswith(
        "alice and carol nothing of one another"
    )
    assert revealed("carol", "bob", ("bob",)).startswith("carol and bob have learnt these numbers")


def test_a_partner_with_another_job_is_told(site):
    port, found = free_port(), {}
    thread = bob(site, port, found, "align.nulls=drop")
    shown = alice(site, port)
    thread.join(30)
    assert isinstance(shown.exception, JobMismatch)
    assert isinstance(found["bob"], JobMismatch)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda lines: [*lines, lines[1]], AlignError),
        (lambda lines: lines[:1], DataError),
    ],
)
def test_what_is_wrong_on_the_own_side_is_found_before_anybody_waits(site, spoil, kind):
    table = next((site / "alice").glob("*.csv"))
    table.write_text("\n".join(spoil(table.read_text().splitlines())) + "\n")
    assert isinstance(alice(site, free_port()).exception, kind)
