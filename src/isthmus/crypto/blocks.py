"""AES on large buffers, streams of bits from keys, and a hash: what OT extension is made of.

AES comes from the `cryptography` package, a whole buffer at a time; everything else is NumPy on
64-bit words. A matrix of bits has its rows as words: bit b of word k is column 64 k + b.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

KEY_BYTES = 16
BLOCK_WORDS = 2
WORD_BITS = 64
# The digits of pi, as in Blowfish: nobody chose them for a purpose.
_FIXED_KEY = bytes.fromhex("243f6a8885a308d313198a2e03707344")
_APART: Words = np.arange(1, 65, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
_SWAPS = (
    (32, 0x00000000FFFFFFFF),
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def encrypt(key: bytes, blocks: Words) -> Words:
    """AES of each block of 16 bytes under one key.

    Args:
        key: 16 bytes.
        blocks: uint64, contiguous, an even number of words.

    Returns:
        uint64 of the same shape.
    """
    return _through(Cipher(algorithms.AES(key), modes.ECB()).encryptor(), blocks)


def transposed(columns: Words) -> Words:
    """A matrix of bits, given by columns, by rows.

    Blocks of 64 x 64 bits are turned by six rounds of swaps, all of them at once (Warren, "Hacker's
    Delight", section 7-3).

    Args:
        columns: uint64 `[c, w]`, c a multiple of 64: bit b of word k of column i.

    Returns:
        uint64 `[64 w, c / 64]`: that bit is bit i mod 64 of word i div 64 of row 64 k + b.
    """
    count, words = columns.shape
    turned = columns.reshape(count // WORD_BITS, WORD_BITS, words).copy()
    for distance, mask in _SWAPS:
        pairs = turned.reshape(count // WORD_BITS, -1, 2, distance, words)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        swap = low >> np.uint64(distance)
        swap ^= high
        swap &= np.uint64(mask)
        high ^= swap
        swap <<= np.uint64(distance)
        low ^= swap
    rows = np.ascontiguousarray(turned.transpose(2, 1, 0))
    return rows.reshape(words * WORD_BITS, count // WORD_BITS)


class Streams:
    """A pseudo-random matrix of bits, each column from a key of its own, by rows from the top.

    Column i is AES in counter mode under key i, from counter 0. Two parties get the same bits when
    they hold the same key and ask for the same numbers of rows.

    Args:
        keys: uint8 `[c, 16]`, each used for nothing else; c is a multiple of 64.
    """

    def __init__(self, keys: Bytes) -> None:
        if keys.ndim != 2 or keys.shape[1] != KEY_BYTES or len(keys) % WORD_BITS:
            raise ValueError(f"keys of shape {list(keys.shape)}")
        self._streams = [
            Cipher(algorithms.AES(key.tobytes()), modes.CTR(bytes(16))).encryptor() for key in keys
        ]

    def rows(self, count: int) -> Words:
        """The next `count` rows, uint64 `[count, c / 64]`.

        Where `count` is no multiple of 128, what is left of the last block is passed over.
        """
        words = 2 * -(-count // (2 * WORD_BITS))
        zeros = bytes(8 * words)
        columns = np.empty((len(self._streams), words), dtype=np.uint64)
        for stream, column in zip(self._streams, columns.view(np.uint8), strict=True):
            stream.update_into(zeros, column.data)
        return transposed(columns)[:count]


def robust_hash(rows: Words, tweaks: Words) -> Words:
    """A hash of each row to 128 bits, correlation robust: H(r + (c AND s)) hides s and itself.

    TMMO of Guo, Katz, Wang and Yu, "Efficient and Secure Multiparty Computation from Fixed-Key
    Block Ciphers", IEEE S&P 2020: pi(pi(x) + tweak) + pi(x), where pi is AES under a
    fixed, public key, taken for an ideal permutation. A row of more than one block is first folded
    to one as in libOTe's KKRT: x = sum of pi(b_i) + b_i, here with a constant added to each
    block, so that blocks cannot change places.

    Args:
        rows: uint64 `[n, w]`, w even.
        tweaks: uint64 `[n]`, which hash function of the family: the number of the OT.

    Returns:
        uint64 `[n, 2]`.
    """
    inner = encrypt(_FIXED_KEY, _folded(rows))
    outer = inner.copy()
    outer[:, 0] ^= tweaks
    hashed = encrypt(_FIXED_KEY, outer)
    hashed ^= inner
    return hashed


def pads(keys: Bytes, length: int) -> Bytes:
    """A pseudo-random pad of `length` bytes from each key, counter blocks of `robust_hash`.

    Args:
        keys: uint8 `[..., 16]`, uniform or hashed, each used for one pad.
        length: bytes.

    Returns:
        uint8 `[..., length]`.
    """
    words = np.ascontiguousarray(keys).reshape(-1, KEY_BYTES).view(np.uint64)
    blocks = [
        robust_hash(words, np.full(len(words), number, dtype=np.uint64))
        for number in range(-(-length // KEY_BYTES))
    ]
    joined = np.concatenate([words[:, :0], *blocks], axis=1).view(np.uint8)[:, :length]
    return np.ascontiguousarray(joined).reshape(*keys.shape[:-1], length)


def packed(bits: npt.NDArray[np.bool_]) -> Words:
    """Bits `[..., 64 w]` as words `[..., w]`."""
    return np.packbits(bits, axis=-1, bitorder="little").view(np.uint64)


def _folded(rows: Words) -> Words:
    if rows.shape[1] == BLOCK_WORDS:
        return np.ascontiguousarray(rows)
    apart = rows ^ _APART[: rows.shape[1]]
    mixed = encrypt(_FIXED_KEY, apart)
    mixed ^= apart
    folded = mixed[:, :BLOCK_WORDS].copy()
    for at in range(BLOCK_WORDS, rows.shape[1], BLOCK_WORDS):
        folded ^= mixed[:, at : at + BLOCK_WORDS]
    return folded


def _through(cipher: Any, blocks: Words) -> Words:
    # The library wants room for one block more.
    buffer = np.empty(blocks.size + BLOCK_WORDS, dtype=np.uint64)
    cipher.update_into(blocks.reshape(-1).view(np.uint8).data, buffer.view(np.uint8).data)
    return buffer[: blocks.size].reshape(blocks.shape)
