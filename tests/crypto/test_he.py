"""Packed homomorphic encryption: exact, hidden, and closed to what is no ciphertext."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto import he
from isthmus.errors import BadMessage

pytest.importorskip("tenseal")


@pytest.fixture(scope="module")
def key():
    return he.HeKey()


@pytest.fixture(scope="module")
def public(key):
    return he.HePublic(key.public())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_arithmetic_is_that_of_whole_numbers(key, public, seed):
    rng = np.random.default_rng(seed)
    a, c = rng.integers(-(2**24), 2**24, (2, he.SLOTS))
    b = rng.integers(-(2**23), 2**23, he.SLOTS)
    cipher = public.read(key.encrypt(a).tensor())
    found = key.decrypt(key.read((cipher.times(b) + public.encrypt(c)).plus(c).tensor()))
    np.testing.assert_array_equal(found, a * b + 2 * c)


def test_sums_wrap_modulo_the_prime(key, public):
    mask = he.masks(he.SLOTS)
    found = key.decrypt(key.encrypt(np.array([5, -7])).plus(mask))
    np.testing.assert_array_equal(he.centred(found - mask)[:3], [5, -7, 0])
    edge = key.encrypt(np.array([he.HALF])).plus(np.eye(1, he.SLOTS, dtype=np.int64)[0])
    assert key.decrypt(edge)[0] == -he.HALF


def test_masks_are_uniform_and_never_the_same():
    one, other = he.masks(40_000), he.masks(40_000)
    assert np.abs(one).max() <= he.HALF
    assert not (one == other).any()
    # Each fortieth of the range has a fortieth of them, to five deviations.
    counts = np.histogram(one, 40, (-he.HALF, he.HALF))[0]
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_the_same_numbers_look_different_each_time(key):
    one, other = (key.encrypt(np.arange(4)).tensor() for _ in range(2))
    assert one.size != other.size or (one != other).mean() > 0.9


def test_a_public_key_cannot_decrypt(key, public):
    with pytest.raises(ValueError, match="secret_key"):
        public.encrypt(np.arange(3)).vector.decrypt()


def test_several_ciphertexts_in_one_message(key, public):
    tensors = he.pack([key.encrypt(np.array([i])) for i in range(3)])
    found = he.unpack(public, tensors, 3)
    assert [int(key.decrypt(one)[0]) for one in found] == [0, 1, 2]
    for count in (2, 4):
        with pytest.raises(BadMessage, match=f"{count} ciphertexts were expected"):
            he.unpack(public, tensors, count)
    with pytest.raises(BadMessage, match="bytes and sizes"):
        he.unpack(public, {"bytes": tensors["bytes"]}, 3)
    with pytest.raises(BadMessage, match="were expected"):
        he.unpack(public, {**tensors, "sizes": tensors["sizes"] - 1}, 3)


@pytest.mark.parametrize("spoil", ["empty", "noise", "short", "huge"])
def test_what_is_no_ciphertext_or_key_is_refused(key, public, spoil):
    def spoilt(data):
        return {
            "empty": data[:0],
            "noise": np.random.default_rng(0).integers(0, 256, 400, np.uint8),
            "short": data[: data.size // 2],
            "huge": np.zeros(1 << 21, np.uint8),
        }[spoil]

    with pytest.raises(BadMessage):
        public.read(spoilt(key.encrypt(np.arange(3)).tensor()))
    with pytest.raises(BadMessage):
        he.HePublic(spoilt(key.public()))


def test_a_key_of_other_parameters_is_refused():
    import tenseal

    weak = tenseal.context(tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=4096, plain_modulus=1032193)
    secret = weak.serialize(save_secret_key=True)
    weak.make_context_public()
    for data in (weak.serialize(), secret):
        with pytest.raises(BadMessage, match="other parameters"):
            he.HePublic(np.frombuffer(data, np.uint8))


def test_numbers_that_do_not_fit_are_no_silent_error(key):
    for wrong in (np.array([he.HALF + 1]), np.zeros(he.SLOTS + 1, np.int64)):
        with pytest.raises(ValueError, match="slots"):
            key.encrypt(wrong)
