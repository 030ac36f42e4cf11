from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import BadMessage
from isthmus.link.codec import decode, encode_pieces
from isthmus.link.remote.frames import (
    BODY_BYTES,
    HEAD_BYTES,
    MAX_FRAME_BYTES,
    MAX_NOTE_BYTES,
    Counters,
    Kind,
    pack,
    pack_message,
    pack_note,
    parse,
    read_note,
)
from isthmus.link.remote.inflow import Inflow


@given(sizes=st.lists(st.sampled_from([0, 1, 1000, BODY_BYTES, 3 * BODY_BYTES + 1]), max_size=3))
@settings(deadline=None, max_examples=30)
def test_a_message_survives_its_frames(sizes):
    tensors = {str(i): np.full(size, i, np.uint8) for i, size in enumerate(sizes)}
    frames = pack_message(encode_pieces("t", tensors), 0, Counters(3, 4, 5))
    assert all(len(frame) <= MAX_FRAME_BYTES for frame in frames)
    inflow = Inflow()
    wholes = []
    for data in frames:
        frame = parse(data)
        assert frame.counters == (3, 4, 5)
        whole = inflow.take(frame)
        if whole is not None:
            wholes.append(decode(whole))
    assert inflow.expects == 1
    assert [w.topic for w in wholes] == ["t"]
    for name, array in tensors.items():
        np.testing.assert_array_equal(wholes[0].tensors[name], array)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_frame_or_a_harmless_one(data):
    try:
        frame = parse(data)
        whole = Inflow().take(frame)
    except BadMessage:
        return
    assert whole is None or len(whole) == len(data) - HEAD_BYTES


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sequence": 1}, "out of order"),
        ({"offset": 5}, "out of order"),
        ({"total": 3}, "does not fit"),
        ({"total": (1 << 30) + 1}, "does not fit"),
    ],
)
def test_frames_out_of_place_are_refused(changes, why):
    frame = parse(pack(Kind.DATA, Counters(), [b"12345"], **{"total": 5, **changes}))
    with pytest.raises(BadMessage, match=why):
        Inflow().take(frame)


def test_a_message_may_not_change_its_size_midway():
    inflow = Inflow()
    inflow.take(parse(pack(Kind.DATA, Counters(), [b"123"], total=10)))
    with pytest.raises(BadMessage, match="changed its size"):
        inflow.take(parse(pack(Kind.DATA, Counters(), [b"456"], total=9, offset=3)))


def test_empty_chunks_are_refused():
    with pytest.raises(BadMessage, match="empty chunk"):
        Inflow().take(parse(pack(Kind.DATA, Counters(), total=10)))


def test_after_a_break_a_message_begins_again():
    inflow = Inflow()
    inflow.take(parse(pack(Kind.DATA, Counters(), [b"123"], total=5)))
    inflow.forget_partial()
    whole = inflow.take(parse(pack(Kind.DATA, Counters(), [b"12345"], total=5)))
    assert bytes(whole) == b"12345"


def test_unknown_kinds_are_refused():
    good = bytearray(pack(Kind.ACK, Counters()))
    for position in (0, 1):
        bad = bytearray(good)
        bad[position] = 99
        with pytest.raises(BadMessage, match="no known kind"):
            parse(bytes(bad))


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 4000, b" " * (MAX_NOTE_BYTES + 1)])
def test_malformed_notes_are_refused(body):
    with pytest.raises(BadMessage, match="malformed FAIL"):
        read_note(parse(pack(Kind.FAIL, Counters(), [body])))


def test_notes_survive():
    assert read_note(parse(pack_note(Kind.FAIL, {"code": "x"}))) == {"code": "x"}
