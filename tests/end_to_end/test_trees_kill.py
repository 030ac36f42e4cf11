"""Trees whose party is killed within the fit: with --resume they end as if nothing had happened."""

import json
import os
import signal
import sys

import pytest

JOB = """\
isthmus: 1
name: trees
seed: 3
parties:
  alice:
    table: alice/people.csv
    features: {Age: numeric, Income: numeric, Trait1: categorical, Trait2: categorical}
  bob:
    table: bob/events.csv
    features: {ItemID: categorical}
label: {party: bob, expression: "Clicked == 1"}
align: {key: ID}
trees: {trees: 40, depth: 4, min_rows: 10, subsample: 0.7, columns: 0.8, learning_rate: 0.3}
evaluate: {resamples: 20, alone: false}
"""
OFTEN = """\
import time
from isthmus.trees import Keeping
Keeping.__init__.__defaults__ = (0.0, time.monotonic)
"""
"""Read by Python at its start: trees of a table this small would be done before the first one."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="kill -9")]


def models(site):
    return [(site.results(name) / "train" / "model.json").read_text() for name in ("alice", "bob")]


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_killed_within_the_fit(site, until, monkeypatch, victim):
    site.write(JOB)
    pages = site.run_threads()
    assert not [page for page in pages.values() if isinstance(page, Exception)], pages
    undisturbed = models(site)
    (site.folder / "often").mkdir()
    (site.folder / "often" / "sitecustomize.py").write_text(OFTEN)
    path = os.pathsep.join([str(site.folder / "often"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setitem(sys.modules["tests.end_to_end.conftest"].ENVIRONMENT, "PYTHONPATH", path)

    def kept():
        checkpoints = site.results(victim) / "train" / "checkpoints"
        return max((int(file.name[6:12]) for file in checkpoints.glob("round-*")), default=0)

    parties = {name: site.start(name, "--reconnect", "2") for name in ("bob", "alice")}
    until(lambda: kept() >= 5 or parties[victim].poll() is not None)
    parties[victim].send_signal(signal.SIGKILL)
    codes = {name: process.wait() for name, process in parties.items()}
    assert codes.pop(victim) == -9
    assert list(codes.values()) == [8]
    assert kept() >= 5
    assert not (site.results(victim) / "train" / "model.json").exists()
    again = {name: site.start(name, "--resume") for name in ("bob", "alice")}
    said = {name: process.communicate()[1] for name, process in again.items()}
    assert {process.returncode for process in again.values()} == {0}, said
    assert all("continuing after round" in text for text in said.values()), said
    assert models(site) == undisturbed
    assert not list((site.folder / "runs").rglob("checkpoints"))
    assert json.loads((site.results("bob") / "report.json").read_text())["fitted"]["trees"] == 40
