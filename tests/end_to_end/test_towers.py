"""Labels at both parties, over real processes: each learns its own, and a kill changes nothing."""

import json
import sys

import polars as pl
import pytest
from tests.end_to_end.conftest import Site
from tests.end_to_end.disturbing import Moment, Stage
from tests.tiny import TEXT

from isthmus.data.synthetic import SyntheticOptions, synthetic_tables

LABEL = 'label: {party: bob, expression: "Clicked == 1"}'
TOWER = """\
label:
  party: bob
  expression: "Clicked == 1"
  also:
    rich: {party: alice, expression: "Income > 29107"}
"""

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.timeout(300),
]


def made_stage(folder, totals=None):
    synthetic_tables(1, SyntheticOptions(rows=600, users=60, items=30)).write(folder)
    site = Site(folder)
    text = TEXT.replace(LABEL + "\n", TOWER).replace("Income: numeric, ", "")
    site.write(text.replace("  model: {dim: 4,", "  model: {name: mmoe, dim: 4,"))
    return Stage(site, totals) if totals else Stage(site)


def test_a_killed_tower_party_goes_on_as_if_nothing_had_happened(tmp_path):
    stage = made_stage(tmp_path / "undisturbed")
    expected = stage.undisturbed()
    assert ("alice", "tower.safetensors", "scale") in expected
    report = json.loads((stage.folder("alice") / "report.json").read_text())
    found = {(t["name"], t["metric"]): t["federation"] for t in report["targets"]}
    assert 0 < found["rich", "AUC"] <= 1
    columns = {"bob": ["probability", "label"], "alice": ["probability_rich", "label_rich"]}
    for party, names in columns.items():
        table = pl.read_parquet(stage.folder(party) / "predict" / "predictions.parquet")
        assert table.columns == ["row", "ID", *names, "split"]

    again = made_stage(tmp_path / "disturbed", stage.totals)
    moment = Moment("train", 0.55, "kill alice")
    again.disturbed(moment)
    again.rerun(moment)
    assert again.results() == expected
    assert not again.leftovers()
