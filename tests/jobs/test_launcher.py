"""How the launcher attends to its children: events, noise, failures, stragglers."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.errors import LinkError
from isthmus.jobs import launcher
from isthmus.jobs.launcher import Launch, free_port, party_command, throw_away_identities
from isthmus.jobs.rehearsal import rehearsal_secrets
from isthmus.link.identity import load_identity, trusted_partners


def child(code):
    return subprocess.Popen(
        [sys.executable, "-c", f"import json, os, sys, time\n{code}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def attend(monkeypatch, grace=0.3, **codes):
    monkeypatch.setattr(launcher, "GRACE", grace)
    seen = []
    children = {party: child(code) for party, code in codes.items()}
    outcomes = launcher._attend(children, lambda party, event: seen.append((party, event)))
    return outcomes, seen


def test_events_and_noise_are_told_apart(monkeypatch):
    done = 'print(json.dumps({"event": "done", "report": "x/report.html"}))'
    outcomes, seen = attend(
        monkeypatch,
        alice=f'print("a library speaks"); {done}',
        bob=f'sys.stderr.write("a warning\\n"); {done}',
    )
    assert not any(outcome.failed for outcome in outcomes.values())
    assert list(outcomes["alice"].noise) == ["a library speaks"]
    assert list(outcomes["bob"].noise) == ["a warning"]
    assert outcomes["bob"].report == Path("x/report.html")
    assert sorted(party for party, _ in seen) == ["alice", "bob"]


def test_the_rest_is_ended_when_one_fails(monkeypatch):
    error = '{"event": "error", "code": "data", "message": "no", "mend": ""}'
    outcomes, _ = attend(monkeypatch, alice=f"print('{error}'); sys.exit(3)", bob="time.sleep(60)")
    assert outcomes["alice"].returncode == 3
    assert outcomes["alice"].error["message"] == "no"
    assert outcomes["bob"].stopped
    assert outcomes["bob"].failed


def test_who_was_ended_stays_so_while_its_output_is_held_open(monkeypatch):
    held = "import subprocess; subprocess.Popen(['sleep', '2']); print('{}', flush=True)"
    outcomes, _ = attend(
        monkeypatch, alice="time.sleep(0.5); sys.exit(3)", bob=f"{held}; time.sleep(60)"
    )
    assert outcomes["bob"].stopped


def test_a_partner_has_time_to_explain_itself(monkeypatch):
    error = '{"event": "error", "code": "link.gone", "message": "alice is gone", "mend": ""}'
    outcomes, _ = attend(
        monkeypatch,
        grace=30,
        alice="os.kill(os.getpid(), 9)",
        bob=f"time.sleep(0.5); print('{error}'); sys.exit(8)",
    )
    assert outcomes["alice"].returncode == -9
    assert outcomes["alice"].error is None
    assert outcomes["bob"].error["code"] == "link.gone"
    assert not outcomes["bob"].stopped


@pytest.mark.parametrize("when", ["in the display", "while they are started"])
def test_stopping_the_launcher_ends_the_children(monkeypatch, workshop, when):
    started = []

    def start(*_):
        if started and when == "while they are started":
            raise KeyboardInterrupt
        started.append(child('print(json.dumps({"event": "say"}), flush=True); time.sleep(60)'))
        return started[-1]

    def broken(party, event):
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "_start", start)
    with pytest.raises(KeyboardInterrupt):
        launcher.launch(Launch(job=workshop.job()), broken)
    assert started
    for process in started:
        assert process.poll() is not None
        if when == "while they are started":
            process.communicate()
        # Else the launcher's threads read to the end and close.
        while not (process.stdout.closed and process.stderr.closed):
            time.sleep(0.001)


def test_identities_trust_each_other_and_nobody_else(tmp_path):
    parties = ("alice", "bob", "carol")
    folders = throw_away_identities(tmp_path, parties, seed=7)
    secrets = {party: load_identity(folders[party], party).secret for party in parties}
    assert secrets == rehearsal_secrets(7, parties)
    assert len(set(secrets.values())) == 3
    for party in parties:
        assert set(trusted_partners(folders[party])) == set(parties) - {party}


def test_a_free_port_is_none_that_a_connection_is_given():
    with socket.create_server(("127.0.0.1", 0)) as given:
        assert given.getsockname()[1] not in launcher._PORTS
    assert free_port() in launcher._PORTS


def test_a_port_in_use_is_not_free(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(launcher, "_PORTS", [taken.getsockname()[1]])
        with pytest.raises(LinkError, match="no free port"):
            free_port()


def test_the_command_of_a_party(workshop):
    what = Launch(job=workshop.job(), overrides=["seed=1"], out=Path("o"), resume=True)
    feature = party_command(what, "alice", Path("i"), 7600)
    label = party_command(what, "bob", Path("i"), 7600)
    assert feature[1:4] == ["-m", "isthmus", "party"]
    assert feature[feature.index("--dial") + 1] == "127.0.0.1:7600"
    assert label[label.index("--listen") + 1] == "127.0.0.1:7600"
    assert "--resume" in feature
    assert feature[feature.index("--set") + 1] == "seed=1"
