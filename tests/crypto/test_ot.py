"""Base oblivious transfer: the chooser gets what it chose, and neither side sees more."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
)

from isthmus.crypto import ot

IDENTITY = (1).to_bytes(32, "little")
ORDER_TWO = (2**255 - 20).to_bytes(32, "little")
ORDER_FOUR = bytes(32)
ORDER_EIGHT = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
OFF_THE_CURVE = (2).to_bytes(32, "little")
NOT_CANONICAL = (2**255 - 19 + 3).to_bytes(32, "little")
GOOD = crypto_core_ed25519_from_uniform(bytes(range(32)))
OTHER_COSET = crypto_core_ed25519_add(GOOD, ORDER_TWO)

BAD_POINTS = {
    "identity": IDENTITY,
    "order 2": ORDER_TWO,
    "order 4": ORDER_FOUR,
    "order 8": ORDER_EIGHT,
    "off the curve": OFF_THE_CURVE,
    "not canonical": NOT_CANONICAL,
    "outside the subgroup": OTHER_COSET,
    "all ones": b"\xff" * 32,
}


def transfer(choices):
    sender = ot.BaseSender()
    answers, chosen = ot.choose(sender.public, choices)
    return sender.keys(answers), chosen


@settings(deadline=None, max_examples=10)
@given(
    choices=st.lists(st.booleans(), min_size=1, max_size=6),
    length=st.integers(0, 40),
    data=st.data(),
)
def test_of_two_byte_strings_the_chosen_one_arrives(choices, length, data):
    pair = st.tuples(*[st.binary(min_size=length, max_size=length)] * 2)
    messages = data.draw(st.lists(pair, min_size=len(choices), max_size=len(choices)))
    raw = b"".join(zero + one for zero, one in messages)
    array = np.frombuffer(raw, np.uint8).reshape(len(choices), 2, length)
    bits = np.array(choices)
    keys, chosen = transfer(bits)
    got = ot.unseal(chosen, bits, ot.seal(keys, array))
    assert [row.tobytes() for row in got] == [
        pair[choice] for pair, choice in zip(messages, choices, strict=True)
    ]


def test_the_other_key_is_not_the_chosen_one_and_none_comes_twice():
    choices = np.arange(40) % 3 == 0
    keys, chosen = transfer(choices)
    places = np.arange(40)
    np.testing.assert_array_equal(keys[places, choices.astype(int)], chosen)
    assert len({key.tobytes() for key in keys.reshape(-1, 16)}) == 80


def test_what_was_not_chosen_stays_sealed():
    choices = np.zeros(64, dtype=bool)
    keys, chosen = transfer(choices)
    messages = np.zeros((64, 2, 16), np.uint8)
    sealed = ot.seal(keys, messages)
    assert not ot.unseal(chosen, choices, sealed).any()
    # Read with the chosen keys, the others look like nothing: about half of the bits are set.
    wrong = ot.unseal(chosen, ~choices, sealed)
    assert abs(int(np.bitwise_count(wrong).sum()) - 4096) < 6 * 45


def test_the_answers_do_not_depend_on_the_choice():
    # Both points are valid, and the bits of either look the same whatever was chosen.
    public, count = ot.BaseSender().public, 300
    shares = {}
    for choice in (False, True):
        answers, _ = ot.choose(public, np.full(count, choice))
        assert all(crypto_core_ed25519_is_valid_point(p.tobytes()) for p in answers.reshape(-1, 32))
        shares[choice] = np.unpackbits(answers, axis=2).mean(axis=0)
    deviation = 0.5 / np.sqrt(count)
    for share in shares.values():
        # Bit 255 is the sign; the top bits of y are uniform too since p is next to 2^255.
        assert np.abs(share - 0.5).max() < 6 * deviation


def test_each_answer_is_built_as_the_paper_says():
    # r_c = b B - H_c(r_(1-c)): the sum r_c + H_c(r_(1-c)) is the same point whatever c is, and only
    # for the chosen side does the chooser know its discrete logarithm.
    public = ot.BaseSender().public
    for choice in (False, True):
        answers, _ = ot.choose(public, np.array([choice]))
        mine, other = answers[0, int(choice)].tobytes(), answers[0, 1 - int(choice)].tobytes()
        hashed = ot._onto_group(0, int(choice), other)
        total = crypto_core_ed25519_add(mine, hashed)
        assert crypto_core_ed25519_sub(total, hashed) == mine
        assert crypto_core_ed25519_is_valid_point(total)
    # The two sides and all numbers have hash functions of their own.
    points = {ot._onto_group(n, side, GOOD) for n in (0, 1) for side in (0, 1)}
    assert len(points) == 4


def test_a_transfer_worked_by_hand(monkeypatch):
    # Known secrets, so that the shared point can be computed in another way.
    scalars = iter([bytes([n]) + bytes(31) for n in (5, 7, 11)])
    monkeypatch.setattr(ot, "_scalar", lambda: next(scalars))
    sender = ot.BaseSender()
    answers, chosen = ot.choose(sender.public, np.array([True]))
    shared = crypto_scalarmult_ed25519_base_noclamp(bytes([35]) + bytes(31))
    pair = (answers[0, 0].tobytes(), answers[0, 1].tobytes())
    assert pair[0] == crypto_scalarmult_ed25519_base_noclamp(bytes([11]) + bytes(31))
    content = b"isthmus.ot.v1.key" + bytes([1, 0, 0, 0, 0]) + sender.public.tobytes()
    expected = hashlib.sha256(content + pair[0] + pair[1] + shared).digest()[:16]
    assert chosen[0].tobytes() == expected == sender.keys(answers)[0, 1].tobytes()


@pytest.mark.parametrize("point", BAD_POINTS.values(), ids=BAD_POINTS.keys())
def test_a_point_that_is_not_in_the_group_is_refused(point):
    with pytest.raises(ot.BadPoint):
        ot.choose(np.frombuffer(point, np.uint8), np.array([True]))
    sender = ot.BaseSender()
    answers, _ = ot.choose(sender.public, np.array([True, False]))
    for at in [(0, 0), (1, 1)]:
        bad = answers.copy()
        bad[at] = np.frombuffer(point, np.uint8)
        with pytest.raises(ot.BadPoint):
            sender.keys(bad)


def test_an_answer_that_cancels_to_nothing_is_refused():
    sender = ot.BaseSender()
    minus = crypto_core_ed25519_sub(GOOD, crypto_core_ed25519_add(GOOD, ot._onto_group(0, 0, GOOD)))
    pair = np.frombuffer(minus + GOOD, np.uint8).reshape(1, 2, 32)
    with pytest.raises(ot.BadPoint):
        sender.keys(pair)


@pytest.mark.parametrize(
    "answers", [np.zeros((3, 32), np.uint8), np.zeros((3, 2, 31), np.uint8), np.zeros((3, 2, 32))]
)
def test_answers_of_another_shape_are_refused(answers):
    with pytest.raises(ValueError, match="answers as"):
        ot.BaseSender().keys(answers)


@pytest.mark.parametrize("shape", [(2, 2, 4), (3, 1, 4), (3, 8)])
def test_sealed_messages_of_another_shape_are_refused(shape):
    choices = np.zeros(3, bool)
    _, chosen = transfer(choices)
    with pytest.raises(ValueError, match="sealed messages as"):
        ot.unseal(chosen, choices, np.zeros(shape, np.uint8))
