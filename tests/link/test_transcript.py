from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import StorageError
from isthmus.link import Transcript, decode, encode, memory_links

SECRET = np.arange(6, dtype=np.float32).reshape(2, 3)


def send_two(transcript):
    alice, bob = memory_links("alice", "bob", transcripts=(transcript, None))
    alice.send("train.cut", {"h": SECRET}, {"step": 12345})
    alice.send("train.end")
    bob.send("train.gradient", {"g": SECRET})
    alice.close()
    return bob


def test_says_what_left_and_nothing_of_its_content(tmp_path):
    path = tmp_path / "deep" / "transcript.jsonl"
    with Transcript(path) as transcript:
        send_two(transcript)
    first, second = map(json.loads, path.read_text().splitlines())
    sent = encode("train.cut", {"h": SECRET}, {"step": 12345})
    assert first.pop("seconds") >= 0
    assert first == {
        "sequence": 0,
        "partner": "bob",
        "topic": "train.cut",
        "tensors": {"h": ["float32", [2, 3]]},
        "header": ["step"],
        "bytes": len(sent),
        "sha256": hashlib.sha256(sent).hexdigest(),
    }
    assert second["topic"] == "train.end"
    assert "12345" not in path.read_text()


def test_keeps_the_content_on_request(tmp_path):
    path = tmp_path / "transcript.jsonl"
    with Transcript(path, payload=True) as transcript:
        send_two(transcript)
    line = json.loads(path.read_text().splitlines()[0])
    message = decode(base64.b64decode(line["payload"]))
    np.testing.assert_array_equal(message.tensors["h"], SECRET)


def test_in_memory():
    transcript = Transcript()
    send_two(transcript)
    assert [(e.sequence, e.topic, e.partner) for e in transcript.entries] == [
        (0, "train.cut", "bob"),
        (1, "train.end", "bob"),
    ]


def test_what_cannot_be_recorded_does_not_leave(tmp_path):
    transcript = Transcript(tmp_path / "transcript.jsonl")
    transcript.close()
    alice, bob = memory_links("alice", "bob", transcripts=(transcript, None))
    with pytest.raises(StorageError, match="cannot write the transcript"):
        alice.send("t")
    assert bob.meter.total().received_messages == 0


def test_a_message_is_in_the_file_before_it_has_arrived(tmp_path):
    """So that a program that is killed leaves no message out."""
    path = tmp_path / "transcript.jsonl"
    alice, bob = memory_links("alice", "bob", transcripts=(Transcript(path), None))
    lines = []
    arrive = bob._deliver
    bob._deliver = lambda payload: (lines.append(path.read_text()), arrive(payload))
    alice.send("one")
    alice.send("two")
    begun = [json.loads(text.splitlines()[-1] + "}") for text in lines]
    assert [line["topic"] for line in begun] == ["one", "two"]
    assert all(json.loads(line)["sha256"] for line in path.read_text().splitlines())


def test_a_killed_party_leaves_a_line_that_is_ended_when_it_starts_again(tmp_path):
    path = tmp_path / "transcript.jsonl"
    with Transcript(path) as transcript:
        send_two(transcript)
    text = path.read_text()
    path.write_text(text[: text.rindex(',"sha256"')])  # killed while the second was on its way
    with Transcript(path) as transcript:
        send_two(transcript)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["topic"] for line in lines] == ["train.cut", "train.end"] * 2
    assert [line["sha256"] is None for line in lines] == [False, True, False, False]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_stops_the_message():
    alice, bob = memory_links("alice", "bob", transcripts=(Transcript(Path("/dev/full")), None))
    for why in ("no space left on the disk that holds /dev/full", "closed"):
        with pytest.raises(StorageError, match=f"cannot write the transcript.*{why}"):
            alice.send("t")
    assert bob.meter.total().received_messages == 0


def test_a_disk_that_complains_late_is_one_storage_error(tmp_path, monkeypatch):
    transcript = Transcript(tmp_path / "transcript.jsonl")
    close = os.close

    def fail(file):
        close(file)
        raise OSError(errno.EDQUOT, "quota")

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", fail)
        with pytest.raises(StorageError, match="no space left"):
            transcript.close()
    transcript.close()


def test_writes_that_come_in_parts_make_one_line(tmp_path, monkeypatch):
    path = tmp_path / "transcript.jsonl"
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    with Transcript(path) as transcript:
        send_two(transcript)
    monkeypatch.undo()
    assert [json.loads(line)["topic"] for line in path.read_text().splitlines()] == [
        "train.cut",
        "train.end",
    ]


def test_with_content_the_file_is_its_owners_alone(tmp_path):
    with Transcript(tmp_path / "transcript.jsonl", payload=True) as transcript:
        assert stat.S_IMODE(transcript.path.stat().st_mode) == 0o600


def test_a_path_that_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match="cannot write the transcript"):
        Transcript(tmp_path)
