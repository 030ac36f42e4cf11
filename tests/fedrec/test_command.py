"""`isthmus fedrec` as a user types it."""

import json

import pytest
from tests.fedrec.conftest import made_up
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.errors import StorageError


@pytest.fixture
def table(tmp_path):
    data = made_up(clients=15, items=30)
    path = tmp_path / "plays.csv"
    lines = [f"{u},{i},{t}" for t, (u, i) in enumerate(zip(data.user, data.item, strict=True))]
    path.write_text("listener,song,time\n" + "\n".join(lines) + "\n")
    return path


def fedrec(*words):
    return CliRunner().invoke(app, ["fedrec", *map(str, words)])


COLUMNS = ("--column", "user=listener", "--column", "item=song", "--min-interactions", 3)


def test_a_run_shows_a_table_and_what_it_cost(table, tmp_path):
    out = tmp_path / "out"
    result = fedrec(
        "run", "--data", table, *COLUMNS, "--algorithm", "fedavg", "--protocol", "all",
        "--rounds", 2, "--set", "dim=4", "--set", "epochs=1", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for word in ("authors", "honest-sampled", "full-ranking", "NDCG@10", "leaks", "KiB up"):
        assert word in result.output
    assert (out / "authors" / "result.json").exists()
    assert (out / "honest" / "ranks.safetensors").exists()


def test_a_run_as_json(table):
    result = fedrec("run", "--data", table, *COLUMNS, "--algorithm", "ease", "--format", "json")
    (found,) = json.loads(result.stdout)
    assert found["algorithm"] == "ease"
    assert set(found["outcomes"]) == {"honest-sampled", "full-ranking"}


def test_the_list_names_everything():
    text = fedrec("list").output
    facts = json.loads(fedrec("list", "--format", "json").output)
    for one in facts["algorithms"]:
        assert one["name"] in text
        assert f"the server needs: {one['leaves']}" in text
    assert {"fcf", "fedncf", "pfedrec"} <= set(facts["backbones"])


def test_the_help_has_examples():
    assert "isthmus fedrec run --data ml-100k --algorithm fedavg" in fedrec("run", "--help").output


def test_a_data_set_that_is_not_there_is_told():
    result = fedrec("run", "--data", "ml-99", "--algorithm", "ease")
    assert result.exit_code != 0
    assert "neither a table nor a public data set" in str(result.exception)


def test_mistakes_with_columns_say_what_to_write(table):
    def refused(*words):
        error = fedrec("run", "--data", table, "--algorithm", "ease", *words).exception
        return f"{error} {error.mend}"

    assert "Its columns are: listener, song, time." in refused()
    assert "'user' is not of the form WHAT=NAME" in refused("--column", "user")
    assert "'listener' is none of user, item" in refused("--column", "listener=user")
    assert "Its columns are: listener, song, time." in refused("--column", "user=lstener")
    both = ("--column", "user=song", "--column", "item=song")
    assert "'song' stands for user and item" in refused(*both)


def test_a_result_that_could_not_be_written_is_told_before_training(table, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    words = ("--data", table, *COLUMNS, "--rounds", 1)
    for verb, out in (
        (("run", "--algorithm", "fedavg"), blocked),
        (("compare", "--algorithms", "fedavg"), blocked),
        (("attack", "--kind", "touched-rows"), blocked / "found.json"),
    ):
        result = fedrec(*verb, *words, "--out", out)
        assert isinstance(result.exception, StorageError), result.output
        assert "round 1" not in result.output
        assert "begins" not in result.output
    result = fedrec("attack", *words, "--out", tmp_path)
    assert "is a folder" in str(result.exception)


def test_going_on_needs_a_folder_and_says_where_nothing_is(table, tmp_path):
    words = ("run", "--data", table, *COLUMNS, "--algorithm", "fedavg", "--rounds", 1, "--resume")
    assert "no folder to go on from" in str(fedrec(*words).exception)
    result = fedrec(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "holds no checkpoint" in result.output


def test_a_method_of_one_round_has_one(table):
    result = fedrec("run", "--data", table, *COLUMNS, "--algorithm", "ease", "--rounds", 50)
    assert "One-round EASE is done in one round" in result.output
    assert "round 1/1:" in result.output
    assert "50" not in result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--algorithm", "fedavg"), "Without one it sees"),
        (("--algorithm", "fedavg", "--secure-sum"), "a secure sum can hide"),
        (("--algorithm", "fedca"), "needs each client's own item table"),
        (("--algorithm", "local-only"), "Nothing leaves the device."),
        (("--algorithm", "ials"), "they are pooled"),
    ],
)
def test_what_leaves_the_device_is_told_for_what_is_sent(table, words, told):
    result = fedrec("run", "--data", table, *COLUMNS, *words, "--rounds", 1)
    assert result.exit_code == 0, result.output
    assert told in result.output
    assert ("Without one" in result.output) == (words == ("--algorithm", "fedavg"))


def test_a_protocol_that_is_named_twice_counts_once(table):
    twice = ("--protocol", "authors", "--protocol", "authors")
    words = ("--data", table, *COLUMNS, "--algorithm", "ease", *twice)
    assert "(authors): 1 round\n" in fedrec("run", *words).output
