"""Orders that tell nothing about a table: by a keyed hash of the id, equal where the key is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isthmus.align.keys import Keys
from isthmus.align.wire import take
from isthmus.errors import AlignError
from isthmus.session import PATIENCE, Session

Positions = npt.NDArray[np.int64]

_DIGEST_BYTES = 16


def private_order(ids: Sequence[bytes]) -> Positions:
    """The positions of `ids` sorted by a hash with a fresh secret key, int64 `[n]`."""
    return _order(_digests(ids, secrets.token_bytes(32)))


def random_order(count: int) -> Positions:
    """A random order by the system's generator, int64 `[count]`."""
    return np.argsort(np.frombuffer(secrets.token_bytes(8 * count), dtype=np.uint64))


def agree_order(session: Session, ids: Sequence[bytes]) -> Positions:
    """The positions of the common `ids` in the order that all parties agree on, int64 `[n]`.

    Each party sorts by blake2b(key = from the job's seed, id); then they compare a digest.

    Raises:
        AlignError: a partner found other common ids.
    """
    digests = _digests(ids, session.shared_rng("align", "order").bytes(32))
    order = _order(digests)
    whole = hashlib.blake2b(digests[order].tobytes(), digest_size=32, person=b"isthmus.align")
    mine = np.frombuffer(whole.digest(), dtype=np.uint8)
    for link in session.links.values():
        link.send("align.digest", {"digest": mine})
    for partner, link in session.links.items():
        # Others may have more partners to sort ids with.
        theirs = take(link, "align.digest", "digest", np.uint8, (32,), timeout=PATIENCE)
        if not np.array_equal(theirs, mine):
            raise AlignError(
                f"{partner} found other common ids than {session.me}",
                mend="Both sides must run the same version and seed; then align anew.",
            )
    return order


def event_order(session: Session, keys: Keys, count: int) -> Positions:
    """A permutation of `count` events, int64 `[count]`: the same in every run on the same table.

    Its seed is the party's own (`Session.seed_for`, with its secret) *and* the whole id column: of
    the job's seed alone, which partners know, they could undo the permutation and read off the
    order of the table.
    """
    content = hashlib.sha256(b"isthmus.align.events\x00")
    content.update(session.seed_for("align", "events").to_bytes(8, "little"))
    for value in keys.values:
        content.update(len(value).to_bytes(4, "little") + value)
    content.update(keys.event_key.tobytes())
    rng = np.random.default_rng(int.from_bytes(content.digest(), "little"))
    return rng.permutation(count).astype(np.int64, copy=False)


def _digests(ids: Sequence[bytes], key: bytes) -> npt.NDArray[np.uint8]:
    raw = b"".join(
        hashlib.blake2b(value, key=key, digest_size=_DIGEST_BYTES).digest() for value in ids
    )
    return np.frombuffer(raw, dtype=np.uint8).reshape(len(ids), _DIGEST_BYTES)


def _order(digests: npt.NDArray[np.uint8]) -> Positions:
    words = digests.view(">u8").astype(np.uint64)
    return np.lexsort((words[:, 1], words[:, 0])).astype(np.int64, copy=False)
