"""Pairwise masks: words that each party adds to what it sends, and that cancel in the sum of all.

After Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS
2017, section 4, without the part that survives a dropout: here a missing party stops the run.

Each pair of parties i < j agrees on a secret by X25519 (RFC 7748). HKDF-SHA256 (RFC 5869) makes
one key a pair, and of that one key a topic; ChaCha20 (RFC 8439) makes the words of each message.
Party i adds them, party j subtracts them, all modulo the ring's size. To who lacks the key of a
pair its words are as good as uniform, so of n masked messages only the sum says anything.

**No word is used twice.** Key pairs are fresh in every session and never stored, so neither are the
keys. The nonce is the number of the message within its topic, counted here and nowhere else: steps
may repeat (validation starts again at 0 in every epoch), this number cannot.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from isthmus.crypto.curve25519 import LowOrderPoint

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
"""Elements of the ring of integers modulo 2^32 or 2^64."""

KEY_BYTES = 32
TAG_BYTES = 16
_VERSION = b"isthmus.masks.v1"


@dataclass(frozen=True)
class Roster:
    """Who takes part, with which public keys: what all parties must hold alike."""

    purpose: str
    """What the masks are for, such as `train`; part of every key."""
    parties: tuple[str, ...]
    """In the agreed order, at least two."""
    keys: tuple[bytes, ...]
    """The public key of each party, 32 bytes."""

    def __post_init__(self) -> None:
        if len(self.parties) < 2 or len(self.parties) != len(self.keys):
            raise ValueError(f"{len(self.parties)} parties with {len(self.keys)} keys")
        if len(set(self.parties)) < len(self.parties) or len(set(self.keys)) < len(self.keys):
            raise ValueError("the same party, or the same key, twice")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        keys = [key.hex() for key in self.keys]
        text = json.dumps([self.purpose, self.parties, keys])
        return hashlib.sha256(_VERSION + text.encode()).digest()


class MaskKey:
    """A party's key pair for the masks of one session, fresh from the system's generator."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public: bytes = self._private.public_key().public_bytes_raw()
        """The public key, 32 bytes."""

    def masks(self, me: str, roster: Roster, peers: Container[str] | None = None) -> Masks:
        """The masks of `me` against all others of the roster.

        Args:
            me: our own name.
            roster: who takes part.
            peers: those with whom masks are shared, if not with all; they must share with us.

        Raises:
            ValueError: the roster does not hold our own key under our name.
            LowOrderPoint: a public key has low order, so the secret would be no secret.
        """
        own = dict(zip(roster.parties, roster.keys, strict=True)).pop(me, None)
        if own != self.public:
            raise ValueError(f"the roster does not hold the key of {me}")
        pairs = zip(roster.parties, roster.keys, strict=True)
        return Masks(
            me,
            roster.parties,
            {
                peer: self._pair_key(me, peer, key, roster)
                for peer, key in pairs
                if peer != me and (peers is None or peer in peers)
            },
        )

    def _pair_key(self, me: str, peer: str, key: bytes, roster: Roster) -> bytes:
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(key))
        except ValueError as error:
            raise LowOrderPoint(f"the public key of {peer} has low order") from error
        names = json.dumps(sorted((me, peer))).encode()
        kdf = HKDF(hashes.SHA256(), KEY_BYTES, salt=roster.digest, info=b"pair" + names)
        return kdf.derive(shared)


class Masks:
    """One party's masks; made by `MaskKey.masks`. Safe to use from several threads.

    Args:
        me: this party.
        parties: all parties, in the agreed order.
        keys: the secret shared with each other party, 32 bytes.
    """

    def __init__(self, me: str, parties: Sequence[str], keys: Mapping[str, bytes]) -> None:
        self.me = me
        self.parties = tuple(parties)
        self._keys = dict(keys)
        self._topics: dict[str, dict[str, bytes]] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add_to(self, words: Words, topic: str) -> int:
        """Mask `words` in place with the next masks of `topic`.

        All parties must mask as many words, of one size, in their messages of the same number.

        Args:
            words: uint32 or uint64 [count], contiguous and little-endian.
            topic: what the words are about; each topic has keys and numbers of its own.

        Returns:
            The number of the message within its topic, from 0.
        """
        if words.dtype not in (np.dtype("<u4"), np.dtype("<u8")) or words.ndim != 1:
            raise ValueError(f"cannot mask {words.dtype} {list(words.shape)}")
        keys, number = self._next(topic)
        place = self.parties.index(self.me)
        # One buffer: first the zeros that the cipher turns into its stream, then the stream.
        zeros, stream = bytes(words.nbytes), np.empty_like(words)
        for peer, key in keys.items():
            _fill(stream, zeros, key, number)
            if place < self.parties.index(peer):
                np.add(words, stream, out=words)
            else:
                np.subtract(words, stream, out=words)
        return number

    def tag(self, peer: str, sender: str, content: bytes) -> bytes:
        """What proves to `peer`, or to us, that `sender` holds the pair's key; 16 bytes."""
        key = _expand(self._keys[peer], b"tag")
        return hmac.digest(key, sender.encode() + b"\0" + content, "sha256")[:TAG_BYTES]

    def __reduce__(self) -> NoReturn:
        raise TypeError("masks cannot be copied or stored: the copy would use the same words again")

    def _next(self, topic: str) -> tuple[dict[str, bytes], int]:
        with self._lock:
            if topic not in self._topics:
                info = b"topic" + topic.encode()
                self._topics[topic] = {p: _expand(key, info) for p, key in self._keys.items()}
            number = self._counts.get(topic, 0)
            self._counts[topic] = number + 1
            return self._topics[topic], number


def _fill(stream: Words, zeros: bytes, key: bytes, number: int) -> None:
    # The first half is where the block counter starts, in the RFC's form and in the older one of 64
    # bits alike.
    nonce = bytes(8) + number.to_bytes(8, "little")
    cipher = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor()
    cipher.update_into(zeros, stream.view(np.uint8).data)


def _expand(key: bytes, info: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), KEY_BYTES, info=info).derive(key)
