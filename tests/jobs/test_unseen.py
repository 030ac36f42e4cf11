"""Values of a prediction job that the training had not: their owner is warned, nobody else."""

import json

import numpy as np
import polars as pl
import pytest
from tests.jobs.tables import made_up

from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.local import run_here
from isthmus.jobs.unseen import Unseen, warnings_of
from isthmus.stats import drift

CARD = "bin: {bins: 4, tell: woe, transform: true}\nlinear: {l2: 0.001}\nscorecard: {}\n"
LINEAR = "linear: {l2: 0.001}\n"
TREES = "trees: {trees: 3, depth: 3}\n"
NETWORK = "train: {model: {dim: 4, bottom: [8], top: [8]}, epochs: 1}\n"
ALONE = "evaluate.alone=false"


class Said:
    """What the parties say on the screen."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def task(self, name, total=None):
        from isthmus.session import SilentProgress

        return SilentProgress().task(name, total)


def applied(tables, text, change, *sets):
    """Train, change the tables, predict: reports, logs, what the screen says, and alice's page."""
    before = tables.job(text, ALONE, *sets)
    run_here(before, tables.folder / "runs")
    change(tables)
    later = (f"predict.model={before.folder_name}", "name=later")
    job = tables.job(text, ALONE, *later, *sets)
    said = Said()
    run_here(job, tables.folder / "runs", progress=said)
    reports, logs = {}, {}
    for party in job.spec.order:
        folder = PartyFolder(tables.folder / "runs" / job.folder_name / party)
        reports[party] = json.loads(folder.file("report.json").read_text())
        logs[party] = folder.file("log.jsonl").read_text()
    page = tables.at(job, "alice", "report.html").read_text()
    return reports, logs, said.lines, page


def new_towns(tables):
    """Twelve rows of alice with a town that she never had, one without a0, one beyond all."""
    place = pl.int_range(pl.len())
    tables.spoil(
        "alice",
        town=pl.when(place < 12).then(pl.lit("moon")).otherwise("town"),
        a0=pl.when(place == 20).then(1e6).otherwise("a0"),
    )


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (CARD, "0 points"),
        (CARD.replace("scorecard: {}\n", ""), "WOE 0"),
        (LINEAR, "the rare levels"),
        (TREES, "the rare categories"),
        (NETWORK, "an unknown value"),
    ],
    ids=["card", "woe", "linear", "trees", "network"],
)
def test_the_owner_alone_is_warned_of_values_that_were_not_seen(tmp_path, text, taken):
    tables = made_up(tmp_path)
    reports, logs, said, page = applied(tables, text, new_towns)
    warning = f"12 of 900 values of 'town' were not seen in training: they count as {taken}"
    assert f"warning: {warning}" in said
    assert warning in reports["alice"]["warnings"]
    assert warning in logs["alice"]
    (town, *others) = sorted(reports["alice"]["data"]["unseen"], key=lambda one: -one["unknown"])
    assert (town["column"], town["unknown"], town["unknown_as"]) == ("town", 12, taken)
    assert (town["psi"] is None) is (text == NETWORK)
    if text != NETWORK:
        assert 0 < town["psi"] < 0.3
        assert {"column": "a0", "beyond": 1}.items() <= others[0].items()
        assert {one["column"] for one in others} <= {"a0", "a1"}
    assert "Columns of alice in the rows that were predicted" in page
    assert "moon" not in page + logs["alice"]
    assert not any(one["unknown"] or one["gaps"] for one in reports["bob"]["data"]["unseen"])
    assert "town" not in json.dumps(reports["bob"])
    assert "encode.unseen" not in logs["bob"]


@pytest.mark.parametrize(
    ("text", "taken"),
    [(CARD, "0 points"), (TREES, "the bin with the most training rows")],
    ids=["card", "trees"],
)
def test_gaps_where_there_were_none_are_told(tmp_path, text, taken):
    def gaps(tables):
        tables.spoil("alice", a0=pl.when(pl.int_range(pl.len()) < 30).then(None).otherwise("a0"))

    reports, _, said, _ = applied(made_up(tmp_path), text, gaps)
    warning = (
        f"'a0' is missing in 30 of 900 rows, and was in no row in training: they count as {taken}"
    )
    assert f"warning: {warning}" in said
    assert reports["bob"]["warnings"] == []


def test_the_same_rows_are_no_news(tmp_path):
    reports, _, said, _ = applied(made_up(tmp_path), CARD, lambda tables: None)
    assert not [line for line in said if "warning" in line]
    assert not any(one["unknown"] or one["gaps"] for one in reports["alice"]["data"]["unseen"])


@pytest.mark.parametrize("text", [TREES, NETWORK], ids=["trees", "network"])
def test_samples_that_a_party_lacks_are_no_news_and_hide_none(tmp_path, text):
    tables = made_up(tmp_path)
    tables.frames["alice"] = tables.frames["alice"].head(500)
    tables.spoil("alice")

    def gaps(tables):
        tables.spoil("alice", a0=pl.when(pl.int_range(pl.len()) < 30).then(None).otherwise("a0"))

    reports, _, said, _ = applied(tables, text, gaps, "align.rows=label")
    assert not [line for line in said if "shifted" in line]
    (found,) = [one for one in reports["alice"]["data"]["unseen"] if one["gaps"]]
    assert (found["column"], found["gaps"]) == ("a0", 30)


def test_a_few_rows_are_no_shift():
    rng = np.random.default_rng(3)
    for rows in (1, 10, 30, 60):
        for _ in range(10):
            table = pl.DataFrame({"a0": rng.normal(size=2000 + rows)})
            (found,) = drift(table, np.arange(2000, 2000 + rows))
            assert not warnings_of([Unseen("a0", rows, psi=found.psi)])
    assert warnings_of([Unseen("a0", 60, psi=0.6)])


def test_the_shift_of_columns_is_told(tmp_path):
    def later(tables):
        tables.spoil("alice", a0=pl.col("a0") + 25)

    reports, _, said, _ = applied(made_up(tmp_path), TREES, later)
    psi = {one["column"]: one["psi"] for one in reports["alice"]["data"]["unseen"]}
    assert psi["a0"] > 0.5 > 0.05 > psi["a1"]
    (line,) = [line for line in said if "warning" in line]
    assert line == f"warning: 'a0' has shifted since the training: its PSI is {psi['a0']:.2f}"
    assert line.removeprefix("warning: ") in reports["alice"]["warnings"]
    assert reports["bob"]["warnings"] == []
