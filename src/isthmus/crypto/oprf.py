"""An oblivious pseudo-random function in batches: one input, one key each, and neither is shown.

BaRK-OPRF of Kolesnikov, Kumaresan, Rosulek and Trieu, "Efficient Batched Oblivious PRF with
Applications to Private Set Intersection", CCS 2016. For each j the receiver has an input
r_j and gets F_j(r_j) of it; the sender can work out F_j(x) of every x it likes:

    F_j(x) = H(j, q_j + (C(x) AND s))    with q_j = t_j + (C(r_j) AND s), so F_j(r_j) = H(j, t_j)

where the rows are those of an OT extension (`isthmus.crypto.ot_extension`) of 512 columns, H is
`robust_hash`, and C is a pseudo-random code: AES of the input under four keys that the sender
draws after the inputs are fixed.

**Why 512 columns.** The receiver sees F_j(x) of other x as random as long as C(x) and C(r_j) differ
in at least 128 places, those bits of s being unknown to it. Two words of 512 random bits differ in
fewer with a probability below 2^-102 (`distance_failure`); with 448 bits it is 2^-66, with 424
2^-54. The paper takes 424 to 448 for 2^8 to 2^24 items, such that the sum over all comparisons
stays below 2^-40. 512 are four whole blocks of AES, and leave 2^-69 for the comparisons of 2^31
ids.

**Security model: semi-honest**, and this one is easy to step out of: a receiver that sends other
corrections than its code words say learns bits of s wherever it knows an x of the sender's, and
having s can try every x it likes, with nobody noticing.
"""

from __future__ import annotations

import secrets
from fractions import Fraction
from math import comb

import numpy as np

from isthmus.crypto.blocks import BLOCK_WORDS, KEY_BYTES, Bytes, Words, encrypt, robust_hash
from isthmus.crypto.ot import Choices
from isthmus.crypto.ot_extension import ExtensionReceiver, ExtensionSender

WIDTH = 512
"""Columns, and base OTs."""
CODE_KEYS = 4


def distance_failure(width: int, distance: int = 128) -> float:
    """The probability that two random words of `width` bits differ in fewer than `distance`."""
    return float(Fraction(sum(comb(width, k) for k in range(distance)), 2**width))


def new_code() -> Bytes:
    """Fresh keys of a code, uint8 `[4, 16]`; public, but drawn after the inputs are fixed."""
    raw = secrets.token_bytes(CODE_KEYS * KEY_BYTES)
    return np.frombuffer(raw, dtype=np.uint8).reshape(CODE_KEYS, KEY_BYTES)


def code_words(code: Bytes, inputs: Words) -> Words:
    """C of each input.

    Args:
        code: uint8 `[4, 16]`, the keys.
        inputs: uint64 `[n, 2]`, contiguous.

    Returns:
        uint64 `[n, 8]`.
    """
    words = np.empty((len(inputs), CODE_KEYS * BLOCK_WORDS), dtype=np.uint64)
    for i, key in enumerate(code):
        words[:, BLOCK_WORDS * i : BLOCK_WORDS * (i + 1)] = encrypt(key.tobytes(), inputs)
    return words


class OprfReceiver:
    """The side with an input for each instance.

    Args:
        keys: uint8 `[512, 2, 16]`, of base OTs in which this party was the sender.
        code: uint8 `[4, 16]`, the sender's keys of the code.
    """

    def __init__(self, keys: Bytes, code: Bytes) -> None:
        if len(keys) != WIDTH or code.shape != (CODE_KEYS, KEY_BYTES):
            raise ValueError(f"{len(keys)} base OTs and a code of shape {list(code.shape)}")
        self._extension = ExtensionReceiver(keys)
        self._code = code
        self._done = 0

    def evaluate(self, inputs: Words) -> tuple[Words, Words]:
        """The next instances.

        Args:
            inputs: uint64 `[n, 2]`.

        Returns:
            Corrections for the sender, uint64 `[n, 8]`, and F_j(r_j), uint64 `[n, 2]`.
        """
        own, corrections = self._extension.rows(code_words(self._code, inputs))
        numbers = np.arange(self._done, self._done + len(inputs), dtype=np.uint64)
        self._done += len(inputs)
        return corrections, robust_hash(own, numbers)


class OprfSender:
    """The side with the keys.

    Args:
        choices: bool `[512]`, of base OTs in which this party chose, from `random_bits`.
        keys: uint8 `[512, 16]`, what it got.
        code: uint8 `[4, 16]`, of `new_code`.
    """

    def __init__(self, choices: Choices, keys: Bytes, code: Bytes) -> None:
        if len(keys) != WIDTH or code.shape != (CODE_KEYS, KEY_BYTES):
            raise ValueError(f"{len(keys)} base OTs and a code of shape {list(code.shape)}")
        self._extension = ExtensionSender(choices, keys)
        self._code = code

    def rows(self, corrections: Words) -> Words:
        """The keys q of the next instances, uint64 `[n, 8]`, from as many corrections."""
        return self._extension.rows(corrections)

    def evaluate(self, numbers: Words, rows: Words, inputs: Words) -> Words:
        """F_j(x) for pairs of an instance and an input.

        Args:
            numbers: uint64 `[n]`, which instance j.
            rows: uint64 `[n, 8]`, q_j of each.
            inputs: uint64 `[n, 2]`, x.

        Returns:
            uint64 `[n, 2]`.
        """
        masked = code_words(self._code, inputs)
        masked &= self._extension.secret
        masked ^= rows
        return robust_hash(masked, numbers)
