"""Ctrl-C and requests to end at one party: a line at that party, a right reason at the other."""

import signal

import pytest
from tests.end_to_end.conftest import PATIENCE

LONG = ("--set", "train.epochs=9999", "--set", "train.patience=0", "--set", "train.batch_size=8")
LINE = "Stopped. The same command with --resume goes on from here."


@pytest.mark.parametrize(
    ("victim", "number"),
    [("alice", signal.SIGINT), pytest.param("bob", signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_a_party_that_is_stopped_tells_its_partner(site, until, victim, number):
    survivor = "bob" if victim == "alice" else "alice"
    parties = {party: site.start(party, *LONG) for party in ("alice", "bob")}
    checkpoints = site.results(survivor, *LONG[1::2]) / "train" / "checkpoints"
    until(lambda: list(checkpoints.glob("epoch-*")))
    parties[victim].send_signal(number)
    said = {party: process.communicate(timeout=PATIENCE)[1] for party, process in parties.items()}
    assert parties[victim].returncode == 128 + number
    assert said[victim].splitlines()[-1] == LINE
    assert "train done" not in said[victim]
    assert parties[survivor].returncode == 8
    assert f"error [link.failed] {victim} stopped: was stopped by its user" in said[survivor]
    assert "--resume at every party" in said[survivor]
    assert "broke" not in said[survivor]
    assert "Traceback" not in "".join(said.values())


def test_a_party_that_is_stopped_while_it_waits(site, until):
    process = site.start("bob")
    log = site.results("bob") / "log.jsonl"
    until(log.exists)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    # Nothing is finished that one could go on from.
    assert said.splitlines()[-1] == "Stopped."
    assert "Traceback" not in said


@pytest.mark.slow
def test_stopping_the_pooled_phase_leaves_the_reports(site, until):
    overrides = ("train.epochs=400", "train.patience=0", "evaluate.alone=false")
    sets = [part for override in overrides for part in ("--set", override)]
    process = site.launch(
        "run", site.job_file, "--out", site.folder / "runs", *sets, "--set", "evaluate.pooled=true"
    )
    bob = site.results("bob", *overrides, "evaluate.pooled=true")
    until((bob / "pooled").exists)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"{LINE} All parties have finished; their reports:" in said
    for party in ("alice", "bob"):
        assert str(bob.parent / party / "report.html") in said
        assert (bob.parent / party / "report.html").exists()
