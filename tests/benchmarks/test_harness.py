"""The benchmarks' contract, and the committed results."""

import json
import sys
import time
from pathlib import Path

import pytest
from benchmarks.harness import Bar, Result, load_results, machine_facts, publish, versions
from benchmarks.make_performance_page import PAGE, page
from benchmarks.process_tree import CommandFailed, measure
from rich.console import Console

ROOT = Path(__file__).parents[2]
PROMISED = {"name", "ratio", "bar", "met", "raw", "machine", "versions", "date"}


def result(**bars: tuple[float, float]) -> Result:
    return Result(
        name="sample",
        title="A sample",
        summary="Nothing was measured.",
        bars=[Bar(name, value, bar) for name, (value, bar) in bars.items()],
        columns=["what", "figure"],
        rows=[["ours", "2"]],
        raw={"ours": 2},
        machine=machine_facts(),
        versions=versions("numpy"),
    )


def test_a_result_holds_what_was_promised(tmp_path):
    path = publish(result(speed=(13.0, 12.0)), tmp_path, Console(quiet=True))
    written = json.loads(path.read_text())
    assert written.keys() >= PROMISED
    assert (written["ratio"], written["bar"], written["met"]) == (13.0, 12.0, True)
    assert load_results(tmp_path) == [written]


def test_one_missed_bar_is_a_miss():
    assert not result(speed=(13.0, 12.0), memory=(0.9, 1.0)).as_json()["met"]


def test_the_page_shows_a_missed_bar():
    text = page([result(speed=(11.0, 12.0)).as_json()])
    assert "| [sample](#sample) | speed | 11 | 12 | **no** |" in text


@pytest.mark.parametrize("written", load_results(), ids=lambda written: written["name"])
def test_committed_results_keep_the_contract(written):
    assert written.keys() >= PROMISED
    assert written["met"] == all(bar["value"] >= bar["bar"] for bar in written["bars"])
    assert (ROOT / "benchmarks" / f"{written['name']}.py").exists()


def test_the_performance_page_is_up_to_date():
    assert PAGE.read_text() == page(load_results()), (
        "run python -m benchmarks.make_performance_page"
    )


def test_memory_and_processor_time_of_a_whole_tree_are_seen(tmp_path):
    child = "import sys; kept = bytearray(60_000_000); print(flush=True); sys.stdin.read()"
    parent = (
        "import subprocess, sys, time\n"
        f"command = [sys.executable, '-c', {child!r}]\n"
        "pipe = subprocess.PIPE\n"
        "child = subprocess.Popen(command, stdin=pipe, stdout=pipe)\n"
        "child.stdout.readline()\n"
        "while time.process_time() < 0.5: pass\n"
        "time.sleep(0.4)\n"
        "child.communicate()\n"
    )
    usage = measure([[sys.executable, "-c", parent]], log=tmp_path / "log", every=0.1)
    assert usage.peak_processes == 2
    assert 60 < usage.peak_pss_mb < 150
    assert 0.4 < usage.cpu_seconds < 3
    assert usage.wall_seconds > 0.8


def test_a_command_that_fails_ends_the_others_and_shows_the_log(tmp_path):
    bad = [sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]
    good = [sys.executable, "-c", "import time; time.sleep(60)"]
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="what went wrong"):
        measure([bad, good], log=tmp_path / "log")
    assert time.monotonic() - began < 20


def test_a_command_that_never_ends_is_ended(tmp_path):
    with pytest.raises(CommandFailed, match="past its time"):
        measure([["sleep", "60"]], log=tmp_path / "log", timeout=0.3)
