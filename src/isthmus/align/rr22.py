r"""Private set intersection by vector OLE and an oblivious key-value store, by SecretFlow's `spu`.

Raghuraman and Rindal, "Blazing Fast PSI from Improved OKVS and Subfield VOLE", CCS 2022, in the
fast mode of `spu`, in a star around the label party. Between the label party A and each feature
party B, one after the other::

    A -> B   align.key      a fresh key k of 16 bytes
             each names its ids: AES under k of SHA-256 of the id, cut to 12 bytes
    both     align.tunnel   RR22 on the names, whatever `spu` sends for it (`rr22_tunnel`)
             A knows which names both have; intersects over all partners
    A -> B   align.common   how many ids are everybody's
    A -> B   align.names    their names, in a random order

**Security model: semi-honest.** The parties keep to the protocol and may study what they see. RR22
is taken as `spu` 0.9.5 has it; we have not reviewed that code, nor what it does with a partner that
does not keep to the protocol. Native code in a child process reads the partner's bytes: a fault in
it would be one of that process, which has this user's rights.

What each side learns is what `ecdh` lets it learn:

- A: the number of each B's ids; which of its own ids each B has.
- B: the number of A's ids; which of its own ids *all* parties have. `spu` tells it nothing of the
  result, not even a count.
- Above 2^20 ids a side `spu` works in buckets by a hash of the name, and both see how many names of
  the other fall into each: what any list of so many different people has, but for chance.

**Names.** `spu` reads its input from a file. The file holds no id but its name, under a key that is
gone when the run ends. Both parties know the key meanwhile, so that names would hide nothing from
the partner: they do not cross, but for those of common ids at the end. They lie in an order drawn
for the run, with one random name more, so that nothing that `spu` derives from the file as a whole
(it compares a digest) says anything of it. The folder is its owner's alone, in memory
(`/dev/shm`) where there is room, and goes with the run.

**The mode.** `spu` has another one, of less communication, that loses a part of what is common and
does not say so; it is left off. A name has 96 bits and RR22 compares 40 + log2(n_A n_B) bits, so
that two different ids match with a probability below 2^-39 in the whole run. That would be an
error, found when the names are told or by the digest of the agreed order.

The sockets by which `spu` is reached lie in the same folder: no port is opened. How the connections
cross is told in `rr22_tunnel`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from isthmus.align.cuckoo import digests
from isthmus.align.matching import all_different, find
from isthmus.align.protocol import Found, Names, Pairs
from isthmus.align.rr22_spu import NAME_BYTES, interpreter, run_rr22
from isthmus.align.wire import take
from isthmus.crypto.blocks import KEY_BYTES, Words, encrypt
from isthmus.errors import AlignError, BadMessage
from isthmus.session import PATIENCE, Session

MOST_IDS = 1 << 28
"""More could have the same name with a probability of 2^-40 and more."""
_SECONDS, _IDS_PER_SECOND = 300, 5000
"""How long `spu` waits for a message: so long, and as long as these take at so many a second."""


def intersect(
    session: Session, ids: Sequence[bytes], sizes: Mapping[str, int], workers: int | None
) -> Found:
    """Find what each pair has in common; see `IntersectionProtocol`. It needs no `workers`.

    Raises:
        AlignError: there are too many ids, or `spu` failed.
        BadMessage: a partner did not keep to the protocol.
        StorageError: there is no room for its files.
    """
    if max(len(ids), *sizes.values()) > MOST_IDS:
        raise AlignError(
            f"rr22 aligns up to {MOST_IDS:,} ids a party", mend="Align with protocol: ecdh."
        )
    python, values = interpreter(), digests(ids)
    with session.progress.task("align", len(ids) + sum(sizes.values())) as task:
        task.advance(len(ids))
        if session.is_label_party:
            pairs = []
            for partner, size in sizes.items():
                pairs.append(_with(session, python, partner, size, values))
                task.advance(size)
            return Found(pairs)
        hub, size = session.hub, sizes[session.label_party]
        # The label party may be busy with a partner that has many more ids than we.
        key = take(hub, "align.key", "key", np.uint8, (KEY_BYTES,), timeout=PATIENCE)
        names = _names(key.tobytes(), values)
        run_rr22(python, hub, names, size, receives=False, seconds=_patience(len(ids), size))
        task.advance(size)
    return Found(names=names)


def _with(session: Session, python: str, partner: str, size: int, values: Words) -> Pairs:
    """What the label party has in common with one partner."""
    link, key = session.link(partner), secrets.token_bytes(KEY_BYTES)
    link.send("align.key", {"key": np.frombuffer(key, dtype=np.uint8)})
    names = _names(key, values)
    seconds = _patience(len(values), size)
    common = run_rr22(python, link, names, size, receives=True, seconds=seconds)
    assert common is not None
    here = find(names, common)
    if (here < 0).any() or not all_different(here, len(names)):
        raise AlignError("rr22: the result of spu is not a part of what it was given")
    if len(here) > size:
        raise BadMessage(f"{partner} has more ids in common with us than it said it has at all")
    return Pairs(link, size, here, names=names[here])


def _names(key: bytes, values: Words) -> Names:
    """uint8 `[n, NAME_BYTES]`."""
    hidden = encrypt(key, values).view(np.uint8)
    return np.ascontiguousarray(hidden.reshape(-1, KEY_BYTES)[:, :NAME_BYTES])


def _patience(mine: int, theirs: int) -> int:
    return _SECONDS + (mine + theirs) // _IDS_PER_SECOND
