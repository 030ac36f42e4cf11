"""Alignment by RR22: with a stand-in for spu what is told and refused, with spu the whole."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.align.two_parties import recorded
from typer.testing import CliRunner

from isthmus.align import align, rr22, rr22_spu, rr22_tunnel, telling
from isthmus.align.cuckoo import digests
from isthmus.align.matching import find
from isthmus.align.wire import take
from isthmus.cli.main import app
from isthmus.errors import AlignError, BadMessage, IsthmusError, JobError, LinkError, PartnerFailed
from isthmus.link import decode, memory_links
from isthmus.session import Session, run_parties

quick = settings(deadline=None, max_examples=10)
try:
    rr22_spu.find_spu()
    needs_spu = pytest.mark.skipif(False, reason="")
except JobError as error:
    needs_spu = pytest.mark.skip(reason=str(error))


def run(ids, *, label_party="bob", seed=0, **options):
    def program(own):
        return lambda session: align(session, own, protocol="rr22", **options)

    programs = {party: program(own) for party, own in ids.items()}
    return run_parties(programs, label_party=label_party, seed=seed)


def check(results, rows):
    """Every party has the rows of what all have, in the same order."""
    common = set.intersection(*map(set, rows.values()))
    first, *others = (
        [rows[party][i] for i in results[party].rows.tolist()] for party in sorted(rows)
    )
    assert set(first) == common
    assert len(first) == len(common)
    assert all(other == first for other in others)


def stand_in(python, link, names, theirs, *, receives, seconds):
    """What RR22 is for: one side gets what both have. It does not hide anything."""
    if not receives:
        link.send("test.names", {"names": names})
        return None
    shape = (theirs, rr22_spu.NAME_BYTES)
    other = take(link, "test.names", "names", np.uint8, shape)
    at = find(other, names)
    return names[at >= 0][::-1]


def pretend_spu(monkeypatch):
    monkeypatch.setattr(rr22_spu, "installed", lambda _: rr22_spu.VERSION)


@pytest.fixture
def without_spu(monkeypatch):
    monkeypatch.setattr(rr22, "run_rr22", stand_in)
    pretend_spu(monkeypatch)
    monkeypatch.setattr(telling, "CHUNK", 5)


@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
@pytest.mark.usefixtures("without_spu")
def test_all_parties_hear_of_what_all_have_and_of_nothing_else(parties):
    @quick
    @given(data=st.data())
    def holds(data):
        kind = data.draw(st.sampled_from([st.integers(-5, 30), st.text(max_size=2)]))
        shared = data.draw(kind)
        rows = {p: list(data.draw(st.sets(kind, max_size=25)) | {shared}) for p in parties}
        results = run(rows)
        check(results, rows)
        pairs = {p: len(set(rows["bob"]) & set(rows[p])) for p in parties if p != "bob"}
        assert results["bob"].summary.pairwise == pairs
        assert results["alice"].summary.pairwise == {}

    holds()


@pytest.mark.usefixtures("without_spu")
def test_all_rows_of_the_label_party():
    rows = {"alice": list("abcdef"), "bob": list("xbcdy"), "carol": list("cdz")}
    results = run(rows, rows="label")
    order = [rows["bob"][i] for i in results["bob"].rows]
    assert sorted(order) == sorted(rows["bob"])
    for party in ("alice", "carol"):
        own = [rows[party][i] if i >= 0 else None for i in results[party].rows]
        assert own == [name if name in rows[party] else None for name in order]


@pytest.mark.usefixtures("without_spu")
def test_nothing_in_common_and_events():
    with pytest.raises(AlignError, match="no id is common"):
        run({"alice": ["x"], "bob": ["y"]})
    events = run({"alice": ["x", "y"], "bob": ["y", "x", "y"]}, keys="entity")
    assert sorted(events["bob"].rows.tolist()) == [0, 1, 2]


def test_find_looks_beyond_the_first_eight_bytes():
    own = np.zeros((40, 12), dtype=np.uint8)
    own[:, 8] = np.arange(40)
    own[30:, 0] = 7
    wanted = own[[31, 3, 0, 39]].copy()
    strange = wanted[:1].copy()
    strange[0, 9] = 1
    assert find(own, np.concatenate([wanted, strange])).tolist() == [31, 3, 0, 39, -1]
    assert find(own, own[:0]).tolist() == []
    assert find(own[:0], wanted).tolist() == [-1] * 4


# Hostile partners.


@pytest.mark.parametrize(
    ("header", "pick", "said"),
    [
        ({"ids": 4}, None, "without a proper 'ids'"),
        ({}, None, "without a proper 'ids'"),
        ({"ids": 2}, [0, 0], "or one twice"),
        ({"ids": 2}, [0, None], "other ids than ours"),
        ({"ids": 3}, [0, 1], "agreed was"),
    ],
)
def test_a_label_party_that_tells_of_other_names_is_refused(header, pick, said):
    to_bob, to_alice = memory_links("alice", "bob", timeout=5)
    names = np.random.default_rng(0).integers(0, 256, (3, 12)).astype(np.uint8)
    to_alice.send("align.common", header=header)
    if pick is not None:
        strange = np.zeros(12, dtype=np.uint8)
        told = np.stack([strange if i is None else names[i] for i in pick])
        to_alice.send("align.names", {"names": told})
    with pytest.raises(BadMessage, match=said):
        telling.hear_common(to_bob, rr22.Found(names=names))


def test_a_result_that_is_no_part_of_the_input_is_refused(monkeypatch):
    pretend_spu(monkeypatch)
    strange = np.zeros((1, 12), dtype=np.uint8)
    monkeypatch.setattr(rr22, "run_rr22", lambda *_, receives, **__: strange if receives else None)
    with pytest.raises(AlignError, match="not a part"):
        run({"alice": ["x"], "bob": ["x"]})


def test_a_partner_with_more_ids_than_it_announced_is_refused(monkeypatch):
    pretend_spu(monkeypatch)
    monkeypatch.setattr(
        rr22, "run_rr22", lambda _, __, names, *_a, receives, **_k: names if receives else None
    )
    with pytest.raises(BadMessage, match="than it said"):
        run({"alice": ["x"], "bob": ["x", "y"]})


# The other interpreter.


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not run"),
        ("print('hello')", "does not run"),
        ("print('[1]')", "does not run"),
        ("print('{\"spu\": null}')", "spu is not installed"),
        ('print(\'{"spu": "0.9.4"}\')', "has spu 0.9.4, and 0.9.5 is needed"),
    ],
)
def test_without_the_right_spu_nothing_begins(tmp_path, monkeypatch, text, said):
    path = tmp_path / "python"
    monkeypatch.setenv(rr22_spu.VARIABLE, script(path, text) if text else str(path))
    link, partner = memory_links("alice", "bob", timeout=5)
    session = Session(me="alice", parties=("alice", "bob"), label_party="bob", links={"bob": link})
    with pytest.raises(JobError, match=said):
        align(session, ["x"], protocol="rr22")
    assert partner.meter.total().received_bytes == 0


def test_an_interpreter_without_spu_says_so(monkeypatch):
    monkeypatch.setenv(rr22_spu.VARIABLE, sys.executable)
    if rr22_spu.installed(sys.executable) is not None:
        pytest.skip("spu is installed here")
    with pytest.raises(JobError, match="pip install spu=="):
        rr22_spu.find_spu()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ended without an answer"),
        ('print(\'{"error": "Bad: \\\\u001b[2J it broke stacktrace: #0"}\')', r"Bad: \[2J it br"),
    ],
)
def test_a_child_that_fails_is_an_error_on_both_sides(tmp_path, monkeypatch, text, said):
    made = []
    honest = rr22_spu.tempfile.mkdtemp
    monkeypatch.setattr(
        rr22_spu.tempfile, "mkdtemp", lambda **_: made.append(honest(dir=tmp_path)) or made[-1]
    )
    monkeypatch.setattr(rr22_tunnel, "POLL", 0.1)
    here, there = memory_links("alice", "bob", timeout=20)
    names = np.zeros((1, 12), dtype=np.uint8)
    python = script(tmp_path / "python", text)
    with pytest.raises(AlignError, match=said) as caught:
        rr22_spu.run_rr22(python, here, names, 1, receives=True, seconds=5)
    here.fail(caught.value)
    with pytest.raises(PartnerFailed):
        there.recv("align.tunnel.receiver")
    assert len(made) == 1
    assert not Path(made[0]).exists()


def test_when_the_partner_fails_the_child_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(rr22_tunnel, "POLL", 0.1)
    here, there = memory_links("alice", "bob", timeout=20)
    told = tmp_path / "pid"
    text = f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)"
    python = script(tmp_path / "python", text)
    there.fail(AlignError("no"))
    with pytest.raises(PartnerFailed):
        rr22_spu.run_rr22(
            python, here, np.zeros((1, 12), dtype=np.uint8), 1, receives=True, seconds=5
        )
    if told.exists() and told.read_text():
        with pytest.raises(ProcessLookupError):
            os.kill(int(told.read_text()), 0)


def test_the_file_holds_names_in_another_order_and_one_more(tmp_path):
    names = np.random.default_rng(0).integers(0, 256, (200, 12)).astype(np.uint8)
    rr22_spu._write(tmp_path / "ids.csv", names)
    header, *lines = (tmp_path / "ids.csv").read_text().split()
    assert header == "id"
    assert len(lines) == len(set(lines)) == 201
    own = [base64.b64encode(row.tobytes()).decode() for row in names]
    assert set(own) < set(lines)
    assert [line for line in lines if line in own] != own
    first = rr22_spu._read(tmp_path / "ids.csv", 201)[0]
    assert base64.b64encode(first.tobytes()).decode() == lines[0]
    with pytest.raises(AlignError, match="not as long"):
        rr22_spu._read(tmp_path / "ids.csv", 200)
    (tmp_path / "ids.csv").write_text("id\nx!yz\n")
    with pytest.raises(AlignError, match="cannot be read"):
        rr22_spu._read(tmp_path / "ids.csv", 1)


# With spu.


@needs_spu
@pytest.mark.parametrize(
    ("alice", "bob"),
    [
        (range(1), range(1)),
        (range(2), range(1, 3)),
        (range(100), range(100)),
        (range(3), range(50_000)),
        (range(10_000), range(4_999, 15_000)),
    ],
)
def test_spu_finds_what_is_common(alice, bob):
    rows = {"alice": list(alice), "bob": list(bob)}
    check(run(rows), rows)


@needs_spu
def test_spu_with_three_parties_and_nothing_in_common(monkeypatch):
    before = set(Path("/tmp").glob("psi_*.trace"))
    rows = {"alice": list(range(90)), "bob": list(range(30, 200)), "carol": list(range(0, 300, 7))}
    results = run(rows)
    check(results, rows)
    assert results["bob"].summary.pairwise == {"alice": 60, "carol": 24}
    with pytest.raises(AlignError, match="no id is common"):
        run({"alice": ["x", "y"], "bob": ["z"]})
    assert set(Path("/tmp").glob("psi_*.trace")) <= before


@needs_spu
def test_what_crosses_holds_no_id_and_no_name_of_one_that_is_not_common():
    shared, only = [f"shared-{i}" for i in range(10)], [f"only-{i}" for i in range(20)]

    def program(ids):
        return lambda session: align(session, ids, protocol="rr22")

    programs = {"alice": program(shared + only[:10]), "bob": program(shared + only[10:])}
    raw = recorded(programs, timeout=60)
    topics = {p: Counter(decode(m).topic for m in raw[p]) for p in raw}
    tunnel = {"align.tunnel.receiver", "align.tunnel.sender"}
    both = {"align.hello", "align.digest"} | tunnel
    assert set(topics["alice"]) == both
    assert set(topics["bob"]) == both | {"align.key", "align.common", "align.names"}
    messages = {decode(m).topic: decode(m) for m in raw["bob"]}
    key = messages["align.key"].tensors["key"].tobytes()
    assert len(messages["align.names"].tensors["names"]) == 10
    own = [i.encode() for i in only]
    forbidden = [
        *own,
        *(h(i).digest()[:8] for i in own for h in (hashlib.sha256, hashlib.blake2b, hashlib.md5)),
        *(row.tobytes()[:8] for row in rr22._names(key, digests(own))),
        *(base64.b64encode(row.tobytes())[:8] for row in rr22._names(key, digests(own))),
    ]
    for message in raw["alice"] + raw["bob"]:
        assert not any(part in message for part in forbidden)


@needs_spu
def test_garbage_for_spu_is_an_error_and_no_hang(monkeypatch):
    monkeypatch.setattr(rr22_tunnel, "GRACE", 0.5)
    here, there = memory_links("alice", "bob", timeout=20)
    garbage = np.frombuffer(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)), dtype=np.uint8)
    for topic in ("align.tunnel.receiver", "align.tunnel.sender"):
        there.send(topic, {"bytes": garbage})
    with pytest.raises(IsthmusError, match=r"ended a connection early|spu failed") as caught:
        rr22_spu.run_rr22(
            rr22_spu.find_spu(), here, np.zeros((1, 12), np.uint8), 1, receives=True, seconds=3
        )
    assert isinstance(caught.value, LinkError | AlignError)


@needs_spu
def test_the_child_ends_with_whoever_started_it_and_leaves_nothing(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ids.csv").write_text("id\nx\n")
    child = subprocess.Popen(
        rr22_spu._command(rr22_spu.find_spu()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    wanted = {"folder": str(folder), "rank": 0, "seconds": 60}
    child.stdin.write(json.dumps(wanted).encode() + b"\n")
    child.stdin.flush()
    while not (folder / "own").exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.communicate()
    assert child.returncode == 1
    assert not folder.exists()


@needs_spu
def test_over_two_columns():
    left = pl.DataFrame({"shop": [i % 7 for i in range(500)], "user": list(range(500))})
    right = pl.DataFrame({"s": [i % 7 for i in range(450, 520)], "u": list(range(450, 520))})
    results = run({"alice": left, "bob": right}, label_party="alice")
    assert len(results["bob"]) == 50
    assert left["user"][results["alice"].rows].equals(right["u"][results["bob"].rows])


def test_doctor_and_validate_say_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv(rr22_spu.VARIABLE, str(tmp_path / "python"))
    said = CliRunner().invoke(app, ["doctor", "--folder", str(tmp_path), "--out", str(tmp_path)])
    assert said.exit_code == 1
    assert "does not run as a Python" in said.output
    job = str(Path(__file__).parents[2] / "examples" / "movielens.yaml")
    said = CliRunner().invoke(
        app, ["job", "validate", job, "--as", "alice", "--set", "align.protocol=rr22"]
    )
    assert isinstance(said.exception, JobError)
    assert "does not run as a Python" in str(said.exception)
    monkeypatch.delenv(rr22_spu.VARIABLE)
    monkeypatch.setattr(rr22_spu, "installed", lambda _: None)
    said = CliRunner().invoke(app, ["doctor", "--folder", str(tmp_path), "--out", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert f"{rr22_spu.VARIABLE} names no Python" in said.output
