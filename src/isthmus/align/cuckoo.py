"""Cuckoo hashing: each id in one of its three bins, at most one id a bin, and no stash.

The table has three parts of equal size, and an id has one bin in each, so that its three bins are
never the same. With 1.27 bins an id and three hash functions a table without a stash exists but for
a probability of 2^-40 (Pinkas, Schneider and Zohner, "Scalable Private Set Intersection Based on OT
Extension", ACM TOPS 2018, measured; the form without a stash in Pinkas, Schneider,
Tkachenko and Yanai, EUROCRYPT 2019). Small tables fail more often, mostly by four ids on the same
three bins, C(n, 4) / part^9: at least 1,026 bins keep that below 2^-41.

Where no table is found, another seed is drawn. The seed is public, so what it says of the ids is
that they fit: nothing, but for that probability.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from isthmus.crypto.blocks import Words, encrypt

PARTS = 3
SEED_BYTES = 16
EMPTY = -1
_BINS_PER_100_IDS = 127
_SMALLEST_PART = 342
_MOST_ROUNDS = 2000
_TAG = b"isthmus.align.id.sha256.v1\x00"
_BATCH = 16_384


@dataclass(frozen=True)
class Table:
    """Where each id lies."""

    seed: bytes
    """Of the hash functions, 16 bytes."""
    ids: npt.NDArray[np.int32]
    """int32 `[bins]`: the position of the id in each bin, or `EMPTY`."""


def digests(ids: Sequence[bytes]) -> Words:
    """SHA-256 of each id with a tag of our own, cut to 16 bytes; uint64 `[n, 2]`."""
    found = np.empty((len(ids), 2), dtype=np.uint64)
    for at in range(0, len(ids), _BATCH):
        raw = b"".join([sha256(_TAG + value).digest() for value in ids[at : at + _BATCH]])
        found[at : at + _BATCH] = np.frombuffer(raw, dtype="<u8").reshape(-1, 4)[:, :2]
    return found


def bins(ids: int) -> int:
    """How many bins a table of so many ids has: the same at every party."""
    return PARTS * max(_SMALLEST_PART, -(-ids * _BINS_PER_100_IDS // (100 * PARTS)))


def places(seed: bytes, values: Words, count: int) -> npt.NDArray[np.int32]:
    """The three bins of each id, by AES under the seed.

    Args:
        seed: 16 bytes.
        values: uint64 `[n, 2]`, digests.
        count: bins in all.

    Returns:
        int32 `[3, n]`, row p within `[p count / 3, (p + 1) count / 3)`.
    """
    part = count // PARTS
    found = np.empty((PARTS, len(values)), dtype=np.int32)
    for at in range(0, len(values), _BATCH):
        mixed = encrypt(seed, np.ascontiguousarray(values[at : at + _BATCH])).view(np.uint32)
        for p in range(PARTS):
            within = (mixed[:, p].astype(np.uint64) * np.uint64(part)) >> np.uint64(32)
            found[p, at : at + _BATCH] = within.astype(np.int64) + p * part
    return found


def build(values: Words) -> Table:
    """A table of these ids under a fresh seed.

    Args:
        values: uint64 `[n, 2]`, digests, all different.
    """
    count = bins(len(values))
    while True:
        seed = secrets.token_bytes(SEED_BYTES)
        table = _settle(places(seed, values, count), count)
        if table is not None:
            return Table(seed, table)


def _settle(homes: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int32] | None:
    """A table, or None where the walk finds no end.

    All ids without a bin walk at once: each goes to the part it is bound for; of those that meet in
    a bin the last stays; who lay there, and who did not get it, are bound for another part.
    """
    rng = np.random.default_rng(secrets.randbits(128))
    table = np.full(count, EMPTY, dtype=np.int32)
    bound = np.zeros(homes.shape[1], dtype=np.uint8)
    walking = np.arange(homes.shape[1], dtype=np.int32)
    for _ in range(_MOST_ROUNDS):
        if not len(walking):
            return table
        goal = homes[bound[walking], walking]
        before = table[goal]
        table[goal] = walking
        stays = table[goal] == walking
        turned_out = before[stays]
        walking = np.concatenate([walking[~stays], turned_out[turned_out != EMPTY]])
        bound[walking] = (bound[walking] + rng.integers(1, PARTS, len(walking))) % PARTS
    return None
