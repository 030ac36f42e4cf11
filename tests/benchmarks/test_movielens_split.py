"""What the accuracy benchmarks make of their runs; the runs themselves are too long for a test."""

import json
from typing import Any

import pytest
from benchmarks.movielens_split import CHOSEN, Runs, Trial

from benchmarks import cut_bytes, movielens_split, schedule_accuracy


def record(trial: Trial, *, auc: float, valid: list[float], size: int = 100) -> dict[str, Any]:
    sizes = [size * epoch for epoch in range(1, len(valid) + 1)]
    return {
        "trial": trial.key(),
        "code": "abc",
        "auc": auc,
        "log_loss": 0.5,
        "valid_auc": valid,
        "best_epoch": valid.index(max(valid)) + 1,
        "samples": 10 * len(valid),
        "forward": sizes,
        "back": sizes,
    }


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens_split, "code_version", lambda: "now")

    def of(*records: dict[str, Any], **options: bool) -> Runs:
        made = Runs(tmp_path, **options)
        made.file.parent.mkdir(exist_ok=True)
        made.file.write_text("".join(json.dumps(line) + "\n" for line in records))
        return made

    return of


def test_a_run_of_another_commit_counts_only_if_asked_for(runs):
    trial = Trial(seed=1, schedule="pipeline:4")
    line = record(trial, auc=0.8, valid=[0.8])
    assert runs(line, stored=True).get(trial) is None
    assert runs(line, stored=True, reuse=True).get(trial) == line
    assert runs(line, reuse=True).known(Trial(seed=2, schedule="pipeline:4")) is None
    assert runs(line | {"code": "now"}).known(trial)["code"] == "now"


def test_a_trial_is_told_from_another_by_its_options():
    assert schedule_accuracy.trial("local:4@2", 1).options().epochs == 2
    assert schedule_accuracy.trial("local:4", 1).options().epochs == CHOSEN["epochs"]
    keys = [schedule_accuracy.trial(row, 1).key() for row in ("local:4@2", "local:4", "exact")]
    assert len({json.dumps(key) for key in keys}) == 3


def test_differences_are_paired_by_seed():
    exact = {
        seed: record(Trial(seed=seed), auc=a, valid=[0.7, 0.8]) for seed, a in ((1, 0.8), (2, 0.7))
    }
    stale = {
        seed: record(Trial(seed=seed, schedule="pipeline:4"), auc=a, valid=[0.7, 0.8])
        for seed, a in ((1, 0.799), (2, 0.697))
    }
    result = schedule_accuracy._result({"exact": exact, "pipeline:4": stale}, {})
    (bar,) = result.bars
    assert bar.value == pytest.approx(1.0)
    assert result.rows[1][3] == "-0.00200"
    assert result.rows[1][5] == "-0.0030 to -0.0010"


def test_bytes_are_counted_up_to_the_first_epoch_that_is_good_enough():
    exact = {1: record(Trial(seed=1), auc=0.8, valid=[0.7, 0.78, 0.8, 0.799], size=1_000_000)}
    local = {
        1: record(
            Trial(seed=1, schedule="local:4"), auc=0.8, valid=[0.75, 0.7985, 0.799], size=2_000_000
        ),
    }
    result = schedule_accuracy._result(
        {"exact": exact, "local:4": local, "microbatch:4": exact}, {}
    )
    assert [row[-2:] for row in result.rows] == [["6", "6"], ["12", "8"], ["6", "6"]]
    never = {1: record(Trial(seed=1, schedule="local:4"), auc=0.7, valid=[0.7])}
    result = schedule_accuracy._result(
        {"exact": exact, "local:4": never, "microbatch:4": exact}, {}
    )
    assert result.rows[1][-1] == "never"


def test_the_best_guards_are_those_that_save_most_within_the_limit():
    plain = {seed: record(Trial(seed=seed), auc=0.8, valid=[0.8], size=980) for seed in (1, 2)}

    def guarded(auc: float, size: int) -> dict[int, dict[str, Any]]:
        return {seed: record(Trial(seed=seed), auc=auc, valid=[0.8], size=size) for seed in (1, 2)}

    found = {
        ("int8", "int8"): guarded(0.7995, 260),
        ("int3+zlib", "int3"): guarded(0.798, 90),
        ("int2", "int2"): guarded(0.79, 60),
        ("lowrank:4", "int2"): {1: guarded(0.8, 30)[1]},
    }
    bars = {bar.name: bar for bar in cut_bytes._result(plain, found, {}).bars}
    assert bars["times fewer bytes, int8 both ways"].value == pytest.approx(980 / 260)
    assert bars["times fewer bytes, int3+zlib / int3"].met
    assert bars["0.003 over the AUC lost, int3+zlib / int3"].value == pytest.approx(1.5)
