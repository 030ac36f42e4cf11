"""Under Flower: a real SuperLink and real SuperNodes on loopback give the simulated result."""

import json
import os
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, until, without_times

from isthmus.fedrec import RunOptions, recipe, run
from isthmus.fedrec.devices import Census, split
from isthmus.fedrec.results import RunResult

APP = Path(__file__).parents[3] / "integrations" / "flower"


@pytest.fixture(scope="module")
def flower():
    """The programs of an environment made as the requirements file says."""
    folder = Path(os.environ.get("ISTHMUS_FLOWER", "nowhere")) / "bin"
    if not (folder / "flower-superlink").exists():
        pytest.skip("no environment with Flower: name one by ISTHMUS_FLOWER")
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def start(flower, tmp_path):
    """Starts a program of Flower's; all are ended with the test."""
    home = tmp_path / "home"
    home.mkdir()
    env = os.environ | {
        "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "HOME": str(home),
        "PATH": f"{flower}:{os.environ['PATH']}", "NUMBA_NUM_THREADS": "1",
        "ISTHMUS_CACHE": os.environ.get("ISTHMUS_CACHE", str(Path.home() / ".cache" / "isthmus")),
    }  # fmt: skip
    with ExitStack() as ends:

        def go(name, *words):
            log = ends.enter_context(
                (tmp_path / f"{name}-{len(list(home.iterdir()))}.log").open("w")
            )
            child = subprocess.Popen(
                [flower / name, *map(str, words)], stdout=log, stderr=subprocess.STDOUT, env=env,
                start_new_session=True,
            )  # fmt: skip
            ends.callback(end, child)
            return child

        go.home = home
        yield go


def end(child):
    """End a program and what it has started."""
    # What it has started may outlive it, so the group is killed in any case.
    for ask in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, ask)
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("fedavg", "epochs=2 batch=16 dim=4"),
        ("pfedrec", "dim=4"),
        ("ordered-pairs", "ordered_ridge=300 both_ridge=100 blend=0.4"),
    ],
)
def test_supernodes_on_loopback_give_the_simulated_result(start, tmp_path, name, sets):
    data, rounds = made_up(clients=14, items=30), 2
    groups = [np.arange(0, 14, 2), np.arange(1, 14, 2)]
    Census.of(data, HONEST[0], 0).save(tmp_path / "census.json")
    port = free_port()
    start(
        "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", port,
        "--disable-runtime-dependency-installation",
    )  # fmt: skip
    for number, part in enumerate(split(data, HONEST[0], 0, groups)):
        part.save(tmp_path / f"{number}.part")
        config = f'part="{tmp_path}/{number}.part" keep="{tmp_path}/keep-{number}"'
        start(
            "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
            "--port", free_port(), "--node-config", config,
        )  # fmt: skip
    until(lambda: answers(port))
    (start.home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    out = tmp_path / "out"
    config = (
        f'census="{tmp_path}/census.json" algorithm="{name}" sets="{sets}" rounds={rounds} '
        f'nodes=2 out="{out}" reproducible=true'
    )
    running = start("flwr", "run", APP, "here", "--stream", "--run-config", config)
    running.wait(500)
    logs = "\n".join(one.read_text()[-3000:] for one in tmp_path.glob("*.log"))
    assert (out / "result.json").exists(), logs
    found = RunResult.from_json(json.loads((out / "result.json").read_text()))
    pairs = dict(one.split("=") for one in sets.split())
    simulated = run(data, recipe(name, None, pairs), HONEST, RunOptions(rounds=rounds))
    assert without_times(found) == without_times(simulated)
    notes = json.loads((out / "devices.json").read_text())
    assert [one["trained"] for one in notes["rounds"]] == [14, 14]
