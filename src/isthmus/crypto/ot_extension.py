"""Millions of oblivious transfers from a few: OT extension, with AES in place of curve points.

After Ishai, Kilian, Nissim and Petrank, "Extending Oblivious Transfers Efficiently", CRYPTO 2003,
in the general form of Kolesnikov and Kumaresan (CRYPTO 2013). The parties change places: the
extension's *receiver* has both keys of each of c base OTs, its *sender* the keys that a secret s of
c bits chose. With G a stream of bits from a key, and for each OT j a code word C_j of c bits that
stands for the receiver's choice::

    receiver             t_j = row j of the streams of its keys 0
    receiver -> sender   u_j = t_j + (row j of the streams of its keys 1) + C_j
    sender               q_j = (row j of the streams of its keys) + (u_j AND s)  = t_j + (C_j AND s)

(+ is the exclusive or.) So the sender's q_j + (C AND s) is the receiver's t_j where C = C_j, and
elsewhere differs from it in bits of s that the receiver does not know. A hash of both ends the
matter. For 1-of-2 OT the code word is the choice bit, c = 128 times (`OtSender`, `OtReceiver`);
for the pseudo-random function of `isthmus.crypto.oprf` it is longer, and any number of choices
has one.

**Security model: semi-honest.** u_j is hidden by a stream the sender has only half of: it learns
nothing. A receiver that sends something else than code words can learn bits of s, and with them the
messages that it did not choose.
"""

from __future__ import annotations

import secrets

import numpy as np

from isthmus.crypto.blocks import KEY_BYTES, WORD_BITS, Bytes, Streams, Words, packed, robust_hash
from isthmus.crypto.ot import Choices

WIDTH = 128
"""Base OTs of a 1-of-2 extension: the computational security parameter."""


def random_bits(count: int) -> Choices:
    """`count` bits from the system's generator, bool `[count]`."""
    raw = np.frombuffer(secrets.token_bytes(-(-count // 8)), dtype=np.uint8)
    return np.unpackbits(raw)[:count].astype(bool)


class ExtensionReceiver:
    """The side with the code words; rows must be asked for in the sender's pieces and order.

    Args:
        keys: uint8 `[c, 2, 16]`, both keys of each base OT, for this use only.
    """

    def __init__(self, keys: Bytes) -> None:
        self._zero = Streams(keys[:, 0])
        self._one = Streams(keys[:, 1])

    def rows(self, code: Words) -> tuple[Words, Words]:
        """The own rows t of the next OTs, and the rows u for the sender.

        Args:
            code: uint64 `[n, c / 64]`, the code word of each.

        Returns:
            Two arrays like `code`.
        """
        own = self._zero.rows(len(code))
        corrections = self._one.rows(len(code))
        corrections ^= own
        corrections ^= code
        return own, corrections


class ExtensionSender:
    """The side with the secret s.

    Args:
        choices: bool `[c]`, the bits of s, from `random_bits`.
        keys: uint8 `[c, 16]`, the chosen key of each base OT, for this use only.

    Attributes:
        secret: uint64 `[c / 64]`, s.
    """

    def __init__(self, choices: Choices, keys: Bytes) -> None:
        if choices.shape != keys.shape[:1]:
            raise ValueError(f"{len(choices)} choices with {len(keys)} keys")
        self.secret: Words = packed(choices)
        self._streams = Streams(keys)

    def rows(self, corrections: Words) -> Words:
        """The rows q of the next OTs.

        Args:
            corrections: uint64 `[n, c / 64]`, the receiver's rows u.

        Returns:
            uint64 `[n, c / 64]`.
        """
        if corrections.dtype != np.uint64 or corrections.shape[1:] != self.secret.shape:
            raise ValueError(f"corrections as {corrections.dtype} {list(corrections.shape)}")
        rows = self._streams.rows(len(corrections))
        rows ^= corrections & self.secret
        return rows


class OtReceiver:
    """The choosing side of 1-of-2 OTs; see `isthmus.crypto.ot.unseal` for messages.

    Args:
        keys: uint8 `[128, 2, 16]`, of base OTs in which this party was the sender.
    """

    def __init__(self, keys: Bytes) -> None:
        _check_width(keys)
        self._extension = ExtensionReceiver(keys)
        self._done = 0

    def choose(self, choices: Choices) -> tuple[Words, Bytes]:
        """The next OTs: corrections for the sender, uint64 `[n, 2]`, and keys, uint8 `[n, 16]`."""
        everywhere = np.where(choices, np.uint64(2**64 - 1), np.uint64(0))
        own, corrections = self._extension.rows(np.repeat(everywhere[:, None], 2, axis=1))
        keys = robust_hash(own, _numbers(self._done, len(choices)))
        self._done += len(choices)
        return corrections, _as_keys(keys)


class OtSender:
    """The side with two messages; see `isthmus.crypto.ot.seal`.

    Args:
        choices: bool `[128]`, of base OTs in which this party chose, from `random_bits`.
        keys: uint8 `[128, 16]`, what it got.
    """

    def __init__(self, choices: Choices, keys: Bytes) -> None:
        _check_width(keys)
        self._extension = ExtensionSender(choices, keys)
        self._done = 0

    def keys(self, corrections: Words) -> Bytes:
        """Both keys of each of the next OTs, uint8 `[n, 2, 16]`."""
        rows = self._extension.rows(corrections)
        numbers = _numbers(self._done, len(rows))
        self._done += len(rows)
        pair = [robust_hash(rows, numbers), robust_hash(rows ^ self._extension.secret, numbers)]
        return np.stack([_as_keys(keys) for keys in pair], axis=1)


def _numbers(first: int, count: int) -> Words:
    return np.arange(first, first + count, dtype=np.uint64)


def _as_keys(hashes: Words) -> Bytes:
    return hashes.view(np.uint8).reshape(-1, KEY_BYTES)


def _check_width(keys: Bytes) -> None:
    if len(keys) != WIDTH or WIDTH % WORD_BITS:
        raise ValueError(f"{len(keys)} base OTs, not {WIDTH}")
