"""`isthmus fedrec attack` as a user types it."""

import json

import pytest
from tests.fedrec.conftest import made_up
from typer.testing import CliRunner

from isthmus.cli.main import app


@pytest.fixture
def table(tmp_path):
    data = made_up(clients=20, items=30)
    path = tmp_path / "plays.csv"
    lines = [f"{u},{i},{t}" for t, (u, i) in enumerate(zip(data.user, data.item, strict=True))]
    path.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    return path


def attack(table, *words):
    fixed = ["--data", table, "--min-interactions", 3, "--rounds", 2, "--set", "dim=4"]
    return CliRunner().invoke(app, ["fedrec", "attack", *map(str, (*fixed, *words))])


def test_an_attack_stands_beside_the_run_without(table, tmp_path):
    out = tmp_path / "found.json"
    result = attack(table, "--kind", "fedrecattack", "--bound-rows", 0.1, "--out", out)
    assert result.exit_code == 0, result.output
    for word in ("1 hostile", "ER@10", "none", "fedrecattack", "rows bound to 0.1"):
        assert word in result.output
    value = json.loads(out.read_text())
    assert value["clean"]["hostile"] == 0
    assert value["attacked"]["rounds"][-1]["number"] == 2


def test_an_attack_by_the_server(table, tmp_path):
    out = tmp_path / "found.json"
    result = attack(table, "--kind", "touched-rows", "--pseudo-items", 1, "--out", out)
    assert result.exit_code == 0, result.output
    assert "after 2 rounds: F1" in result.output
    assert len(json.loads(out.read_text())["steps"]) == 2


def test_defences_of_clients_do_not_go_with_hostile_clients(table):
    result = attack(table, "--kind", "explicit", "--clip", 1)
    assert result.exit_code != 0
    assert "do not keep to defences" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--kind", "touched-rows", "--bound-rows", 1), "is by the server"),
        (("--kind", "touched-rows", "--malicious", 0.1), "--malicious would change nothing"),
        (("--kind", "touched-rows", "--targets", 1), "--targets would change nothing"),
        (("--kind", "touched-rows", "--boost", 1, "--public", 0.05), "--boost, --public would"),
        (("--kind", "pipattack", "--public", 0.1), "--public would change nothing"),
        (("--kind", "random", "--boost", 2), "--boost would change nothing"),
        (("--kind", "membership"), "first uploads alone"),
        (("--kind", "explicit", "--backbone", "fedncf"), "product of row and vector"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(table, words, told):
    result = attack(table, *words)
    assert told in str(result.exception)
    assert "round" not in result.output
