"""Points of Curve25519 in batches: hashing ids to the curve and multiplying by a secret.

Ids go to the curve by Elligator 2 of libsodium, not by taking a hash as the u-coordinate as is
often done: half of all u lie on the curve's twist, and multiplication keeps a point where it is, so
that each masked point would give one bit of its id away. Multiplication is X25519 (RFC 7748) of the
`cryptography` package. Between the two lies a change of coordinates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_core_ed25519_from_uniform

Points = npt.NDArray[np.uint8]
"""uint8 `[n, 32]`, one u-coordinate a row, little-endian."""

POINT_BYTES = 32
P = 2**255 - 19
"""The prime of the curve's field."""
_TAG = b"isthmus.curve25519.elligator2.sha256.v2\x00"
_SIGN = 1 << 255


class LowOrderPoint(ValueError):
    """A point of low order: its product with any secret is zero. Nobody honest sends one."""


def new_secret() -> bytes:
    """A fresh secret scalar of 32 bytes from the system's generator."""
    return X25519PrivateKey.generate().private_bytes_raw()


def hash_to_points(ids: Sequence[bytes]) -> Points:
    """The point of each id: SHA-256 with a tag of our own, taken to the curve by Elligator 2.

    libsodium gives a point of the prime-order subgroup in Edwards form (y and a sign); its
    u-coordinate in Montgomery form is (1 + y) / (1 - y) (RFC 7748, section 4.1). Every point is on
    the curve, never on its twist.

    Returns:
        uint8 `[n, 32]`.
    """
    hashes = (hashlib.sha256(_TAG + value).digest() for value in ids)
    edwards = (
        int.from_bytes(crypto_core_ed25519_from_uniform(digest), "little") for digest in hashes
    )
    ys = [point & ~_SIGN for point in edwards]
    points = (
        (1 + y) * inverse % P for y, inverse in zip(ys, _inverses([1 - y for y in ys]), strict=True)
    )
    return _points(b"".join(point.to_bytes(POINT_BYTES, "little") for point in points))


def multiply(secret: bytes, points: Points) -> Points:
    """Each point times the clamped `secret`; clamping also kills any component of low order.

    Args:
        secret: 32 bytes of `new_secret`.
        points: uint8 `[n, 32]`.

    Returns:
        uint8 `[n, 32]`.

    Raises:
        LowOrderPoint: one of the points has low order.
    """
    exchange = X25519PrivateKey.from_private_bytes(secret).exchange
    load = X25519PublicKey.from_public_bytes
    raw = points.tobytes()
    try:
        return _points(
            b"".join(
                exchange(load(raw[at : at + POINT_BYTES])) for at in range(0, len(raw), POINT_BYTES)
            )
        )
    except ValueError as error:
        raise LowOrderPoint("a point has low order") from error


def _inverses(values: Sequence[int]) -> list[int]:
    """1 / v modulo p of each value, with one inversion for all (Montgomery's trick)."""
    if not values:
        return []
    products = list(accumulate(values, lambda a, b: a * b % P))
    rest = pow(products[-1], -1, P)
    inverses = [0] * len(values)
    for i in range(len(values) - 1, 0, -1):
        inverses[i] = rest * products[i - 1] % P
        rest = rest * values[i] % P
    inverses[0] = rest
    return inverses


def _points(raw: bytes) -> Points:
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, POINT_BYTES)
