"""Points of Curve25519 in batches: hashing ids to the curve and multiplying by a secret.

A point is its u-coordinate. An id goes to the curve by trying (Boneh, Lynn and Shacham, ASIACRYPT
2001, section 3.3): hashes of it, one after the other, until one is the u of a point on the curve,
which every second is, as GMP's Legendre symbol tells. To take the first hash as it is, as is often
done, gives one bit of each id away: half of all u lie on the curve's twist, and multiplication
keeps a point where it is. Multiplication is X25519 (RFC 7748) of the `cryptography` package.

How often an id is tried is seen in how long it takes: nobody but the party that has the id waits
for one alone, since points are sent in batches of thousands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from gmpy2 import jacobi, mpz

Points = npt.NDArray[np.uint8]
"""uint8 `[n, 32]`, one u-coordinate a row, little-endian."""

POINT_BYTES = 32
_P = mpz(2**255 - 19)
"""The prime of the curve's field."""
_A = 486662
"""Of the curve v^2 = u^3 + A u^2 + u (RFC 7748, section 4.1)."""
_TRIES = tuple(
    hashlib.sha256(b"isthmus.curve25519.try.sha256.v3\x00" + bytes([i])) for i in range(256)
)
"""That none of them finds a point has a probability of 2^-256."""
_U = (1 << 255) - 1
"""The bits of a u-coordinate; X25519 does not look at the highest of its 32 bytes either."""


class LowOrderPoint(ValueError):
    """A point of low order: its product with any secret is zero. Nobody honest sends one."""


def new_secret() -> bytes:
    """A fresh secret scalar of 32 bytes from the system's generator."""
    return X25519PrivateKey.generate().private_bytes_raw()


def hash_to_points(ids: Sequence[bytes]) -> Points:
    """The point of each id: as good as drawn evenly from the curve, never from its twist.

    What a point has of low order is gone after the first multiplication.

    Returns:
        uint8 `[n, 32]`.
    """
    points = _points(b"".join(map(_first_on_the_curve, ids))).copy()
    points[:, -1] &= 0x7F
    return points


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


def _first_on_the_curve(value: bytes) -> bytes:
    for start in _TRIES:
        hashed = start.copy()
        hashed.update(value)
        digest = hashed.digest()
        u = mpz(int.from_bytes(digest, "little") & _U)
        if jacobi((u * (u + _A) + 1) * u % _P, _P) == 1:
            return digest
    raise AssertionError("no hash of an id is on the curve")


def _points(raw: bytes) -> Points:
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, POINT_BYTES)
