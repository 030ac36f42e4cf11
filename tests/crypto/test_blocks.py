"""AES on buffers, turned matrices of bits, streams and the hash, against plain computations."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto.blocks import Streams, encrypt, packed, pads, robust_hash, transposed

seeds = st.integers(0, 2**32)


def random_words(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


def random_bytes(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def bits_of(words):
    return np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").astype(bool)


@settings(deadline=None, max_examples=20)
@given(groups=st.integers(1, 3), words=st.integers(1, 5), seed=seeds)
def test_a_turned_matrix_has_the_same_bits_elsewhere(groups, words, seed):
    columns = random_words(seed, 64 * groups, words)
    np.testing.assert_array_equal(bits_of(transposed(columns)), bits_of(columns).T)
    np.testing.assert_array_equal(
        transposed(columns), packed(np.ascontiguousarray(bits_of(columns).T))
    )


@settings(deadline=None, max_examples=20)
@given(count=st.integers(0, 40), seed=seeds)
def test_aes_is_that_of_the_library_block_by_block(count, seed):
    key, blocks = random_bytes(seed, 16).tobytes(), random_words(seed, count, 2)
    expected = [
        Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block.tobytes())
        for block in blocks
    ]
    assert encrypt(key, blocks).tobytes() == b"".join(expected)


def test_each_column_is_the_stream_of_its_key():
    keys = random_bytes(1, 128, 16)
    rows = np.concatenate([Streams(keys).rows(256), np.zeros((0, 2), np.uint64)])
    for number in (0, 63, 64, 127):
        cipher = Cipher(algorithms.AES(keys[number].tobytes()), modes.CTR(bytes(16)))
        stream = np.frombuffer(cipher.encryptor().update(bytes(32)), dtype=np.uint8)
        expected = np.unpackbits(stream, bitorder="little").astype(bool)
        np.testing.assert_array_equal(bits_of(rows)[:, number], expected)


def test_streams_go_on_and_never_repeat():
    keys = random_bytes(2, 64, 16)
    one, two = Streams(keys), Streams(keys)
    pieces = [one.rows(count) for count in (5, 128, 200)]
    assert [len(piece) for piece in pieces] == [5, 128, 200]
    again = [two.rows(count) for count in (128, 128, 256)]
    for piece, other in zip(pieces, again, strict=True):
        np.testing.assert_array_equal(piece, other[: len(piece)])
    assert len(np.unique(np.concatenate(again))) == 512


@pytest.mark.parametrize("shape", [(64, 15), (63, 16), (64,)])
def test_keys_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="keys of shape"):
        Streams(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("width", [2, 8])
def test_the_hash_depends_on_every_bit_of_row_and_tweak(width):
    row, tweak = random_words(3, 1, width), np.array([5], np.uint64)
    seen = {robust_hash(row, tweak).tobytes(), robust_hash(row, tweak + np.uint64(1)).tobytes()}
    for bit in range(64 * width):
        other = row.copy()
        other[0, bit // 64] ^= np.uint64(1 << (bit % 64))
        hashed = robust_hash(other, tweak)
        changed = int(np.bitwise_count(hashed ^ robust_hash(row, tweak)).sum())
        assert 30 < changed < 98  # half of 128, within six standard deviations
        seen.add(hashed.tobytes())
    assert len(seen) == 2 + 64 * width


def test_blocks_of_a_row_cannot_change_places():
    row = random_words(4, 1, 8)
    turned = np.ascontiguousarray(np.roll(row, 2, axis=1))
    tweak = np.zeros(1, np.uint64)
    assert (robust_hash(row, tweak) != robust_hash(turned, tweak)).any()


def test_the_hash_is_the_formula_of_the_paper():
    # TMMO: pi(pi(x) + i) + pi(x)
    rows, tweaks = random_words(5, 9, 2), np.arange(9, dtype=np.uint64)
    key = bytes.fromhex("243f6a8885a308d313198a2e03707344")
    inner = encrypt(key, rows)
    outer = inner ^ np.stack([tweaks, np.zeros(9, np.uint64)], axis=1)
    np.testing.assert_array_equal(robust_hash(rows, tweaks), encrypt(key, outer) ^ inner)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100])
def test_pads_have_the_asked_length_and_begin_alike(length):
    keys = random_bytes(6, 3, 2, 16)
    assert pads(keys, length).shape == (3, 2, length)
    np.testing.assert_array_equal(pads(keys, length), pads(keys, 128)[..., :length])
    if length > 15:
        assert len({pad.tobytes() for pad in pads(keys, length).reshape(6, -1)}) == 6
