"""`isthmus fedrec split`, `serve`, `join` and `demo` as a user types them."""

import json
import subprocess
import sys
import threading

import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import Federation
from typer.testing import CliRunner

from isthmus.cli.main import app
from isthmus.errors import JobError, PartnerAbsent
from isthmus.fedrec.devices import Conduct, Line, Part
from isthmus.fedrec.devices import join as join_run
from isthmus.link import Listener, create_identity


@pytest.fixture
def table(tmp_path):
    data = made_up(clients=12, items=30, least=6)
    path = tmp_path / "plays.csv"
    lines = [f"{u},{i},{t}" for t, (u, i) in enumerate(zip(data.user, data.item, strict=True))]
    path.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    return path


def fedrec(*words):
    return CliRunner().invoke(app, ["fedrec", *map(str, words)])


def test_a_run_from_split_to_result(table, tmp_path, identities):
    parts, out = tmp_path / "parts", tmp_path / "out"
    result = fedrec("split", "--data", table, "--parts", 2, "--out", parts)
    assert result.exit_code == 0, result.output
    assert "1.part: clients 0 to 5" in result.output
    with Listener(identities / "hub", "hub") as listener:
        address = listener.address

    def join(name, number):
        line = Line(identities / name, name, "hub", address, wait=60)
        join_run(Part.load(parts / f"{number}.part"), line, folder=tmp_path / name)

    threads = [
        threading.Thread(target=join, args=one, daemon=True) for one in (("ann", 1), ("ben", 2))
    ]
    for one in threads:
        one.start()
    served = fedrec(
        "serve", "--census", parts / "census.json", "--algorithm", "fedavg", "--as", "hub",
        "--identity", identities / "hub", "--listen", address, "--rounds", 2, "--set", "dim=4",
        "--shard", "ann=0-5", "--shard", "ben", "--out", out, "--wait", 60, "--format", "json",
        "--checkpoint-every", 1,
    )  # fmt: skip
    assert served.exit_code == 0, served.output
    for one in threads:
        one.join(30)
    found = json.loads(served.stdout)
    assert [one["trained"] for one in found["devices"]["rounds"]] == [12, 12]
    assert json.loads((out / "devices.json").read_text()) == found["devices"]
    assert json.loads((out / "result.json").read_text())["algorithm"] == "fedavg"
    assert found["devices"]["shards"]["ann"]["up"] > 1000
    assert len(list((tmp_path / "ann").glob("*.clients"))) == 2


def test_the_demo_starts_processes_and_finds_the_same_as_a_run(table):
    result = fedrec("demo", "--data", table, "--shards", 1, "--rounds", 2)
    assert result.exit_code == 0, result.output
    assert "are the same, bit for bit" in result.output
    assert "shard-1 takes part with 12 clients" in result.output


def test_the_demo_adds_ordered_pairs_up_under_masks_and_finds_the_same(table):
    words = ("--shards", 3, "--algorithm", "ordered-pairs", "--secure-sum")
    result = fedrec("demo", "--data", table, *words)
    assert result.exit_code == 0, result.output
    assert "are the same, bit for bit" in result.output
    assert "no client's part" in " ".join(result.output.split())
    assert "The server saw" not in result.output


def test_a_part_of_ones_own_table(table, tmp_path):
    parts, own = tmp_path / "parts", tmp_path / "own.part"
    fedrec("split", "--data", table, "--parts", 1, "--out", parts)
    whole = Part.load(parts / "1.part")
    names = list(dict.fromkeys(line.split(",")[1] for line in table.read_text().split()[1:]))
    (tmp_path / "items.txt").write_text("\n".join(names) + "\n")
    result = fedrec(
        "part", table, "--census", parts / "census.json", "--catalogue", tmp_path / "items.txt",
        "--first", 0, "--out", own,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "clients 0 to 11" in result.output
    assert own.read_bytes() == (parts / "1.part").read_bytes()
    assert len(whole.clients) == 12


def test_mistakes_are_told(table, tmp_path):
    parts = tmp_path / "parts"
    fedrec("split", "--data", table, "--parts", 2, "--out", parts, "--protocol", "authors")
    serve = (
        "serve", "--census", parts / "census.json", "--algorithm", "fedavg", "--as", "hub",
        "--listen", "127.0.0.1:0",
    )  # fmt: skip
    mine = ("--identity", tmp_path / "ann")
    create_identity(tmp_path / "ann", "ann")
    for words, message in (
        ((*serve, "--protocol", "full-ranking"), "not cut for the protocol"),
        ((*serve, "--identity", tmp_path), "no"),
        (("join", parts / "1.part", "--as", "ann", "--server", "hub:1"), "names no server"),
        (("join", parts / "1.part", "--as", "ben", "--server", "hub=a:1", *mine), "no identity"),
        (("join", table, "--as", "ann", "--server", "hub=a:1", *mine, "--reproducible"), "no part"),
    ):
        result = fedrec(*words)
        assert result.exit_code != 0
        assert message in str(result.exception)


def test_spans_of_shards_are_checked(identities):
    from isthmus.cli.fedrec.devices import _places

    census = Federation(identities, made_up(clients=14, items=30)).parts["ann"].census
    found = _places(["ann=0-3", "ben"], census)
    assert found["ann"].tolist() == [0, 1, 2, 3]
    assert found["ben"] is None
    for text in ("ann=", "ann=1", "ann=1-x", "ann=1-14"):
        with pytest.raises(JobError, match="not understood"):
            _places([text], census)


@pytest.mark.parametrize("names", [("all",), ("honest-sampled", "authors")])
def test_parts_are_cut_for_one_ground(table, tmp_path, names):
    words = [word for name in names for word in ("--protocol", name)]
    result = fedrec("split", "--data", table, "--parts", 2, "--out", tmp_path / "p", *words)
    assert "not for both" in str(result.exception)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--shard", "ann=9-3"), "--shard ann=9-3 is not understood"),
        (("--begin-with", 13), "the population has 12 clients"),
        (("--algorithm", "da-pfl"), "da-pfl cannot run on devices"),
        (("--secure-sum", "--algorithm", "fedca"), "own tables"),
        (("--clip", 1, "--algorithm", "ease"), "does not send item rows"),
        (("--clip", 1, "--noise", 1, "--algorithm", "fedca"), "tables of their own"),
        (("--secure-sum", "--algorithm", "fedatt"), "own tables"),
        (("--shard", "zoe", "--identity", "hub"), "the certificate of zoe is not trusted in hub"),
        (("--identity", "hub"), "no shard may join"),
        (("--resume",), "no folder to go on from"),
        (("--out", "census.json"), "cannot write census.json"),
    ],
)
def test_the_server_refuses_before_it_listens(table, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    create_identity(tmp_path / "hub", "hub")
    fedrec("split", "--data", table, "--parts", 2, "--out", ".")
    result = fedrec(
        "serve", "--census", "census.json", "--algorithm", "fedavg", "--as", "hub",
        "--identity", "hub", "--listen", "127.0.0.1:0", *words,
    )  # fmt: skip
    assert told in str(result.exception)
    assert "listens" not in result.output


def test_a_run_under_masks(table, tmp_path, identities):
    parts = tmp_path / "parts"
    assert fedrec("split", "--data", table, "--parts", 3, "--out", parts).exit_code == 0
    with Listener(identities / "hub", "hub") as listener:
        address = listener.address

    def join(name, number):
        line = Line(identities / name, name, "hub", address, wait=60)
        join_run(Part.load(parts / f"{number}.part"), line, Conduct(sums_only=True))

    names = list(enumerate(("ann", "ben", "cat"), 1))
    threads = [threading.Thread(target=join, args=(b, a), daemon=True) for a, b in names]
    for one in threads:
        one.start()
    served = fedrec(
        "serve", "--census", parts / "census.json", "--algorithm", "fedavg", "--as", "hub",
        "--identity", identities / "hub", "--listen", address, "--rounds", 1, "--set", "dim=4",
        "--wait", 60, "--secure-sum",
    )  # fmt: skip
    assert served.exit_code == 0, served.output
    for one in threads:
        one.join(30)
    assert "no client's part" in " ".join(served.output.split())
    assert "one by one" not in served.output


def test_a_shard_that_insists_on_noise_refuses_a_server_without(table, tmp_path, identities):
    parts = tmp_path / "parts"
    assert fedrec("split", "--data", table, "--parts", 1, "--out", parts).exit_code == 0
    with Listener(identities / "hub", "hub") as listener:
        address = listener.address
    words = (
        "join", parts / "1.part", "--as", "ann", "--identity", identities / "ann", "--server",
        f"hub={address}", "--least-noise", 4, "--wait", 60,
    )  # fmt: skip
    # In a process of its own: of two commands in one process the output would be mixed up.
    serving = (
        "serve", "--census", parts / "census.json", "--algorithm", "popularity", "--as", "hub",
        "--identity", identities / "hub", "--listen", address, "--shard", "ann", "--wait", 5,
    )  # fmt: skip
    command = [sys.executable, "-m", "isthmus", "fedrec", *map(str, serving)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE)
    joined = fedrec(*words)
    server.communicate(timeout=60)
    assert server.returncode != 0
    assert "no noise on the sum, and this shard wants 4 clips" in str(joined.exception)
    refused = fedrec(*words, "--clip", 1)
    assert "all asked alike" in str(refused.exception)


def test_a_file_that_is_not_there_is_told_as_such():
    for words in (
        ("serve", "--census", "no.json", "--algorithm", "fedavg", "--as", "hub", "--listen", "x:1"),
        ("join", "no.part", "--as", "ann", "--server", "hub=x:1"),
    ):
        result = fedrec(*words)
        assert result.exit_code == 2
        assert "does not exist" in result.output


def test_a_finished_run_is_shown_again_without_listening(table, tmp_path, identities):
    parts, out = tmp_path / "parts", tmp_path / "out"
    assert fedrec("split", "--data", table, "--parts", 1, "--out", parts).exit_code == 0
    with Listener(identities / "hub", "hub") as listener:
        address = listener.address
    line = Line(identities / "ann", "ann", "hub", address, wait=60)
    thread = threading.Thread(
        target=lambda: join_run(Part.load(parts / "1.part"), line), daemon=True
    )
    thread.start()
    words = (
        "serve", "--census", parts / "census.json", "--algorithm", "popularity", "--as", "hub",
        "--identity", identities / "hub", "--listen", address, "--out", out, "--wait", 60,
    )  # fmt: skip
    first = fedrec(*words)
    assert first.exit_code == 0, first.output
    thread.join(30)
    assert "every client has fewer to draw from" in first.stdout
    for more in ((), ("--resume",)):
        again = fedrec(*words, *more)
        assert again.exit_code == 0, again.output
        assert "out holds this run, finished on" in again.stderr
        assert "listens" not in again.stderr
        assert again.stdout == first.stdout
    refused = fedrec(*words, "--protocol", "full-ranking", "--every", 1, "--algorithm", "ease")
    assert "algorithm popularity, here ease" in str(refused.exception)
    assert "--force" in refused.exception.mend
    gone = fedrec(*words, "--force", "--wait", 0.2)
    assert "hub listens" in gone.stderr


def test_nobody_comes(table, tmp_path, identities):
    assert fedrec("split", "--data", table, "--parts", 1, "--out", tmp_path).exit_code == 0
    result = fedrec(
        "serve", "--census", tmp_path / "census.json", "--algorithm", "fedavg", "--as", "hub",
        "--identity", identities / "hub", "--listen", "127.0.0.1:0", "--wait", 0.2,
        "--shard", "ann", "--shard", "ben",
    )  # fmt: skip
    assert isinstance(result.exception, PartnerAbsent)
    assert "no shard took part within 0.2 s; ann, ben may join" in str(result.exception)
    assert "isthmus fedrec join" in result.exception.mend
    assert "--resume" not in result.exception.mend
