"""The messages of a secure sum that survives dropouts, as bytes.

Each begins with a byte that names it; lengths follow from the terms, so nothing is parsed that
was not expected.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import BadMessage
from isthmus.fedrec.privacy.secure_terms import Flags, Rules, Terms

KEY, SEED, BOX, SESSION = 32, 16, 48, 16
"""Bytes of a public key, a seed or share, a sealed pair of shares, a session's name."""
_KEYS, _SEAT, _SHARES, _BOXES, _WORDS, _SURVIVORS, _ANSWER = range(1, 8)
_NAMES = ("", "keys", "seat", "shares", "boxes", "masked words", "list of survivors", "answer")
_HEAD = struct.Struct("<16sII")

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Keys:
    """Client to server, 1: its public keys of this sum."""

    sealing: bytes
    """For boxes between neighbours."""
    masking: bytes
    """For pairwise masks."""

    def pack(self) -> bytes:
        """65 bytes."""
        return bytes([_KEYS]) + self.sealing + self.masking

    @staticmethod
    def unpack(message: bytes) -> Keys:
        """Raises BadMessage."""
        body = _body(message, _KEYS, 2 * KEY)
        return Keys(body[:KEY], body[KEY:])


@dataclass(frozen=True)
class Seat:
    """Server to client, 2: its place on the ring, and its neighbours' keys, nearest first."""

    session: bytes
    terms: Terms
    place: int
    keys: tuple[Keys, ...]

    def pack(self) -> bytes:
        """25 bytes, and 64 a neighbour."""
        head = _HEAD.pack(self.session, self.terms.clients, self.place)
        return bytes([_SEAT]) + head + b"".join(one.pack()[1:] for one in self.keys)

    @staticmethod
    def unpack(message: bytes, rules: Rules) -> Seat:
        """Raises BadMessage, JobError for fewer than three clients."""
        if len(message) < 1 + _HEAD.size:
            raise _wrong(_SEAT)
        session, clients, place = _HEAD.unpack_from(message, 1)
        if place >= clients or len(message) > 1 + _HEAD.size + 2 * KEY * (clients - 1):
            raise _wrong(_SEAT)
        terms = rules.terms(clients)
        body = _body(message, _SEAT, _HEAD.size + 2 * KEY * terms.neighbours)
        parts = _cut(body[_HEAD.size :], 2 * KEY)
        return Seat(session, terms, place, tuple(Keys(one[:KEY], one[KEY:]) for one in parts))


@dataclass(frozen=True)
class Shares:
    """Client to server, 3: a sealed pair of shares for each neighbour."""

    mark: bytes
    """By which the server knows the right self-mask seed when it has rebuilt it."""
    boxes: tuple[bytes, ...]

    def pack(self) -> bytes:
        """33 bytes, and 48 a neighbour."""
        return bytes([_SHARES]) + self.mark + b"".join(self.boxes)

    @staticmethod
    def unpack(message: bytes, terms: Terms) -> Shares:
        """Raises BadMessage."""
        body = _body(message, _SHARES, KEY + BOX * terms.neighbours)
        return Shares(body[:KEY], _cut(body[KEY:], BOX))


def pack_boxes(boxes: Sequence[bytes | None]) -> bytes:
    """Server to client, 4: the boxes of its neighbours, None of those that sent none."""
    return _some(_BOXES, boxes)


def unpack_boxes(message: bytes, terms: Terms) -> list[bytes | None]:
    """Raises BadMessage."""
    return _read_some(message, _BOXES, terms.neighbours, BOX)


def pack_words(words: Words) -> bytes:
    """Client to server, 5: its masked words, uint64 [k]."""
    return bytes([_WORDS]) + words.astype("<u8", copy=False).tobytes()


def unpack_words(message: bytes, count: int) -> Words:
    """Raises BadMessage."""
    body = _body(message, _WORDS, 8 * count)
    return np.frombuffer(body, "<u8").astype(np.uint64)


def pack_survivors(survivors: Flags) -> bytes:
    """Server to client, 6: whose words are in the sum, bool [clients] by places."""
    return bytes([_SURVIVORS]) + _bits(survivors)


def unpack_survivors(message: bytes, terms: Terms) -> Flags:
    """Raises BadMessage."""
    body = _body(message, _SURVIVORS, (terms.clients + 7) // 8)
    return _flags(body, terms.clients, _SURVIVORS)


def pack_answer(shares: Sequence[bytes | None]) -> bytes:
    """Client to server, 7: one share of each neighbour, None where it has none."""
    return _some(_ANSWER, shares)


def unpack_answer(message: bytes, terms: Terms) -> list[bytes | None]:
    """Raises BadMessage."""
    return _read_some(message, _ANSWER, terms.neighbours, SEED)


def _some(kind: int, parts: Sequence[bytes | None]) -> bytes:
    there = np.array([one is not None for one in parts])
    return bytes([kind]) + _bits(there) + b"".join(one for one in parts if one is not None)


def _read_some(message: bytes, kind: int, count: int, size: int) -> list[bytes | None]:
    head = 1 + (count + 7) // 8
    there = _flags(message[1:head], count, kind)
    body = _body(message, kind, head - 1 + size * int(there.sum()))
    parts = iter(_cut(body[head - 1 :], size))
    return [next(parts) if one else None for one in there]


def _bits(flags: Flags) -> bytes:
    return np.packbits(flags, bitorder="little").tobytes()


def _flags(body: bytes, count: int, kind: int) -> Flags:
    if len(body) != (count + 7) // 8:
        raise _wrong(kind)
    found = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little").astype(bool)
    if found[count:].any():
        raise _wrong(kind)
    return found[:count]


def _body(message: bytes, kind: int, size: int) -> bytes:
    if len(message) != 1 + size or message[0] != kind:
        raise _wrong(kind)
    return message[1:]


def _cut(body: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(body[at : at + size] for at in range(0, len(body), size))


def _wrong(kind: int) -> BadMessage:
    return BadMessage(f"a secure sum's {_NAMES[kind]} of another form or length")
