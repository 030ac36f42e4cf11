"""A party killed in mid-training: one clear error at the other side, then `--resume` finishes."""

import signal

import pytest
from safetensors.numpy import load_file

from isthmus.jobs.local import run_here

LONG = ("--set", "train.epochs=16", "--set", "train.patience=0", "--set", "train.batch_size=8")
OVERRIDES = LONG[1::2]


@pytest.mark.parametrize("victim", ["alice", pytest.param("bob", marks=pytest.mark.slow)])
def test_kill_and_resume(site, until, victim):
    survivor = "bob" if victim == "alice" else "alice"
    options = (*LONG, "--reconnect", "2")
    parties = {party: site.start(party, *options) for party in ("alice", "bob")}
    checkpoints = site.results(survivor, *OVERRIDES) / "train" / "checkpoints"
    until(lambda: len(list(checkpoints.glob("epoch-*"))) >= 2)
    parties[victim].send_signal(signal.SIGKILL)
    _, said = parties[survivor].communicate(timeout=60)
    parties[victim].communicate(timeout=60)

    assert parties[survivor].returncode == 8
    assert said.count("error [") == 1
    assert "error [link.gone]" in said
    assert "--resume at every party" in said
    assert victim in said
    assert "Traceback" not in said
    for party in ("alice", "bob"):
        folder = site.results(party, *OVERRIDES)
        assert not list(folder.glob("report*"))
        assert not (folder / "train" / "done.json").exists()
        assert not (folder / "train" / "bottom.safetensors").exists()

    again = [site.start(party, *options, "--resume") for party in ("alice", "bob")]
    ended = [party.communicate(timeout=100) for party in again]
    assert [party.returncode for party in again] == [0, 0], ended
    scores = site.results("bob", *OVERRIDES) / "evaluate" / "scores.safetensors"
    whole = run_here(site.job(*OVERRIDES), site.folder / "whole")["bob"].parent
    expected = load_file(whole / "evaluate" / "scores.safetensors")
    found = load_file(scores)
    for name, values in expected.items():
        assert (found[name] == values).all(), name
    assert not list((site.folder / "runs").rglob("*.part"))
