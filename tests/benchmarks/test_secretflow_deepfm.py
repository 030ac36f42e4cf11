"""The comparison gives its peer the same rows, and judges by the right figures."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from benchmarks.environments import environment, requirements_of
from benchmarks.federation import FinishedRun
from benchmarks.harness import machine_facts
from benchmarks.process_tree import TreeUsage

from benchmarks import secretflow_deepfm as benchmark


@pytest.fixture
def table():
    n = 10
    return pl.DataFrame(
        {
            "ID": range(100, 100 + n),
            "UserID": range(n),
            "Gender": ["F", "M"] * (n // 2),
            "Age": range(20, 20 + n),
            "Occupation": ["none"] * n,
            "MovieID": range(1000, 1000 + n),
            "Genres": ["Animation|Children's"] * n,
            "Rating": [1, 5] * (n // 2),
        }
    )


def finished_run(folder, ids, split):
    path = folder / "bob" / "predict"
    path.mkdir(parents=True)
    pl.DataFrame({"ID": ids, "split": split}).write_parquet(path / "predictions.parquet")
    return FinishedRun(folder, TreeUsage(1, 1, 1, 1, 1, 0))


def test_the_peer_gets_our_rows_in_our_order(table, tmp_path):
    ids = [107, 101, 109, 104, 100]
    run = finished_run(tmp_path / "run", ids, ["train", "test", "train", "train", "test"])
    folder = benchmark._peer_tables(table, run, tmp_path / "peer")
    alice = pl.read_csv(folder / "alice_train.csv")
    bob = pl.read_csv(folder / "bob_train.csv")
    assert alice["UserID"].to_list() == [7, 9, 4]
    assert bob["MovieID"].to_list() == [1007, 1009, 1004]
    assert alice["ID"].to_list() == bob["ID"].to_list() == [0, 1, 2]
    assert bob["Genres"][0] == "Animation Children's"
    assert pl.read_csv(folder / "bob_test.csv")["MovieID"].to_list() == [1001, 1000]


def figures(rate, memory):
    return {
        "samples_per_second": rate,
        "best_samples_per_second": rate,
        "peak_pss_mb": memory,
        "auc": 0.77,
        "version": "1",
    }


def measured(rate, memory):
    return {
        "ours": figures(rate, memory),
        "simulation": figures(3_000, 5_000),
        "production": figures(6_000, 1_400),
    }


@pytest.mark.parametrize(
    ("rate", "memory", "met"), [(61_000, 900, True), (59_000, 900, False), (61_000, 1_700, False)]
)
def test_the_bars_are_those_of_the_issue(rate, memory, met):
    result = benchmark._result({128: measured(rate, memory)}, machine_facts()).as_json()
    assert result["bar"] == 20
    assert result["ratio"] == rate / 3_000
    assert [bar["bar"] for bar in result["bars"]] == [20, 10, 1]
    assert result["met"] == met


def test_each_batch_size_has_its_bars_and_rows():
    both = {128: measured(61_000, 900), 1024: measured(35_000, 2_000)}
    result = benchmark._result(both, machine_facts())
    assert [bar.bar for bar in result.bars] == [20, 10, 1, 10, 6]
    assert [bar.met for bar in result.bars] == [True] * 4 + [False]
    assert [row[1] for row in result.rows] == ["128"] * 3 + ["1,024"] * 3


def test_an_environment_is_made_once_and_again_after_a_failure(tmp_path, monkeypatch):
    calls = []

    def make_venv(command, **options):
        if "venv" in command:
            (command[-1] / "bin").mkdir(parents=True, exist_ok=True)
            (command[-1] / "bin" / "python").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", make_venv)

    def fail(python):
        calls.append(python)
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        environment(tmp_path / "env", sys.executable, fail)
    python = environment(tmp_path / "env", sys.executable, calls.append)
    assert environment(tmp_path / "env", sys.executable, fail) == python
    assert calls == [python, python]


def test_requirements_leave_extras_out():
    found = requirements_of(Path(sys.executable), "pytest")
    assert any(line.startswith("pluggy") for line in found)
    assert not any("extra ==" in line for line in found)


def test_a_missing_interpreter_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="python9"):
        environment(tmp_path / "env", "python9.99", lambda python: None)


def test_an_interpreter_that_does_not_run_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="false, and it does not run"):
        environment(tmp_path / "env", "false", lambda python: None)
