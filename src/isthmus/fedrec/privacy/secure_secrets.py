"""Keys, seeds, boxes and shares of a secure sum that survives dropouts; all from libraries.

Key agreement is X25519 (RFC 7748) with HKDF-SHA256 (RFC 5869), boxes are ChaCha20-Poly1305 and
masks ChaCha20 (RFC 8439), of `cryptography`; shares are Shamir's over GF(2^128), of PyCryptodome.

A masking key is made from a seed of 16 bytes, as that is what is shared: HKDF of the seed, salted
by the client's sealing key, gives the 32 bytes that X25519 clamps. To find the key by the seed
takes 2^128 tries, as X25519 itself is meant to withstand; the salt is fresh for each client and
sum, so that tries cannot be spent on several at once. And who has rebuilt the seed can check it:
the public key must come out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec.privacy.secure_wire import KEY, Words

try:
    from Crypto.Protocol.SecretSharing import Shamir
except ImportError as error:
    raise JobError(
        "secure sums that survive dropouts need the package pycryptodome, which is not installed",
        mend="Run `pip install 'isthmus[fedrec]'`.",
    ) from error

_VERSION = b"isthmus.secure-sum.v1 "
_NONCE = bytes(12)
"""Every key seals one box, or makes one stream, so that the nonce may stay the same."""


def masking_key(seed: bytes, sealing: bytes) -> X25519PrivateKey:
    """The masking key of a seed, for the client with this public sealing key."""
    return X25519PrivateKey.from_private_bytes(derived(seed, sealing, b"masking key"))


def agreed(mine: X25519PrivateKey, theirs: bytes, context: bytes) -> bytes:
    """A secret of two, 32 bytes, bound to both public keys and the context.

    Raises:
        BadMessage: the public key has low order, so that the secret would be none.
    """
    try:
        shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise BadMessage("a neighbour's public key has low order") from error
    both = sorted((mine.public_key().public_bytes_raw(), theirs))
    return derived(shared, b"".join(both), b"pair " + context)


def makes_secrets(key: bytes) -> bool:
    """Whether a public key is of no low order: nobody honest sends one."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """A key for one use, 32 bytes."""
    return HKDF(hashes.SHA256(), KEY, salt=salt, info=_VERSION + info).derive(secret)


def mark_of(seed: bytes, session: bytes) -> bytes:
    """What a self-mask seed is known by, without telling it: its 128 bits cannot be guessed."""
    return derived(seed, session, b"mark")


def self_key(seed: bytes, session: bytes) -> bytes:
    """The key of the self-mask of a seed."""
    return derived(seed, session, b"self-mask")


def add_stream(words: Words, key: bytes, sign: int) -> None:
    """Add the mask of a key to `words`, uint64 [k], or subtract it, in place."""
    stream = np.empty(len(words), "<u8")
    cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    cipher.update_into(bytes(stream.nbytes), stream.view(np.uint8).data)
    (np.add if sign > 0 else np.subtract)(words, stream, out=words)


def sealed(content: bytes, pair: bytes, sender: int, receiver: int) -> bytes:
    """A box that only the receiver opens: 16 bytes longer than its content."""
    return ChaCha20Poly1305(_box_key(pair, sender, receiver)).encrypt(_NONCE, content, None)


def opened(box: bytes, pair: bytes, sender: int, receiver: int) -> bytes | None:
    """What is in a box; None where it was not sealed so."""
    try:
        return ChaCha20Poly1305(_box_key(pair, sender, receiver)).decrypt(_NONCE, box, None)
    except InvalidTag:
        return None


def _box_key(pair: bytes, sender: int, receiver: int) -> bytes:
    return derived(pair, b"", f"box from {sender} to {receiver}".encode())


def split(seed: bytes, threshold: int, count: int) -> list[bytes]:
    """Shares of a seed of 16 bytes, those with the indices 1 .. count."""
    return [share for _, share in Shamir.split(threshold, count, seed)]


def rebuilt(shares: Sequence[tuple[int, bytes]]) -> bytes:
    """The seed of as many shares as the threshold, each with its index."""
    return bytes(Shamir.combine(list(shares)))
