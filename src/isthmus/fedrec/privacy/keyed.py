"""Normal noise of a device's own, from a key that only it has and from the numbers that it hides.

The same numbers have the same noise whenever they are asked for, so that nothing is to be gained by
asking again. Others have noise that has nothing to do with it, whichever server asks, in whichever
run: of two releases under one draw the difference would be free of noise. And unlike the streams of
`randomness` these cannot be worked out from some of their numbers, which a server sees wherever
there is noise on a number that it knows.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

_KEY_BYTES = 32
_UNIT = 2.0**-53


def key_of(secret: bytes) -> bytes:
    """A key of noise alone, 32 bytes, from another secret of the device."""
    return hashlib.blake2b(secret, key=b"isthmus fedrec noise", digest_size=_KEY_BYTES).digest()


def normals(
    key: bytes, about: str, hidden: NDArray[Any], deviation: float, count: int
) -> NDArray[np.float64]:
    """Normal numbers of this deviation, float64 [count]: ChaCha20, Box and Muller.

    Args:
        key: the device's, see `key_of`.
        about: what is hidden, and whose.
        hidden: its numbers.
        deviation: of the noise; another one is another draw.
        count: how many.
    """
    told = repr((about, deviation, hidden.dtype.str, hidden.shape)).encode()
    digest = hashlib.blake2b(key=key, digest_size=_KEY_BYTES)
    digest.update(len(told).to_bytes(8, "big") + told)
    digest.update(np.ascontiguousarray(hidden).data.cast("B"))
    pairs = -(-count // 2)
    # The nonce may be the same: each key is used once.
    stream = Cipher(algorithms.ChaCha20(digest.digest(), bytes(16)), mode=None).encryptor()
    words = np.frombuffer(stream.update(bytes(16 * pairs)), "<u8") >> np.uint64(11)
    first, second = words.reshape(2, pairs)
    far = np.sqrt(-2 * np.log((first + 1.0) * _UNIT))
    turn = (2 * np.pi * _UNIT) * second
    drawn = np.concatenate([far * np.cos(turn), far * np.sin(turn)])
    return np.asarray(deviation * drawn[:count])
