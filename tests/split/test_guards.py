"""Round trips, error bounds, means, sizes and states of the guards, each at both of its ends."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isthmus.errors import BadMessage, JobError, NotFinite
from isthmus.split.guards import (
    E4M3,
    E5M2,
    Bf16,
    Chain,
    Envelope,
    Fp8,
    Fp16,
    Integers,
    LowRank,
    PlainGuard,
    RandomK,
    TopK,
    parse_guard,
    record_of,
    size,
)
from isthmus.split.guards.coders import CODERS
from isthmus.split.guards.envelope import NAME
from isthmus.split.guards.packing import (
    columns_bytes,
    pack,
    pack_columns,
    packed_bytes,
    unpack,
    unpack_columns,
)

ROUNDING = ["fp16", "bf16", "fp8", "fp8-e5m2", "int8", "int6", "int4", "int2"]
REDUCING = ["topk:0.1", "topk:0.6", "randomk:0.3", "lowrank:3"]
CHAINS = ["topk:0.2+int8", "randomk:0.3+int4", "lowrank:2+fp16"]
CODED = ["zeros", "zlib", "int8+zlib", "int8+zeros", "topk:0.2+fp8+zlib", "topk:0.2+fp8+zeros"]
LOSSLESS = ["none", "zeros", "zlib"]
SPECS = ["none", *ROUNDING, *REDUCING, *CHAINS, *CODED]
ROUNDERS = {
    "int8": lambda rng: Integers(8, rng),
    "int5": lambda rng: Integers(5, rng),
    "int2": lambda rng: Integers(2, rng),
    "e4m3": lambda rng: Fp8(E4M3, rng),
    "e5m2": lambda rng: Fp8(E5M2, rng),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def shapes_of(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


def there(guard, tensors, learn=True):
    """What the partner's end, which has another generator and no state, takes for `tensors`."""
    return guard.decode(guard.encode(tensors, learn=learn), shapes_of(tensors))


def cut(rows=64, seed=0, scale=1.0):
    x = rng(seed).normal(size=(rows, 49)).astype(np.float32) * np.float32(scale)
    return {"deep": np.maximum(x[:, :32], 0), "sum": x[:, 32:48], "first": x[:, 48:]}


def matrices(largest=2.0**100):
    floats = st.floats(-largest, largest, width=32)
    return hnp.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.integers(1, 40)), elements=floats
    )


@pytest.mark.parametrize("spec", SPECS)
@given(x=matrices())
@settings(max_examples=25, deadline=None)
def test_any_matrix_makes_the_round_trip_and_what_is_lossless_is_exact(spec, x):
    guard = parse_guard(spec).build(rng(), "gradient")
    receiver = parse_guard(spec).build(rng(9), "gradient")
    before = x.copy()
    message = guard.encode({"a": x})
    back = receiver.decode(message, {"a": x.shape})
    np.testing.assert_array_equal(x, before)
    assert back.keys() == {"a"}
    assert back["a"].dtype == np.float32
    assert back["a"].shape == x.shape
    assert np.isfinite(back["a"]).all()
    assert guard.lossy == (spec not in LOSSLESS)
    if not guard.lossy:
        np.testing.assert_array_equal(back["a"], x)


@pytest.mark.parametrize("spec", SPECS)
def test_zeros_odd_shapes_and_no_rows_pass(spec):
    guard = parse_guard(spec).build(rng(), "gradient")
    x = rng(1).normal(size=(5, 3, 7)).astype(np.float32)
    x[2] = 0
    tensors = {"zero": np.zeros((4, 32), np.float32), "deep": x, "flat": x[:, 0, 0].copy()}
    for _ in range(2):
        back = there(guard, tensors)
        assert shapes_of(back) == shapes_of(tensors)
        np.testing.assert_array_equal(back["zero"], 0)
    empty = {"deep": np.zeros((0, 8), np.float32)}
    assert there(guard, empty, learn=False)["deep"].shape == (0, 8)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec not in CODED])
def test_the_size_follows_from_the_shapes_alone(spec):
    guard = parse_guard(spec).build(rng(), "cut")
    sizes = {
        sum(array.nbytes for array in guard.encode(cut(seed=seed, scale=scale)).values())
        for seed in range(3)
        for scale in (1.0, 1e-6)
    }
    assert sizes == {size(guard.layout(shapes_of(cut())))}


@pytest.mark.parametrize(
    ("spec", "row"),
    [
        ("fp16", 2 * 49),
        ("int8", 49 + 3),
        ("int4", 16 + 8 + 0.5 + 3),
        # Three of 32 in 5 bits each, two of 16 in 4 bits, the one of one is sent whole.
        ("topk:0.1", 4 * (3 + 2 + 1) + 15 / 8 + 1),
        ("topk:0.1+int8", 3 + 2 + 1 + 3 + 15 / 8 + 1),
        # Half of the columns: a bitmap.
        ("topk:0.5", 4 * (16 + 8 + 1) + 4 + 2),
        ("randomk:0.1", 4 * (3 + 2 + 1)),
        ("lowrank:4", 4 * (4 + 4 + 1)),
    ],
)
def test_bytes_a_row(spec, row):
    guard = parse_guard(spec).build(rng(), "cut")
    per_batch = {"lowrank:4": 4 * 4 * (32 + 16), "randomk:0.1": 16}.get(spec, 12)
    measured = size(guard.layout(shapes_of(cut(rows=1024))))
    assert 1024 * row <= measured <= 1024 * row + per_batch


@given(x=matrices())
@settings(max_examples=50, deadline=None)
def test_integers_err_by_less_than_a_step_of_their_row(x):
    for bits in (8, 5, 2):
        guard = Integers(bits, rng())
        error = np.abs(there(guard, {"a": x})["a"] - x).max(1)
        # The row's scale is up to an eighth of an octave over its largest value.
        step = np.abs(x).max(1).astype(float) * 2**0.13 / guard.levels
        assert (error <= np.maximum(step, 1e-29 + np.abs(x).max() * 2.0**-31)).all()


@pytest.mark.parametrize(("form", "relative"), [(E4M3, 2.0**-3), (E5M2, 2.0**-2)])
def test_fp8_errs_by_less_than_its_mantissa_says(form, relative):
    x = (rng().normal(size=(50, 40)) * np.exp(rng(1).normal(size=(50, 40)))).astype(np.float32)
    error = np.abs(there(Fp8(form, rng()), {"a": x})["a"] - x)
    smallest = np.abs(x).max(1, keepdims=True) * 2**0.13 * 2.0 ** (1 - form.bias) / form.largest
    assert (error <= relative * np.maximum(np.abs(x), smallest) * 1.0001).all()
    assert error.max() > 0


@pytest.mark.parametrize("form", [E4M3, E5M2])
def test_fp8_keeps_every_number_of_its_format(form):
    guard = Fp8(form, rng())
    table = guard._table[np.isfinite(guard._table)]
    # With the format's largest number as a row's largest, the scale is just above one.
    a = np.abs(np.unique(table))
    codes = guard._round(a.astype(np.float32), True)
    np.testing.assert_array_equal(guard._table[codes], a)


@pytest.mark.parametrize("name", ROUNDERS)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-20])
def test_rounding_is_unbiased(name, scale):
    row = np.array([1, 0.7, -0.31, 0.013, -0.0021, 1e-5, 0], np.float32) * np.float32(scale)
    x = np.tile(row, (20_000, 1))
    back = there(ROUNDERS[name](rng()), {"a": x})["a"].astype(float)
    deviation = back.std(0) / math.sqrt(len(x))
    # One part in 2^16 of a step is what 16-bit thresholds allow.
    allowed = 4.5 * deviation + scale * 2.0**-15
    assert (np.abs(back.mean(0) - row) <= allowed).all()
    assert deviation.max() > 0


def test_random_k_is_unbiased_where_it_is_asked_to_be():
    row = np.array([1, -2, 3, 0.5, 4], np.float32)
    x = np.tile(row, (30_000, 1))
    back = there(RandomK(0.4, rng(), unbiased=True), {"a": x})["a"]
    np.testing.assert_allclose(back.mean(0), row, rtol=0.03)
    plain = there(RandomK(0.4, rng()), {"a": x})["a"]
    assert set(np.unique(plain)) <= {0.0, *row.tolist()}
    assert (np.count_nonzero(plain, axis=1) == 2).all()
    with pytest.raises(JobError, match="unbiased or has a memory"):
        RandomK(0.4, rng(), unbiased=True, feedback=True)


def test_top_k_sends_the_largest_values_of_each_row():
    x = rng().normal(size=(40, 20)).astype(np.float32)
    back = there(TopK(0.25, feedback=False), {"a": x})["a"]
    kept = back != 0
    assert (kept.sum(1) == 5).all()
    np.testing.assert_array_equal(back[kept], x[kept])
    smallest_kept = np.where(kept, np.abs(x), np.inf).min(1)
    assert (smallest_kept >= np.where(kept, 0, np.abs(x)).max(1)).all()


def test_with_a_memory_the_columns_means_come_through():
    # A column that is too small to be ever among the largest, but has a mean.
    guards = {memory: TopK(0.25, feedback=memory) for memory in (True, False)}
    meant = {memory: np.zeros(8) for memory in guards}
    sent = {memory: np.zeros(8) for memory in guards}
    for batch in range(200):
        x = rng(batch).normal(size=(32, 8)).astype(np.float32)
        x[:, 7] = 0.05
        for memory, guard in guards.items():
            meant[memory] += x.mean(0)
            sent[memory] += there(guard, {"a": x})["a"].mean(0)
    assert sent[False][7] == 0
    # What is missing is what the memory still holds.
    missing = meant[True] - sent[True]
    np.testing.assert_allclose(guards[True].state()["memory/a"], missing, atol=1e-3)
    assert np.abs(missing).max() < 2
    guards[True].reset()
    assert guards[True].state() == {}


def test_batches_that_teach_nothing_leave_the_memory_alone():
    for guard in (TopK(0.2, feedback=True), LowRank(2, rng())):
        guard.encode(cut(seed=1))
        before = guard.state()
        again = [guard.encode(cut(seed=2), learn=False) for _ in range(2)]
        for name, array in guard.state().items():
            np.testing.assert_array_equal(array, before[name])
        for name, array in again[0].items():
            np.testing.assert_array_equal(array, again[1][name])


@pytest.mark.parametrize("name", ROUNDERS)
def test_what_teaches_nothing_is_rounded_to_the_nearest(name):
    x = rng().normal(size=(50, 40)).astype(np.float32)
    guard = ROUNDERS[name](rng())
    state = guard.state()["rng"]
    nearest = np.abs(there(guard, {"a": x}, learn=False)["a"] - x)
    np.testing.assert_array_equal(guard.state()["rng"], state)
    at_random = np.abs(there(guard, {"a": x})["a"] - x)
    # No value is farther off than it can be at random, and their energy is half.
    assert (nearest <= at_random + 1e-5).all()
    assert np.square(nearest).sum() < 0.65 * np.square(at_random).sum()


def test_low_rank_finds_what_is_of_low_rank_and_warms_up_to_the_best_otherwise():
    left, right = rng(1).normal(size=(64, 3)), rng(2).normal(size=(3, 32))
    exact = (left @ right).astype(np.float32)
    np.testing.assert_allclose(there(LowRank(3, rng()), {"a": exact})["a"], exact, atol=1e-4)
    np.testing.assert_allclose(
        there(LowRank(3, rng()), {"a": exact * np.float32(1e-25)})["a"] * 1e25, exact, atol=1e-4
    )
    full = rng(3).normal(size=(64, 32)).astype(np.float32)
    values = np.linalg.svd(full, compute_uv=False)
    best = math.sqrt((values[4:] ** 2).sum())
    guard = LowRank(4, rng())
    errors = [float(np.linalg.norm(there(guard, {"a": full})["a"] - full)) for _ in range(30)]
    assert best <= errors[-1] < best * 1.01 < errors[0]


def test_half_precision_scales_or_saturates():
    small = np.array([[3e-9, -1e-9]], np.float32)
    np.testing.assert_allclose(there(Fp16(), {"a": small})["a"], small, rtol=1e-3)
    large = np.array([[1e6, -1e30, 5.0]], np.float32)
    assert Fp16().saturated == 0
    plain = Fp16(scaled=False)
    np.testing.assert_array_equal(there(plain, {"a": large})["a"], [[65504, -65504, 5]])
    assert plain.saturated == 2
    scaled = Fp16()
    back = there(scaled, {"a": large})["a"]
    assert scaled.saturated == 0
    np.testing.assert_allclose(back[0, 1], -1e30, rtol=1e-3)
    most = np.array([[np.finfo(np.float32).max, 1.0]], np.float32)
    guard = Bf16()
    assert there(guard, {"a": most})["a"][0, 0] == pytest.approx(3.39e38, rel=1e-3)
    assert guard.saturated == 1
    eight = Integers(8, rng())
    assert there(eight, {"a": most})["a"][0, 0] == pytest.approx(1e38, rel=1e-2)
    assert eight.saturated == 1


def test_bf16_rounds_to_the_nearest():
    x = rng().normal(size=(20, 30)).astype(np.float32)
    back = there(Bf16(), {"a": x})["a"]
    assert (np.abs(back - x) <= np.abs(x) * 2.0**-8).all()


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec not in LOSSLESS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_where_they_arise(spec, value):
    tensors = cut()
    tensors["sum"][3, 5] = value
    with pytest.raises(NotFinite, match="'sum'"):
        parse_guard(spec).build(rng(), "cut").encode(tensors)


@pytest.mark.parametrize("spec", SPECS)
def test_a_restored_guard_sends_what_the_undisturbed_one_sends(spec):
    guard = parse_guard(spec).build(rng(), "gradient")
    for seed in range(3):
        guard.encode(cut(seed=seed))
    state = guard.state()
    other = parse_guard(spec).build(rng(77), "gradient")
    other.load_state(state)
    for seed in range(3, 6):
        expected, found = guard.encode(cut(seed=seed)), other.encode(cut(seed=seed))
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_another_guards_state_is_refused():
    with pytest.raises(JobError, match="another guard"):
        PlainGuard().load_state({"rng": np.zeros(3, np.uint8)})
    for spec in ("int8", "topk:0.1+int8", "lowrank:4", "fp8", "randomk:0.2"):
        with pytest.raises(JobError, match="another guard"):
            parse_guard(spec).build(rng(), "cut").load_state({"rng": np.zeros(3, np.uint8)})
    with pytest.raises(JobError, match="another guard"):
        TopK(0.1, feedback=True).load_state({"memory/a": np.zeros((2, 2), np.float32)})
    changed = TopK(0.1, feedback=True)
    changed.load_state({"memory/deep": np.zeros(5, np.float32)})
    with pytest.raises(JobError, match="5 wide"):
        changed.encode(cut())


def test_a_chain_encodes_in_order_and_decodes_in_reverse():
    chain = Chain([TopK(0.25, feedback=False), Integers(8, rng())])
    message = chain.encode({"a": rng().normal(size=(6, 32)).astype(np.float32)})
    assert set(message) == {"a.columns", "a.values.peak", "a.values.rows", "a.values.codes"}
    assert message["a.values.codes"].nbytes == 6 * 8
    assert chain.lossy
    assert not Chain([PlainGuard()]).lossy
    clash = Chain([TopK(0.25, feedback=False), TopK(0.25, feedback=False)])
    with pytest.raises(JobError, match="names without dots"):
        clash.layout({"a": (64, 90), "a.values": (64, 90)})


def test_the_report_counts_and_measures():
    guard = parse_guard("int8").build(rng(), "cut")
    assert isinstance(guard, Envelope)
    for seed in range(3):
        guard.encode(cut(rows=1024, seed=seed))
    facts = guard.report.as_dict()
    assert facts["messages"] == 3
    assert facts["bytes_before"] == 3 * 1024 * 49 * 4
    assert facts["bytes_after"] == 3 * (1024 * 52 + 12)
    assert facts["ratio"] == pytest.approx(3.768, abs=0.001)
    assert 0.001 < facts["relative_error"] < 0.02


def test_the_receiver_counts_too_and_knows_no_error():
    sender, receiver = (parse_guard("int8+zeros").build(rng(), "cut") for _ in range(2))
    assert record_of("alice", "cut", "int8+zeros", receiver).ratio == 1.0
    for seed in range(3):
        tensors = cut(rows=256, seed=seed)
        receiver.decode(sender.encode(tensors), {name: x.shape for name, x in tensors.items()})
    sent, received = (record_of("alice", "cut", "int8+zeros", one) for one in (sender, receiver))
    assert sent.relative_error > 0
    assert sent.saturated == 0
    unknown = {"relative_error": None, "saturated": None}
    assert received == replace(sent, **unknown)
    assert (received.messages, received.bytes_before) == (3, 3 * 256 * 49 * 4)
    with pytest.raises(BadMessage):
        receiver.decode({NAME: np.zeros(3, np.uint8)}, {"a": (4, 4)})
    assert receiver.received.messages == 3  # what is refused does not count


@pytest.mark.parametrize("coder", ["zeros", "zlib"])
def test_a_coder_sends_little_for_zeros_and_noise_as_it_is(coder):
    guard = parse_guard(coder).build(rng(), "cut")
    zeros = np.zeros((64, 32), np.float32)
    assert sum(array.nbytes for array in guard.encode({"a": zeros}).values()) < 64 * 32 * 4 / 7
    noise = np.frombuffer(rng().bytes(64 * 32 * 4), np.float32).reshape(64, 32)
    message = Envelope(PlainGuard(), CODERS[coder], measure_every=0).encode({"a": noise})
    assert sum(array.nbytes for array in message.values()) <= 64 * 32 * 4


def test_zeros_of_a_relu_cost_a_bit_each():
    relu = {"a": cut(rows=1024)["deep"]}
    zero = np.count_nonzero(relu["a"] == 0)
    sent = parse_guard("int8+zeros").build(rng(), "cut").encode(relu)
    expected = 1 + math.ceil((1024 * 33 + 4) / 8) + 1024 * 33 + 4 - zero
    assert sum(array.nbytes for array in sent.values()) == pytest.approx(expected, rel=0.01)


@given(data=st.data(), bits=st.integers(1, 32), count=st.integers(0, 50))
@settings(max_examples=80, deadline=None)
def test_packed_numbers_come_back(data, bits, count):
    values = st.integers(0, 2**bits - 1)
    numbers = np.array(data.draw(st.lists(values, min_size=count, max_size=count)), np.uint64)
    packed = pack(numbers, bits)
    assert packed.nbytes == packed_bytes(count, bits) == math.ceil(count * bits / 8)
    np.testing.assert_array_equal(unpack(packed, count, bits), numbers)
    if count * bits % 8:
        packed[-1] |= 0x80
        if count * bits % 8 < 8:
            with pytest.raises(BadMessage, match="other bits"):
                unpack(packed, count, bits)


@given(data=st.data(), rows=st.integers(1, 9), width=st.integers(2, 600))
@settings(max_examples=60, deadline=None)
def test_packed_columns_come_back_and_are_never_longer_than_a_bitmap(data, rows, width):
    kept = data.draw(st.integers(1, width))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    columns = np.sort(np.stack([draw.permutation(width)[:kept] for _ in range(rows)]), 1)
    packed = pack_columns(columns, width)
    assert packed.nbytes == columns_bytes(rows, width, kept) <= math.ceil(rows * width / 8)
    np.testing.assert_array_equal(unpack_columns(packed, rows, width, kept), columns)
