"""The benchmark of ordered pairs: a cell on made-up data, what it is held against and tells."""

import pytest
from tests.fedrec.conftest import made_up

from benchmarks import fedrec_own_method as bench


def fake(ndcg, seed=0):
    part = {"hr@10": 0.5, "ndcg@10": ndcg}
    found = {name: {"valid": part, "test": part, "round": 1} for name in bench.HONEST}
    return {"found": found, "seed": seed, "up": 1e6, "down": 2e6}


def test_a_cell_judges_every_client_once_under_both_protocols(monkeypatch):
    monkeypatch.setattr(bench, "interactions", lambda name: made_up(clients=40))
    monkeypatch.setattr(bench, "JUDGED", 25)
    for row in ("ordered-pairs+blend=0", "popularity"):
        cell = bench.cell("made-up", row, 0)
        assert cell["clients"] == 25
        assert set(cell["found"]) == set(bench.HONEST)
        for one in cell["found"].values():
            assert one["round"] == 1
            assert 0 <= one["test"]["ndcg@10"] <= one["test"]["hr@10"] <= 1


def test_bars_take_the_better_ease_and_the_best_rival():
    rows = {
        bench.OWN: [fake(0.3), fake(0.5, 1)],
        bench.EASE: [fake(0.2)],
        "ease": [fake(0.25)],
        "pfedrec": [fake(0.5)],
        "popularity": [fake(0.1)],
    }
    values = [bar.value for bar in bench.bars({"ml-100k": rows})]
    assert values == pytest.approx([0.4 / 0.25, 0.4 / 0.5] * 2)
    # One Jacobi step is not EASE, the exact one is.
    del rows["ease"]
    assert len(bench.bars({"microlens-50k": rows})) == 2
    rows["ease+ridge=30"] = [fake(0.3)]
    assert bench.bars({"microlens-50k": rows})[0].value == pytest.approx(0.4 / 0.3)
    assert not all(bar.met for bar in bench.bars({"ml-100k": rows}))


def test_the_summary_names_what_was_not_run(tmp_path):
    assert bench.kept(tmp_path) == {}
    told = bench.result({"ml-100k": {bench.OWN: [fake(0.3)], "pfedrec": [fake(0.1)]}})
    left = {
        data: told.summary.partition(f"Not run on {data}: ")[2].partition(". ")[0].split("; ")
        for data in ("ml-1m", "ml-100k")
    }
    assert "PFedRec" in left["ml-1m"]
    assert "PFedRec" not in left["ml-100k"]
    assert "FedCA" in left["ml-100k"]
    assert told.rows[0][:4] == ["ml-100k", "Ordered pairs", "1", "0.500 / 0.300"]
