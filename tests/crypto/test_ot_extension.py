"""OT extension and the pseudo-random function on it, against their formulas, and what crosses."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto import oprf, ot
from isthmus.crypto.ot_extension import (
    WIDTH,
    ExtensionReceiver,
    ExtensionSender,
    OtReceiver,
    OtSender,
    random_bits,
)


def base(width, seed=0):
    """What base OTs give: both keys at one side; choices and chosen keys at the other."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 256, (width, 2, 16), dtype=np.uint8)
    choices = rng.integers(0, 2, width).astype(bool)
    return keys, choices, keys[np.arange(width), choices.astype(int)]


def words(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


def share_of_ones(array):
    return np.unpackbits(np.ascontiguousarray(array).view(np.uint8)).mean()


@settings(deadline=None, max_examples=15)
@given(
    pieces=st.lists(st.lists(st.booleans(), min_size=1, max_size=150), min_size=1, max_size=3),
    length=st.integers(0, 33),
    seed=st.integers(0, 2**32),
)
def test_of_two_byte_strings_the_chosen_one_arrives(pieces, length, seed):
    keys, secret, chosen = base(WIDTH, seed)
    receiver, sender = OtReceiver(keys), OtSender(secret, chosen)
    rng = np.random.default_rng(seed)
    for piece in pieces:
        choices = np.array(piece)
        messages = rng.integers(0, 256, (len(piece), 2, length), dtype=np.uint8)
        corrections, mine = receiver.choose(choices)
        both = sender.keys(corrections)
        got = ot.unseal(mine, choices, ot.seal(both, messages))
        np.testing.assert_array_equal(got, messages[np.arange(len(piece)), choices.astype(int)])
        other = both[np.arange(len(piece)), 1 - choices.astype(int)]
        assert (other != mine).any(axis=1).all()


def test_from_the_group_to_the_last_byte():
    # Base OTs in one direction, extended OTs in the other.
    group, secret = ot.BaseSender(), random_bits(WIDTH)
    answers, chosen = ot.choose(group.public, secret)
    receiver, sender = OtReceiver(group.keys(answers)), OtSender(secret, chosen)
    choices = random_bits(1000)
    corrections, mine = receiver.choose(choices)
    messages = np.arange(64_000, dtype=np.uint32).astype(np.uint8).reshape(1000, 2, 32)
    got = ot.unseal(mine, choices, ot.seal(sender.keys(corrections), messages))
    np.testing.assert_array_equal(got, messages[np.arange(1000), choices.astype(int)])


@pytest.mark.parametrize("width", [128, 512])
def test_the_rows_obey_the_equation(width):
    keys, choices, chosen = base(width)
    receiver, sender = ExtensionReceiver(keys), ExtensionSender(choices, chosen)
    for count in (70, 3):
        code = words(count, count, width // 64)
        own, corrections = receiver.rows(code)
        np.testing.assert_array_equal(sender.rows(corrections), own ^ (code & sender.secret))


@pytest.mark.parametrize("choice", [False, True])
def test_the_senders_view_is_as_good_as_random_whatever_is_chosen(choice):
    # All choices alike is where a leak would show at once: bits of every column, and of every row.
    receiver = OtReceiver(base(WIDTH)[0])
    corrections, _ = receiver.choose(np.full(4096, choice))
    bits = np.unpackbits(corrections.view(np.uint8), axis=1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(4096)
    assert np.abs(bits.mean(axis=1) - 0.5).max() < 6 * 0.5 / np.sqrt(128)
    assert len(np.unique(corrections, axis=0)) == 4096


def test_the_receivers_other_key_is_as_good_as_random():
    keys, secret, chosen = base(WIDTH)
    receiver, sender = OtReceiver(keys), OtSender(secret, chosen)
    choices = random_bits(4096)
    corrections, mine = receiver.choose(choices)
    other = sender.keys(corrections)[np.arange(4096), 1 - choices.astype(int)]
    for array in (other, other ^ mine, other[1:] ^ other[:-1]):
        assert abs(share_of_ones(array) - 0.5) < 6 * 0.5 / np.sqrt(array.size * 8)


def test_random_bits_are_bits_of_the_asked_number():
    assert random_bits(13).shape == (13,)
    assert random_bits(13).dtype == bool
    assert 400 < random_bits(1000).sum() < 600
    assert (random_bits(256) != random_bits(256)).any()


@pytest.mark.parametrize("shape", [(3, 4), (3,), (3, 1)])
def test_corrections_of_another_shape_are_refused(shape):
    _, choices, chosen = base(WIDTH)
    with pytest.raises(ValueError, match="corrections as"):
        OtSender(choices, chosen).keys(np.zeros(shape, np.uint64))


def test_another_number_of_base_transfers_is_refused():
    keys, choices, chosen = base(64)
    with pytest.raises(ValueError, match="64 base OTs"):
        OtReceiver(keys)
    with pytest.raises(ValueError, match="64 base OTs"):
        OtSender(choices, chosen)
    with pytest.raises(ValueError, match="64 base OTs"):
        oprf.OprfReceiver(keys, oprf.new_code())
    with pytest.raises(ValueError, match="64 base OTs"):
        oprf.OprfSender(choices, chosen, oprf.new_code())
    with pytest.raises(ValueError, match="63 choices with 64 keys"):
        ExtensionSender(choices[:63], chosen)


# The pseudo-random function.


def instances(count, seed=0):
    """Receiver and sender after `count` instances, and what they hold."""
    keys, choices, chosen = base(oprf.WIDTH, seed)
    code = oprf.new_code()
    receiver, sender = oprf.OprfReceiver(keys, code), oprf.OprfSender(choices, chosen, code)
    inputs = words(seed + 1, count, 2)
    corrections, values = receiver.evaluate(inputs)
    return sender, inputs, corrections, values


@settings(deadline=None, max_examples=15)
@given(count=st.integers(1, 200), seed=st.integers(0, 2**32))
def test_both_sides_have_the_same_function_of_the_receivers_input_alone(count, seed):
    sender, inputs, corrections, values = instances(count, seed)
    rows, numbers = sender.rows(corrections), np.arange(count, dtype=np.uint64)
    np.testing.assert_array_equal(sender.evaluate(numbers, rows, inputs), values)
    elsewhere = sender.evaluate(numbers, rows, inputs ^ np.uint64(1))
    assert (elsewhere != values).any(axis=1).all()


def test_the_numbers_of_instances_go_on_over_pieces():
    keys, choices, chosen = base(oprf.WIDTH)
    code = oprf.new_code()
    receiver, sender = oprf.OprfReceiver(keys, code), oprf.OprfSender(choices, chosen, code)
    done = 0
    for count in (100, 1, 300):
        inputs = words(count, count, 2)
        corrections, values = receiver.evaluate(inputs)
        numbers = np.arange(done, done + count, dtype=np.uint64)
        np.testing.assert_array_equal(
            sender.evaluate(numbers, sender.rows(corrections), inputs), values
        )
        done += count


def test_values_of_other_inputs_look_random_to_the_receiver():
    # The same rows and many inputs: related code words under one secret.
    sender, _, corrections, values = instances(2)
    rows = np.repeat(sender.rows(corrections)[:1], 4096, axis=0)
    others = np.stack([np.arange(4096, dtype=np.uint64), np.zeros(4096, np.uint64)], axis=1)
    found = sender.evaluate(np.zeros(4096, np.uint64), rows, others)
    for array in (found, found ^ values[0], found[1:] ^ found[:-1]):
        assert abs(share_of_ones(array) - 0.5) < 6 * 0.5 / np.sqrt(array.size * 64)
    assert len(np.unique(found, axis=0)) == 4096


def test_the_corrections_do_not_depend_on_the_inputs():
    # The same input in every instance: what crosses is as random as for any other.
    keys = base(oprf.WIDTH)[0]
    receiver = oprf.OprfReceiver(keys, oprf.new_code())
    corrections, _ = receiver.evaluate(np.zeros((2048, 2), np.uint64))
    bits = np.unpackbits(corrections.view(np.uint8), axis=1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(2048)
    assert len(np.unique(corrections)) == corrections.size


def test_code_words_are_far_apart():
    code = oprf.new_code()
    inputs = np.stack([np.arange(500, dtype=np.uint64), np.zeros(500, np.uint64)], axis=1)
    found = oprf.code_words(code, inputs)
    assert found.shape == (500, 8)
    distance = np.bitwise_count(found[:, None] ^ found[None]).sum(axis=2)
    assert distance[~np.eye(500, dtype=bool)].min() >= 128
    assert (oprf.code_words(oprf.new_code(), inputs) != found).all()


def test_the_width_is_enough_by_the_papers_measure():
    # Comparisons of one run: each of the sender's ids in three bins.
    for ids, paper in ((2**8, 424), (2**12, 432), (2**16, 440), (2**20, 448), (2**24, 448)):
        assert oprf.distance_failure(paper) * 3 * ids < 2**-39
        assert oprf.distance_failure(oprf.WIDTH) * 3 * ids < 2**-75
    assert log2(oprf.distance_failure(512)) < -102
    assert oprf.distance_failure(oprf.WIDTH) * 3 * 2**31 < 2**-69
    assert oprf.distance_failure(4, 2) == 5 / 16
