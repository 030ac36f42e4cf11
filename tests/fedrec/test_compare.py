"""Comparisons: what is run, what is kept, what an error does, the report, the command."""

import json
import re
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from tests.fedrec.conftest import made_up
from typer.testing import CliRunner

from isthmus.cli.fedrec.compare import Board
from isthmus.cli.main import app
from isthmus.errors import JobError, NotFinite
from isthmus.fedrec import Algorithm, algorithm_names
from isthmus.fedrec.algorithms.popularity import Popularity, Settings
from isthmus.fedrec.compare import (
    CompareOptions,
    compare,
    entries,
    entry,
    plan,
    wanted_protocols,
)
from isthmus.fedrec.compare.charts import MARKS, Line, curves, look
from isthmus.fedrec.compare.leak import chance
from isthmus.fedrec.compare.page import as_signed, render
from isthmus.fedrec.compare.picture import plane
from isthmus.fedrec.compare.published import PUBLISHED
from isthmus.fedrec.protocols import PROTOCOLS

HERE = "tests.fedrec.test_compare"
QUICK = "+dim=4+epochs=1+batch=16"
ALL = wanted_protocols(["all"])


class Fault(Popularity):
    def learn(self):
        raise NotFinite("the <b>table</b> is not finite")


class Bug(Popularity):
    def learn(self):
        return 1 / 0


def algorithm_of(name, kind):
    return Algorithm(
        name, name.title(), "none", "nothing", "all", Settings,
        lambda task, settings, model: kind(task), rounds=1,
    )  # fmt: skip


FAULT = algorithm_of("fault", Fault)
BUG = algorithm_of("bug", Bug)


class StoppedHere(BaseException):
    pass


def options(folder, **more):
    return CompareOptions(folder, **{"seeds": (0, 1), "rounds": 3} | more)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    names = ["popularity", "ease", f"fedavg{QUICK}", f"local-only{QUICK}", "random"]
    rows, failures = entries(names)
    reference = f"fedavg{QUICK}"
    found = compare(made_up(30, 40), rows, ALL, options(folder, reference=reference), failures)
    return folder, found


def test_every_row_stands_under_every_protocol(compared):
    _, found = compared
    # Asked for with other numbers, so that the leak check's own is added.
    assert "local-only" in [row.name for row in found.rows]
    for row in found.rows:
        assert set(row.scores) == set(PROTOCOLS)
        for score in row.scores.values():
            assert len(score.chosen) == 2
            assert score.metrics["hr@10"].seeds == 2
            assert (score.against is None) == (row.name == found.reference)


def test_what_was_found_is_kept_as_json(compared):
    folder, found = compared
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(
        json.dumps(found.to_json())
    )


def test_the_same_again_runs_nothing(compared):
    folder, found = compared
    states = []
    rows, _ = entries([row.name for row in found.rows])
    again = compare(
        made_up(30, 40), rows, ALL, options(folder, reference=found.reference),
        told=lambda cell, state, result, error: states.append(state),
    )  # fmt: skip
    assert set(states) == {"kept"}
    assert again == found


def test_another_engine_is_another_training(tmp_path, monkeypatch):
    cell = plan.Cell(entry("popularity"), 0, (PROTOCOLS["authors"],))
    data = made_up(30, 40)
    before = cell.folder(tmp_path, data, 1, 1)
    assert cell.folder(tmp_path, data, 1, 1) == before
    monkeypatch.setattr(plan, "_ground", lambda: "another")
    assert cell.folder(tmp_path, data, 1, 1) != before


def test_one_training_serves_both_honest_protocols(compared):
    folder, _ = compared
    names = [path.name for path in (folder / "runs" / "ease").iterdir()]
    assert len(names) == 4
    assert not [name for name in names if name.startswith("full-ranking")]


def test_a_comparison_that_was_killed_goes_on(tmp_path):
    rows = [entry(f"fedavg{QUICK}")]
    wanted = options(tmp_path / "broken", seeds=(0, 1), rounds=12, every=4)

    def stop(cell, state, result, error):
        if state == "runs" and cell.seed == 1 and result.rounds[-1].number == 12:
            raise StoppedHere

    rules = wanted_protocols(["honest-sampled"])
    with pytest.raises(StoppedHere):
        compare(made_up(), rows, rules, wanted, told=stop)
    seen = []
    found = compare(
        made_up(), rows, rules, wanted,
        told=lambda cell, state, result, error: seen.append(
            (cell.seed, state, result and result.rounds[-1].number)
        ),
    )  # fmt: skip
    # Seed 0 is read; seed 1 goes on from round 10, so that rounds 4 and 8 are not told again.
    assert seen == [(0, "kept", 12), (1, "begins", None), (1, "runs", 12), (1, "ended", 12)]
    whole = compare(made_up(), rows, rules, options(tmp_path / "whole", rounds=12, every=4))
    assert found.rows[0].scores["honest-sampled"].metrics == (
        whole.rows[0].scores["honest-sampled"].metrics
    )


def test_other_numbers_are_another_training(tmp_path):
    rules = wanted_protocols(["honest-sampled"])
    states = []

    def told(cell, state, result, error):
        states.append(state)

    for more in ({}, {"rounds": 2}, {"every": 2}):
        compare(made_up(), [entry(f"fedavg{QUICK}")], rules, options(tmp_path, **more), told=told)
    assert "kept" not in states
    compare(made_up(seed=4), [entry(f"fedavg{QUICK}")], rules, options(tmp_path), told=told)
    assert "kept" not in states


def test_an_error_of_one_does_not_end_the_others(tmp_path):
    here = HERE
    rows, _ = entries([f"{here}:FAULT", f"{here}:BUG", "popularity"])
    rules = wanted_protocols(["full-ranking"])
    found = compare(made_up(), rows, rules, options(tmp_path, reference="popularity"))
    assert [(one.name, one.where) for one in found.failures] == [
        (f"{here}:{name}", f"seed {seed}, full-ranking")
        for seed in (0, 1)
        for name in ("FAULT", "BUG")
    ]
    assert "ZeroDivisionError" in found.failures[1].error
    assert found.row("popularity").scores
    assert not found.row(f"{here}:BUG").scores
    page = render(found)
    assert "the &lt;b&gt;table&lt;/b&gt; is not finite" in page
    # Nothing of a failed training is taken for a finished one.
    again = compare(made_up(), rows, rules, options(tmp_path, reference="popularity"))
    assert len(again.failures) == 4


def test_only_what_is_kept(tmp_path):
    rules = wanted_protocols(["honest-sampled"])
    found = compare(made_up(), [entry("ease")], rules, options(tmp_path), only_kept=True)
    assert not found.rows[0].scores
    assert not found.failures


@pytest.mark.parametrize(
    ("more", "message"),
    [({"metric": "auc"}, "no metric 'auc'"), ({"reference": "fedca"}, "not among the algorithms")],
)
def test_what_is_not_there_is_told(tmp_path, more, message):
    with pytest.raises(JobError, match=message):
        compare(made_up(), [entry("ease")], ALL, options(tmp_path, **more))


def test_a_name_that_is_not_there_is_told():
    with pytest.raises(JobError, match="no algorithm 'fedx'"):
        entries(["ease", "fedx"])
    with pytest.raises(JobError, match="nothing to compare"):
        entries([])


def test_all_is_the_registry_floors_first():
    rows, failures = entries(["all"])
    assert failures == []
    assert {row.recipe.algorithm.name for row in rows} == set(algorithm_names())
    assert {"FedAvg", "FedNCF"} <= {row.label for row in rows}
    kinds = [row.recipe.algorithm.kind for row in rows]
    assert kinds == sorted(kinds, key=("floor", "federated", "ceiling").index)


def test_labels_tell_what_is_not_usual():
    assert entry("fedca").label == "FedCA"
    assert entry("fedca/fedncf").label == "FedCA · fedncf"
    assert entry("fedca+variant=authors").label == "FedCA (variant=authors)"


def test_the_leak_is_found_on_a_population_that_shows_it(tmp_path):
    # Each client alone, long enough: the held-out item is the one that is never pushed down.
    rows = [entry("local-only")]
    found = compare(
        made_up(80, 130, least=12, most=25), rows, ALL,
        options(tmp_path, seeds=(0,), rounds=25, every=25, reference="local-only"),
    )  # fmt: skip
    findings = {one.protocol: one for one in found.leaks}
    assert findings["authors"].leaks
    assert not findings["honest-sampled"].leaks
    assert not findings["full-ranking"].leaks
    assert findings["authors"].honest == findings["honest-sampled"].alone
    assert findings["authors"].sentence.replace("&", "&amp;") in render(found)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "circle", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in ("circle", "path"):
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_stands_by_itself(compared):
    _, found = compared
    page = render(found)
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    names = [tag for tag, _ in reader.tags]
    assert "script" not in names
    assert "link" not in names
    assert "img" not in names
    assert not re.search(r"https?://", page)
    assert "default-src 'none'" in page
    charts = [attrs for tag, attrs in reader.tags if attrs.get("class") == "chart"]
    assert len(charts) == 3 * 3
    text = " ".join(reader.text)
    for row in found.rows:
        assert row.label in text
    pictures = [attrs for tag, attrs in reader.tags if attrs.get("class") == "picture"]
    assert len(pictures) == 3


def test_the_report_has_the_figures_of_papers(compared):
    from dataclasses import replace

    _, found = compared
    known = tuple(one for one in PUBLISHED if one.algorithm == "fedca")
    rows = [replace(row, published=known) for row in found.rows]
    page = render(replace(found, rows=tuple(rows)))
    assert "0.835 / 0.712" in page
    assert "second-hand" in page
    score = rows[0].scores["authors"].metrics
    assert f"{score['hr@10'].mean:.3f} / {score['ndcg@10'].mean:.3f}" in page
    # Without any there is neither a column nor a table of dashes.
    assert "second-hand" not in render(found)
    assert "papers" not in render(found)


def test_the_report_says_where_too_few_items_were_drawn(compared):
    _, found = compared
    assert [note.split()[0] for note in found.notes] == ["authors", "honest-sampled"]
    for note in found.notes:
        assert note in render(found)


def test_text_over_a_table_does_not_scroll_with_it(compared):
    _, found = compared
    reader = Reader()
    reader.feed(render(found))
    assert "caption" not in [tag for tag, _ in reader.tags]
    assert sum(attrs.get("class") == "caption" for _, attrs in reader.tags) >= 4


def test_many_methods_look_different():
    looks = [look(number) for number in range(120)]
    assert len(set(looks)) == 120
    assert {one.mark for one in looks[:10]} == {0}
    assert all(one.mark for one in looks[10:40])
    line = Line("a", looks[12], tuple(range(100)), (0.5,) * 100)
    drawn = curves("t", "x", "y", [line], log=False)
    assert 8 <= drawn.count(MARKS[1]) <= 16
    assert MARKS[0] in curves("t", "x", "y", [Line("a", looks[1], (1.0,), (0.5,))], log=True)
    assert "1,000<" in curves("t", "x", "y", [Line("a", looks[0], (1, 1e4), (0, 1))], log=True)


@pytest.mark.parametrize(
    ("value", "told"),
    [(-0.0004, "0.000"), (0.0004, "0.000"), (0.0, "0.000"), (-0.0006, "−0.001"), (0.01, "+0.010")],
)
def test_a_difference_of_nothing_has_no_sign(value, told):
    assert as_signed(value) == told


def test_chance_is_that_of_the_items_that_can_be_drawn():
    sampled, full = PROTOCOLS["honest-sampled"], PROTOCOLS["full-ranking"]
    few, many = made_up(30, 40), made_up(30, 400)
    assert chance(sampled, few) == chance(full, few) > 0.2
    assert chance(sampled, many) == 0.1 > chance(full, many)


def test_a_plane_keeps_what_varies_most():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 5)) * [10, 0.1, 5, 0.1, 0.1]
    place, explained = plane(table.astype(np.float32))
    assert explained > 0.99
    assert place.min() >= 0
    assert place.max() <= 1000
    first = np.corrcoef(place[:, 0], table[:, 0])[0, 1]
    assert first > 0.99
    flat, none = plane(np.ones((4, 3), np.float32))
    assert none == 0.0
    assert np.isfinite(flat).all()


def test_the_live_table(tmp_path):
    rows = [entry(f"fedavg{QUICK}"), entry("popularity"), entry(f"{HERE}:FAULT")]
    rules = wanted_protocols(["honest-sampled", "full-ranking"])
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=140, color_system=None)
    board, seen = Board(rows, rules, (0, 1), console), []

    def told(cell, state, result, error):
        board.told(cell, state, result, error)
        if state == "runs" and cell.seed == 1 and cell.entry is rows[0]:
            console.print(board)
            seen.append(screen.getvalue())

    compare(made_up(), rows, rules, options(tmp_path, rounds=2), told=told)
    assert re.search(r"FedAvg.* 0\.\d{3} \(2\) .* seed 1, honest-sampled: round 1 *\n", seen[0])
    assert re.search(r"Popularity .* 0\.\d{3} \(1\) .* waits *\n", seen[0])
    console.print(board)
    last = screen.getvalue()[len(seen[-1]) :]
    assert re.search(r"Popularity .* 0\.\d{3} \(2\) .* done *\n", last)
    assert re.search(r"Fault .* the <b>table</b> is not finite *\n", last)


def test_the_command(tmp_path):
    data = made_up(clients=15, items=30)
    path = tmp_path / "plays.csv"
    lines = [f"{u},{i},{t}" for t, (u, i) in enumerate(zip(data.user, data.item, strict=True))]
    path.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    words = [
        "fedrec", "compare", "--data", path, "--algorithms", "popularity,ease", "--seeds", 2,
        "--rounds", 1, "--min-interactions", 3, "--out", tmp_path / "out",
        "--protocols", "honest-sampled,full-ranking",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    words_of = (
        "Popularity",
        "One-round EASE",
        "full-ranking",
        "HR@10 / NDCG@10",
        "Report:",
        "Note:",
    )
    for word in words_of:
        assert word in result.output
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    again = CliRunner().invoke(app, [*(str(word) for word in words), "--format", "json"])
    assert "kept" in again.stderr
    assert json.loads(again.stdout)["data"] == "plays"
