"""Oblivious transfer of keys on Ed25519: one side gets two, the other the one that it chose.

The endemic OT of Masny and Rindal, "Endemic Oblivious Transfer", CCS 2019, from Diffie-Hellman key
agreement, many at once. With B the base point, H_0 and H_1 hash functions onto the group, the
sender's secret a and, for each OT, the chooser's bit c::

    sender  -> chooser   A = a B
    chooser -> sender    r_0, r_1 with r_(1-c) = d B random and r_c = b B - H_c(r_(1-c))
    sender               key_i = KDF(a (r_i + H_i(r_(1-i)))), i = 0 and 1
    chooser              key_c = KDF(b A)

**Security.** r_0 and r_1 are uniform points whatever c is, so the sender learns nothing of the
choices, not even with unlimited means. The chooser knows the discrete logarithm of one of the two
sums only, and the other key is as good as random under computational Diffie-Hellman with the hashes
as random oracles. The paper proves it against parties that do what they like; they may steer their
*own* keys, which is why these are only for use as pads or seeds. What is built on it in this
package is for parties that keep to the protocol. The chooser's program takes branches on its
choices: who can time it within its machine learns them.

The group is libsodium's prime-order subgroup through `pynacl`; a point from a partner must be in it
and in canonical form. H is the sum of two Elligator maps of a SHA-512 (as in RFC 9380, section 3),
since the image of one map alone can be told from the whole group.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import numpy.typing as npt
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from isthmus.crypto.blocks import KEY_BYTES, Bytes, pads

Choices = npt.NDArray[np.bool_]

POINT_BYTES = 32
_VERSION = b"isthmus.ot.v1."


class BadPoint(ValueError):
    """What should be a point of the group is none: nobody honest sends it."""


class BaseSender:
    """The side that gets both keys of each OT. For one partner and one use.

    Attributes:
        public: uint8 `[32]`, the point A, for the chooser.
    """

    def __init__(self) -> None:
        self._secret = _scalar()
        self._raw = crypto_scalarmult_ed25519_base_noclamp(self._secret)
        self.public: Bytes = np.frombuffer(self._raw, dtype=np.uint8)

    def keys(self, answers: Bytes) -> Bytes:
        """Both keys of each OT.

        Args:
            answers: uint8 `[n, 2, 32]`, the chooser's r_0 and r_1.

        Returns:
            uint8 `[n, 2, 16]`.

        Raises:
            BadPoint: one of them is not in the group.
        """
        if answers.dtype != np.uint8 or answers.shape[1:] != (2, POINT_BYTES):
            raise ValueError(f"answers as {answers.dtype} {list(answers.shape)}")
        pairs = [(zero.tobytes(), one.tobytes()) for zero, one in answers]
        for zero, one in pairs:
            _check(zero)
            _check(one)
        keys = [
            self._key(number, side, pair) for number, pair in enumerate(pairs) for side in (0, 1)
        ]
        return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 2, KEY_BYTES)

    def _key(self, number: int, side: int, pair: tuple[bytes, bytes]) -> bytes:
        masked = crypto_core_ed25519_add(pair[side], _onto_group(number, side, pair[1 - side]))
        return _key(number, side, self._raw, pair, _times(self._secret, masked))


def choose(public: Bytes, choices: Choices) -> tuple[Bytes, Bytes]:
    """The chooser's side of one OT for each of `choices`.

    Args:
        public: uint8 `[32]`, the sender's point A.
        choices: bool `[n]`.

    Returns:
        The answers for the sender, uint8 `[n, 2, 32]`, and the chosen keys, uint8 `[n, 16]`.

    Raises:
        BadPoint: `public` is not in the group.
    """
    raw = public.tobytes()
    _check(raw)
    answers: list[bytes] = []
    keys: list[bytes] = []
    for number, choice in enumerate(choices.tolist()):
        secret = _scalar()
        other = crypto_scalarmult_ed25519_base_noclamp(_scalar())
        mine = crypto_core_ed25519_sub(
            crypto_scalarmult_ed25519_base_noclamp(secret),
            _onto_group(number, int(choice), other),
        )
        pair = (other, mine) if choice else (mine, other)
        answers += pair
        keys.append(_key(number, int(choice), raw, pair, _times(secret, raw)))
    points = np.frombuffer(b"".join(answers), dtype=np.uint8).reshape(-1, 2, POINT_BYTES)
    return points, np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)


def seal(keys: Bytes, messages: Bytes) -> Bytes:
    """Both messages of each OT, each under its key: the chooser can `unseal` the chosen one.

    Args:
        keys: uint8 `[n, 2, 16]`, used for nothing else.
        messages: uint8 `[n, 2, length]`.

    Returns:
        uint8 `[n, 2, length]`, for the chooser.
    """
    return messages ^ pads(keys, messages.shape[2])


def unseal(keys: Bytes, choices: Choices, sealed: Bytes) -> Bytes:
    """The chosen message of each OT.

    Args:
        keys: uint8 `[n, 16]`, the chosen keys.
        choices: bool `[n]`.
        sealed: uint8 `[n, 2, length]`, what `seal` gave.

    Returns:
        uint8 `[n, length]`.
    """
    if sealed.dtype != np.uint8 or sealed.ndim != 3 or sealed.shape[:2] != (len(choices), 2):
        raise ValueError(f"sealed messages as {sealed.dtype} {list(sealed.shape)}")
    chosen = sealed[np.arange(len(choices)), choices.astype(np.int64)]
    return chosen ^ pads(keys, sealed.shape[2])


def _scalar() -> bytes:
    return crypto_core_ed25519_scalar_reduce(secrets.token_bytes(64))


def _onto_group(number: int, side: int, point: bytes) -> bytes:
    """H_side of the OT of this number, from points to points."""
    content = _VERSION + b"group" + bytes([side]) + number.to_bytes(4, "little") + point
    digest = hashlib.sha512(content).digest()
    return crypto_core_ed25519_add(
        crypto_core_ed25519_from_uniform(digest[:32]), crypto_core_ed25519_from_uniform(digest[32:])
    )


def _key(number: int, side: int, public: bytes, pair: tuple[bytes, bytes], shared: bytes) -> bytes:
    head = _VERSION + b"key" + bytes([side]) + number.to_bytes(4, "little")
    return hashlib.sha256(head + public + pair[0] + pair[1] + shared).digest()[:KEY_BYTES]


def _check(point: bytes) -> None:
    if not crypto_core_ed25519_is_valid_point(point):
        raise BadPoint("a point is not in the group")


def _times(secret: bytes, point: bytes) -> bytes:
    try:
        return crypto_scalarmult_ed25519_noclamp(secret, point)
    except Exception as error:  # the neutral element: the bindings raise a RuntimeError
        raise BadPoint("a point is not in the group") from error
