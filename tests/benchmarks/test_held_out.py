"""Every data set of the benchmark makes a job for every network that fits it."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from benchmarks.held_out_sets import GUEST, HOST, KEY, SETS, HeldOut, read

from benchmarks import held_out as benchmark
from isthmus.jobs.job import parse_job

DATA = Path(os.environ.get("ISTHMUS_DATA", "../shared/data"))


def tiny(**changed):
    n = 40
    guest = pl.DataFrame({KEY: range(n), "y": [0, 1] * (n // 2), "x": [0.5 * i for i in range(n)]})
    host = pl.DataFrame({KEY: range(n), "z": [i % 3 for i in range(n)]})
    about = {
        "title": "tiny",
        "tables": {GUEST: guest, HOST: host},
        "features": {GUEST: {"x": "numeric"}, HOST: {"z": "categorical"}},
        "label": {"expression": "y"},
        "epochs": 1,
        "batch": 8,
    }
    return HeldOut(**{**about, **changed})


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_its_tables_and_columns(name):
    if not (DATA / name).is_dir():
        pytest.skip("the data set is not here")
    data = read(DATA, name)
    for party in (GUEST, HOST):
        table = data.tables[party]
        assert table[KEY].n_unique() == table.height > 300
        assert set(data.features[party]) <= set(table.columns)
    for what in benchmark.whats(data, benchmark.NETWORKS)[:-1]:
        spec = parse_job(yaml.safe_dump(benchmark.job_of(data, what, 1))).spec
        assert spec.train.model.name == ("deepfm" if what == benchmark.HOST_ALONE else what)


def test_networks_of_histories_are_left_out_where_there_is_none():
    assert "din" not in benchmark.whats(tiny(), benchmark.NETWORKS)
    histories = {HOST: {"Past": {"kind": "sequence", "share": "z"}}}
    assert "din" in benchmark.whats(tiny(histories=histories), benchmark.NETWORKS)


def test_a_job_runs_and_the_plain_models_are_scored_on_its_rows(tmp_path):
    data = tiny()
    found = benchmark.run(data, benchmark.HOST_ALONE, 1, tmp_path / "job")
    assert 0 <= found["split"]["auc"] <= 1
    # x is larger with ID alone, y alternates: nothing to be had of it, but z and x are read.
    assert set(benchmark.plain(data, tmp_path / "job")) == {"linear", "trees"}


def test_a_refused_job_is_told_and_not_raised(tmp_path):
    found = benchmark.run(tiny(label={"expression": "missing"}), "deepfm", 1, tmp_path / "job")
    assert "missing" in found["failed"]


def small(data, rows=400):
    # Not the first ones: some sets are in the order of their label.
    whole = data.tables[GUEST]
    guest = whole.sample(min(rows, whole.height), seed=0)
    host = data.tables[HOST].join(guest.select(KEY), on=KEY, how="semi")
    return replace(data, tables={**data.tables, GUEST: guest, HOST: host}, epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_every_network_runs_on_a_part_of_every_set(name, tmp_path):
    if not (DATA / name).is_dir():
        pytest.skip("the data set is not here")
    data = small(read(DATA, name))
    metric = "rmse" if data.real else "auc"
    for what in benchmark.whats(data, benchmark.NETWORKS)[:-2]:
        found = benchmark.run(data, what, 1, tmp_path / what)
        assert "failed" not in found, (what, found)
        assert found["split"][metric] == pytest.approx(found["pooled"][metric], abs=1e-3)
