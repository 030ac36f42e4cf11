"""What a partner may send in place of an encoded message, and what a guard's decoding end says."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import BadMessage
from isthmus.split.guards import (
    E4M3,
    E5M2,
    Bf16,
    Envelope,
    Fp8,
    Fp16,
    Integers,
    LowRank,
    PlainGuard,
    TopK,
    parse_guard,
)
from isthmus.split.guards.coders import CODERS
from isthmus.split.guards.envelope import NAME

SHAPES = {"a": (6, 32)}
ROWS, WIDTH = SHAPES["a"]
GUARDS = {
    "plain": lambda rng: PlainGuard(),
    "fp16": lambda rng: Fp16(),
    "bf16": lambda rng: Bf16(),
    "e4m3": lambda rng: Fp8(E4M3, rng),
    "e5m2": lambda rng: Fp8(E5M2, rng),
    "int8": lambda rng: Integers(8, rng),
    "int4": lambda rng: Integers(4, rng),
    "topk": lambda rng: TopK(0.1, feedback=False),
    "bitmap": lambda rng: TopK(0.5, feedback=False),
    "lowrank": lambda rng: LowRank(2, rng),
    "randomk": lambda rng: parse_guard("randomk:0.2").build(rng, "cut").guard,
    "chain": lambda rng: parse_guard("topk:0.1+int8").build(rng, "cut").guard,
}


def rng(seed=0):
    return np.random.default_rng(seed)


def sent(guard):
    message = guard.encode({"a": rng().normal(size=SHAPES["a"]).astype(np.float32)})
    return {name: array.copy() for name, array in message.items()}


@pytest.mark.parametrize("name", GUARDS)
def test_other_names_dtypes_and_shapes_are_refused(name):
    guard = GUARDS[name](rng())
    message = sent(guard)
    assert guard.decode(message, SHAPES)["a"].shape == SHAPES["a"]
    for part, array in message.items():
        rest = {other: message[other] for other in message if other != part}
        spoilt = [
            rest,
            {**message, "more": array},
            {**rest, part + "x": array},
            {**rest, part: array.astype(np.float64)},
            {**rest, part: array[:-1]},
            {**rest, part: np.concatenate([array, array])},
            {**rest, part: array.reshape(1, *array.shape)},
            {**rest, part: np.zeros((0, 9), array.dtype)},
        ]
        for wrong in spoilt:
            with pytest.raises(BadMessage):
                guard.decode(wrong, SHAPES)


@pytest.mark.parametrize("name", GUARDS)
def test_a_message_of_another_batch_size_is_refused(name):
    guard = GUARDS[name](rng())
    with pytest.raises(BadMessage):
        guard.decode(sent(guard), {"a": (7, 32)})
    with pytest.raises(BadMessage):
        guard.decode(sent(guard), {"b": (6, 32)})


@pytest.mark.parametrize(
    ("name", "part", "content"),
    [
        ("int8", "peak", np.nan),
        ("int8", "peak", np.inf),
        ("int8", "peak", -1.0),
        ("int8", "peak", 3e38),
        ("e4m3", "peak", np.nan),
        ("chain", "values.peak", np.nan),
        ("int8", "codes", 255),
        ("int4", "codes", 0x0F),
        ("chain", "values.codes", 255),
        ("e4m3", "codes", 0x7F),
        ("e5m2", "codes", 0x7C),
        ("e5m2", "codes", 0xFE),
        ("fp16", "half", np.inf),
        ("fp16", "half", np.nan),
        ("fp16", "exponent", 127),
        ("fp16", "exponent", -128),
        ("bf16", "bits", 0x7F80),
        ("bf16", "bits", 0xFFC0),
        # All bits set: columns 31, 31, 31, and a bitmap of all columns.
        ("topk", "columns", 255),
        ("topk", "columns", 0),
        ("bitmap", "columns", 255),
        ("bitmap", "columns", 0),
        ("chain", "columns", 255),
    ],
)
def test_numbers_that_no_sender_makes_are_refused(name, part, content):
    guard = GUARDS[name](rng())
    message = sent(guard)
    message[f"a.{part}"][...] = content
    with pytest.raises(BadMessage):
        guard.decode(message, SHAPES)


def test_a_column_outside_the_row_is_refused():
    shapes = {"a": (4, 20)}  # 5 bits an index, so 20 to 31 can be written
    guard = TopK(0.1, feedback=False)
    message = guard.encode({"a": rng().normal(size=(4, 20)).astype(np.float32)})
    # Row 0: columns 1 and 24.
    message["a.columns"][0], message["a.columns"][1] = 1 | (24 << 5) & 0xFF, 24 >> 3
    with pytest.raises(BadMessage, match="below 20"):
        guard.decode(message, shapes)


def test_an_exponent_that_overflows_is_refused():
    guard = Fp16()
    message = sent(guard)
    message["a.exponent"][...] = 126
    with pytest.raises(BadMessage, match="finite"):
        guard.decode(message, SHAPES)


@pytest.mark.parametrize(
    "spec", ["int8", "topk:0.1+int4", "lowrank:2", "int8+zlib", "zlib", "int8+zeros"]
)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_bytes_decode_to_the_expected_shape_or_are_refused(spec, data):
    guard = parse_guard(spec).build(rng(), "cut")
    whole = guard.layout(SHAPES)[NAME].shape[0]
    raw = data.draw(st.binary(max_size=64) | st.binary(min_size=whole, max_size=whole))
    if data.draw(st.booleans()):
        raw = zlib.compress(raw)
    try:
        with np.errstate(all="ignore"):  # the values may be any; the lane refuses NaN
            back = guard.decode({NAME: np.frombuffer(raw, np.uint8)}, SHAPES)
    except BadMessage:
        return
    assert back["a"].shape == SHAPES["a"]
    assert back["a"].dtype == np.float32


def test_an_envelope_of_another_size_dtype_or_name_is_refused():
    guard = Envelope(Integers(8, rng()))
    body = sent(guard)[NAME]
    for wrong in (
        {NAME: body[:-1]},
        {NAME: np.append(body, np.uint8(0))},
        {NAME: body.view(np.int8)},
        {NAME: body.reshape(2, -1)},
        {NAME: np.array(0, np.uint8)},
        {"other": body},
        {NAME: body, "more": body},
        {},
    ):
        with pytest.raises(BadMessage, match="guarded"):
            guard.decode(wrong, SHAPES)


def test_a_deflated_message_is_never_inflated_beyond_what_is_agreed():
    guard = Envelope(PlainGuard(), CODERS["zlib"])
    whole = ROWS * WIDTH * 4
    good = zlib.compress(bytes(whole))
    assert guard.decode({NAME: _bytes(good)}, SHAPES)["a"].shape == SHAPES["a"]
    for wrong in (
        zlib.compress(bytes(1 << 24))[: whole - 1],
        zlib.compress(bytes(100_000)),
        zlib.compress(bytes(whole + 1)),
        zlib.compress(bytes(whole - 1)),
        good[:-3],
        good + b"x",
        b"",
        b"no zlib",
    ):
        with pytest.raises(BadMessage, match="deflated"):
            guard.decode({NAME: _bytes(wrong)}, SHAPES)


def test_a_bitmap_that_does_not_fit_its_bytes_is_refused():
    coder = CODERS["zeros"]
    body = np.array([7, 7, 1, 7, 2, 7, 7, 7, 7, 3], np.uint8)
    coded = coder.encode(body)
    np.testing.assert_array_equal(coder.decode(coded, 10), body)
    beyond = coded.copy()
    beyond[2] |= 0x80
    for wrong in (coded[:-1], np.append(coded, np.uint8(1)), coded[:2], coded[:0], beyond):
        with pytest.raises(BadMessage, match="bitmap"):
            coder.decode(wrong, 10)


def test_an_error_repeats_nothing_of_the_partners():
    guard = Integers(8, rng())
    with pytest.raises(BadMessage) as caught:
        guard.decode({"\x1b[2Jevil": np.zeros(1)}, SHAPES)
    assert "evil" not in str(caught.value)


def _bytes(content):
    return np.frombuffer(content, np.uint8)
