from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load

from isthmus.errors import BadMessage
from isthmus.link import codec
from isthmus.link.codec import decode, encode, encode_pieces

DTYPES = [np.dtype(t) for t in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4")]
NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__")
ARRAYS = hnp.arrays(
    dtype=st.sampled_from([*DTYPES, np.dtype("f8")]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
HEADERS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


def raw(table, body=b"") -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_x(**changes) -> dict:
    x = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return {"__metadata__": {"topic": "t"}, "x": x}


@given(tensors=st.dictionaries(NAMES, ARRAYS, max_size=4), header=HEADERS)
@settings(deadline=None)
def test_round_trip(tensors, header):
    message = decode(encode("a.topic", tensors, header))
    assert message.topic == "a.topic"
    assert message.header == header
    assert set(message.tensors) == set(tensors)
    for name, array in tensors.items():
        got = message.tensors[name]
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert got.tobytes() == array.tobytes()
        assert got.flags.aligned
        assert not got.flags.writeable


@given(
    tensors=st.dictionaries(NAMES, ARRAYS, max_size=3),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
)
@settings(deadline=None, max_examples=300)
def test_damaged_messages_are_refused_or_harmless(tensors, flips, cut):
    data = bytearray(encode("t", tensors, {"k": [1]}))
    for position, value in flips:
        data[position % len(data)] = value
    data = bytes(data[: max(0, len(data) - cut)])
    try:
        message = decode(data)
    except BadMessage:
        return
    assert sum(array.nbytes for array in message.tensors.values()) <= len(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    with pytest.raises(BadMessage):
        decode(data)


@given(
    shape=st.lists(st.integers(-1, 2**63) | st.integers(0, 4), max_size=10),
    offsets=st.lists(st.integers(-1, 2**63) | st.integers(0, 16), max_size=3),
    dtype=st.sampled_from(["F32", "U8", "BOOL", "F128", "", None, 3]),
    size=st.integers(0, 16),
)
@settings(deadline=None, max_examples=500)
def test_no_entry_leads_outside_the_message(shape, offsets, dtype, size):
    data = raw(with_x(shape=shape, data_offsets=offsets, dtype=dtype), bytes(size))
    try:
        message = decode(data)
    except BadMessage:
        return
    assert message.tensors["x"].nbytes == size


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter"),
        (raw(b"x" * 9), "not JSON"),
        (raw([]), "not a JSON object"),
        (raw({}), "no topic"),
        (raw({"__metadata__": {"topic": "no spaces"}}), "topic"),
        (raw({"__metadata__": {"topic": 3}}), "topic"),
        (raw({"__metadata__": {"topic": "t", "header": {}}}), "not JSON"),
        (raw({"__metadata__": {"topic": "t", "header": "[]"}}), "not a JSON object"),
        (raw({"__metadata__": {"topic": "t", "header": '{"a":NaN}'}}), "not JSON"),
        (raw({"__metadata__": {"topic": "t", "header": '{"a":1e999}'}}), "not JSON"),
        (raw({"__metadata__": {"topic": "t", "header": '{"a":-1e999}'}}), "not JSON"),
        (raw({"__metadata__": {"topic": "t", "header": '{"a":"\\ud800"}'}}), "not JSON"),
        (raw({"__metadata__": {"topic": "t", "header": '{"\\uDFFF":1}'}}), "not JSON"),
        (raw({"__metadata__": {"topic": "t", "header": '{"a":"\ud800"}'}}), "not JSON"),
        (raw({**with_x(), "\ud800": with_x()["x"]}, bytes(16)), "not JSON"),
        (raw('{"__metadata__":{"topic":"t"}}'.encode("utf-16")), "not JSON"),
        (
            raw(b'{"__metadata__":{"topic":"t","header":"{\\"a\\":\\"\xed\xa0\x80\\"}"}}'),
            "not JSON",
        ),
        (raw(b'{"__metadata__":' + b"[" * 60_000), "not JSON"),
        (raw(b" " * (64 << 10) + b"{}"), "longer"),
        (raw(with_x(), bytes(7)), "do not fill"),
        (raw(with_x(), bytes(9)), "do not fill"),
        (raw(with_x(dtype="OBJECT"), bytes(8)), "unknown dtype"),
        (raw(with_x(shape=[True, 2]), bytes(8)), "shape"),
        (raw(with_x(shape=[-1, -2]), bytes(8)), "shape"),
        (raw(with_x(shape=[1] * 9 + [2]), bytes(8)), "shape"),
        (raw(with_x(shape=[2**61, 0], data_offsets=[0, 0])), "shape"),
        (raw(with_x(shape=[3]), bytes(8)), "do not fit its shape"),
        (raw(with_x(data_offsets=[8, 16]), bytes(16)), "hole"),
        (raw(with_x(data_offsets=[8, 0]), bytes(8)), "fit"),
        (raw({**with_x(), "y": with_x()["x"]}, bytes(8)), "overlap"),
        (raw({**with_x(), "": with_x()["x"]}, bytes(8)), "entry"),
        (struct.pack("<Q", 2**63) + b"{}", "longer"),
        (raw({"__metadata__": {"topic": "t"}, **{str(i): {} for i in range(1025)}}), "1025"),
    ],
)
def test_what_is_refused_and_why(data, why):
    with pytest.raises(BadMessage, match=why):
        decode(data)


def test_decoding_copies_nothing():
    data = encode("t", {"x": np.arange(1000.0)})
    array = decode(data).tensors["x"]
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


def test_a_message_is_a_safetensors_file():
    tensors = {"a": np.arange(3, dtype=np.int8), "b": np.ones((2, 2), np.float32)}
    loaded = load(encode("t", tensors, {"n": 1}))
    assert {name: array.tolist() for name, array in loaded.items()} == {
        name: array.tolist() for name, array in tensors.items()
    }


def test_big_endian_arrays_arrive_as_values():
    assert decode(encode("t", {"x": np.arange(3, dtype=">f4")})).tensors["x"].tolist() == [0, 1, 2]


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False)))
def test_texts_and_numbers_of_headers_survive(header):
    assert decode(encode("t", {}, header)).header == header


def test_whole_characters_beyond_the_basic_plane_survive():
    header = {"\U0001f600": ["\U00010000", "\\ud800"]}
    assert decode(encode("t", {"\U0001f600": np.zeros(1)}, header)).header == header


def test_headers_of_equal_messages_are_not_shared():
    data = encode("t", {}, {"list": []})
    decode(data).header["list"].append(1)
    assert decode(data).header == {"list": []}


@pytest.mark.parametrize(
    ("topic", "tensors", "header", "error", "why"),
    [
        ("", {}, {}, ValueError, "topic"),
        ("x" * 129, {}, {}, ValueError, "topic"),
        ("t", {"": np.zeros(1)}, {}, ValueError, "name"),
        ("t", {"__metadata__": np.zeros(1)}, {}, ValueError, "name"),
        ("t", {"x": np.zeros((1,) * 9)}, {}, ValueError, "dimensions"),
        ("t", {str(i): np.zeros(0) for i in range(1025)}, {}, ValueError, "1025 tensors"),
        ("t", {"x": np.array([None])}, {}, TypeError, "dtype object"),
        ("t", {"x": np.zeros(1, "M8[s]")}, {}, TypeError, "dtype"),
        ("t", {"x": np.zeros(1, "c16")}, {}, TypeError, "dtype"),
        ("t", {}, {"x": {1, 2}}, TypeError, "JSON"),
        ("t", {}, {"x": float("inf")}, ValueError, "JSON"),
        ("t", {}, {"x": "y" * (64 << 10)}, ValueError, "too many"),
        ("t", {}, {"x": ["\ud800"]}, ValueError, "no Unicode"),
        ("t", {"\ud800": np.zeros(1)}, {}, ValueError, "name"),
    ],
)
def test_what_cannot_be_encoded(topic, tensors, header, error, why):
    with pytest.raises(error, match=why):
        encode(topic, tensors, header)


def test_too_large_a_message_is_refused_without_copying_it():
    huge = np.broadcast_to(np.uint8(0), (1, 1))
    assert codec.MAX_MESSAGE_BYTES == 1 << 30
    assert encode_pieces("t", {"x": huge}).size < 200
    with pytest.raises(ValueError, match="too many"):
        encode_pieces("t", {"x": np.empty((1 << 30) + 1, np.uint8)})
