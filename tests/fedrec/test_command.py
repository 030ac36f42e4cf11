"""`isthmus fedrec` as a user types it."""

import json

import pytest
from tests.fedrec.conftest import made_up
from typer.testing import CliRunner

from isthmus.cli.fedrec.run import say_slow
from isthmus.cli.main import app
from isthmus.errors import JobError, StorageError
from isthmus.fedrec.runner import Run


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
    assert "is no public data set, and there is no file" in str(result.exception)


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


def of(table, *words):
    return fedrec("run", "--data", table, *COLUMNS, *words)


def test_a_finished_run_is_shown_again_and_not_trained(table, tmp_path):
    words = ("--algorithm", "fedavg", "--rounds", 2, "--set", "dim=4", "--out", tmp_path / "out")
    first = of(table, *words)
    assert first.exit_code == 0, first.output
    path = tmp_path / "out" / "honest" / "result.json"
    before = path.read_bytes()
    for more in ((), ("--resume",)):
        again = of(table, *words, *more)
        assert again.exit_code == 0, again.output
        assert "honest holds this run, finished on 20" in again.stderr
        assert "round 1/2" not in again.stderr
        assert again.stdout == first.stdout
        assert path.read_bytes() == before
    # One of the two protocols that it was judged by.
    part = json.loads(of(table, *words, "--protocol", "full-ranking", "--format", "json").stdout)
    assert part[0]["outcomes"] == {"full-ranking": json.loads(before)["outcomes"]["full-ranking"]}
    forced = of(table, *words, "--force")
    assert "round 1/2" in forced.stderr
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--seed", 1), "seed 0, here 1"),
        (("--rounds", 3), "rounds 2, here 3"),
        (("--set", "dim=8"), "dim 4, here 8"),
        (("--every", 2), "judged in 2 rounds, here in 1"),
        (("--clip", 1), "clip not set, here 1.0"),
        (("--algorithm", "fedprox"), "algorithm fedavg, here fedprox"),
    ],
)
def test_a_finished_run_of_other_options_is_not_overwritten(table, tmp_path, more, told):
    out = tmp_path / "out"
    words = ("--algorithm", "fedavg", "--rounds", 2, "--set", "dim=4", "--out", out)
    assert of(table, *words).exit_code == 0
    before = (out / "honest" / "result.json").read_bytes()
    for resume in ((), ("--resume",)):
        refused = of(table, *words, *more, *resume)
        assert isinstance(refused.exception, JobError)
        assert f"{out / 'honest'} holds a finished run of other options" in str(refused.exception)
        assert told in str(refused.exception)
        assert "--force" in refused.exception.mend
        assert "round 1" not in refused.output
    assert (out / "honest" / "result.json").read_bytes() == before


def test_one_folder_that_is_refused_costs_no_training(table, tmp_path):
    words = ("--algorithm", "fedavg", "--rounds", 1, "--set", "dim=4", "--out", tmp_path / "out")
    assert of(table, *words).exit_code == 0
    refused = of(table, *words, "--protocol", "all", "--seed", 1)
    assert "seed 0, here 1" in str(refused.exception)
    assert not (tmp_path / "out" / "authors" / "result.json").exists()


def test_other_data_of_the_same_size_are_other_data(table, tmp_path):
    words = ("--algorithm", "popularity", "--out", tmp_path / "out")
    assert of(table, *words).exit_code == 0
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *lines[::-1]]) + "\n")
    assert "other interactions" in str(of(table, *words).exception)


def test_a_finished_run_that_cannot_be_read_is_not_overwritten(table, tmp_path):
    path = tmp_path / "out" / "honest" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    words = ("--algorithm", "popularity", "--out", tmp_path / "out")
    refused = of(table, *words)
    assert isinstance(refused.exception, StorageError)
    assert "--force" in refused.exception.mend
    assert path.read_text() == "{}"
    assert of(table, *words, "--force").exit_code == 0


def test_a_stopped_run_that_is_begun_anew_is_told(table, tmp_path, monkeypatch):
    words = ("--algorithm", "fedavg", "--rounds", 11, "--set", "dim=4", "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_finish", lambda self: None)
        assert of(table, *words).exit_code == 0
    anew = of(table, *words)
    assert "with a checkpoint of round 10: this begins anew" in anew.stderr
    assert "round 1/11" in anew.stderr


def test_a_forced_run_that_was_stopped_goes_on_beside_the_result_of_before(
    table, tmp_path, monkeypatch
):
    words = ("--algorithm", "fedavg", "--set", "dim=4", "--out", tmp_path / "out", "--rounds")
    assert of(table, *words, 1).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_finish", lambda self: None)
        assert of(table, *words, 11, "--force").exit_code == 0
    on = of(table, *words, 11, "--resume")
    assert on.exit_code == 0, on.output
    assert "round 1/11" not in on.stderr
    assert "round 11/11" in on.stderr
    found = json.loads((tmp_path / "out" / "honest" / "result.json").read_text())
    assert len(found["rounds"]) == 11


def test_a_missing_time_is_told(table):
    lines = table.read_text().splitlines()
    count = len(lines) - 1
    lines[3] = lines[3].rpartition(",")[0] + ","
    table.write_text("\n".join(lines) + "\n")
    words = ("--data", table, "--column", "user=listener", "--column", "item=song",
             "--min-interactions", 1)  # fmt: skip
    result = fedrec("run", *words, "--algorithm", "popularity")
    assert f"warning: 1 of {count} interactions has no time" in result.stderr
    assert "so that no order counts" in result.stdout
    (found,) = json.loads(
        fedrec("run", *words, "--algorithm", "popularity", "--format", "json").stdout
    )
    assert f"1 of {count} interactions" in found["notes"][0]
    table.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert "no time" not in fedrec("run", *words, "--algorithm", "popularity").output


def test_too_few_items_to_draw_from_are_told(table):
    words = ("--algorithm", "popularity", "--protocol", "all")
    result = of(table, *words)
    assert result.stdout.count("every client has fewer to draw from") == 2
    assert "honest-sampled draws 99 items" in result.stdout
    found = json.loads(of(table, *words, "--format", "json").stdout)
    sampled, full = found[1]["outcomes"]["honest-sampled"], found[1]["outcomes"]["full-ranking"]
    assert sampled["judgements"] == full["judgements"]
    assert "every client has fewer" in found[1]["notes"][0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fedav", "Did you mean 'fedavg'?"),
        ("FedAvg", "Did you mean 'fedavg'?"),
        ("pfed_rec", "Did you mean 'pfedrec'?"),
        ("fedavg/fedncf", "here: --algorithm fedavg --backbone fedncf."),
        ("fedavg+share=0.1", "here: --algorithm fedavg --set share=0.1."),
        ("fedavg/fcf+share=0.1+dim=4", "--backbone fcf --set share=0.1 --set dim=4."),
        ("xyz", "Known: cofedrec, da-pfl"),
    ],
)
def test_a_name_that_is_not_there_gets_the_one_that_was_meant(table, name, told):
    mend = of(table, "--algorithm", name).exception.mend
    assert told in mend
    assert ("Known" in mend) == (name == "xyz")


def test_the_list_says_which_algorithms_a_secure_sum_goes_with(table):
    facts = {one["name"]: one for one in json.loads(fedrec("list", "--format", "json").output)[
        "algorithms"
    ]}  # fmt: skip
    text = fedrec("list").output
    assert "the server needs: sums (--secure-sum); fcf" in text
    assert "the server needs: sums (not run under --secure-sum); " in text
    between = "sums (--secure-sum between devices); no backbone; also between devices"
    assert f"the server needs: {between}" in text
    for name, found in (
        ("ordered-pairs", (True, True)), ("fedca", (True, False)), ("fedavg", (True, True)),
        ("gpfedrec", (True, False)), ("gfcf", (True, True)), ("fcf-als", (True, True)),
    ):  # fmt: skip
        assert (facts[name]["devices"], facts[name]["devices_secure_sum"]) == found
    for name, taken in (("ease", False), ("fedca", False), ("pfedmoe", False), ("fedprox", True)):
        assert facts[name]["secure_sum"] == taken
        result = of(table, "--algorithm", name, "--secure-sum", "--rounds", 1)
        assert (result.exit_code == 0) == taken, result.output
        assert taken or isinstance(result.exception, JobError)


def test_a_cut_into_more_parts_than_clients_or_beside_another_is_refused(table, tmp_path):
    words = ("split", "--data", table, *COLUMNS, "--out", tmp_path / "parts", "--parts")
    many = fedrec(*words, 16)
    assert "--parts 16: the population has 15 clients" in str(many.exception)
    assert not (tmp_path / "parts").exists()
    shown = fedrec(*words, 13).output.splitlines()
    assert len(shown) == 12
    assert shown[-2].endswith("13.part: clients 14 to 14")
    fewer = fedrec(*words, 3)
    assert "holds 10.part of another cut" in str(fewer.exception)
    assert fedrec(*words, 13).exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--secure-sum", "--shards", 2, "--algorithm", "fedavg"), "--secure-sum with 2 shards"),
        (("--secure-sum", "--algorithm", "fedca"), "a secure sum hides them"),
        (("--algorithm", "lightgcn"), "cannot run on devices"),
    ],
)
def test_a_demo_that_cannot_be_is_refused_before_a_process_starts(table, words, told):
    result = fedrec("demo", "--data", table, *COLUMNS[:4], *words)
    assert told in str(result.exception)
    assert "listens" not in result.output


def test_a_server_without_an_identity_hears_that_it_has_none(table, tmp_path):
    fedrec("split", "--data", table, *COLUMNS, "--parts", 2, "--out", tmp_path)
    result = fedrec(
        "serve", "--census", tmp_path / "census.json", "--algorithm", "fedavg", "--as", "hub",
        "--listen", "127.0.0.1:0", "--identity", tmp_path / "none",
    )  # fmt: skip
    assert "hub has no identity in" in str(result.exception)


def test_slow_masks_are_told_before_they_are_made(capsys):
    say_slow(0.2, 1002)
    told = capsys.readouterr().err
    assert "each of 1,002 clients shares secrets with 112 others, some 189 s a round" in told
    say_slow(0.2, 100)
    say_slow(0.2, 2)
    assert capsys.readouterr().err == ""


def test_a_run_with_dropouts_asks_whether_that_is_slow(table, monkeypatch):
    asked = []
    monkeypatch.setattr("isthmus.cli.fedrec.run.say_slow", lambda *about: asked.append(about))
    words = ("run", "--data", table, *COLUMNS, "--algorithm", "fedavg", "--rounds", 1)
    more = ("--set", "dim=4", "--set", "share=0.8", "--secure-sum")
    assert fedrec(*words, *more, "--dropouts", 0.1).exit_code == 0
    assert asked == [(0.1, 12)]
    assert fedrec(*words, *more).exit_code == 0
    assert len(asked) == 1


def test_noise_of_an_algorithms_own_has_its_epsilon_among_the_notes(table):
    words = ("run", "--data", table, *COLUMNS, "--algorithm", "ordered-pairs")
    found = fedrec(*words, "--set", "clip=20", "--set", "noise=1")
    told = " ".join(found.output.split())
    assert "Noise of 1 clips on the sums: epsilon 4.38 at delta 1e-05 for one whole client" in told
    assert "4.73 between devices" in told
    assert "epsilon" not in fedrec(*words).output
