r"""Private set intersection by blind RSA signatures, in a star around the label party.

After De Cristofaro and Tsudik, "Practical Private Set Intersection Protocols with Linear
Complexity", FC 2010, as FATE's RSA intersection has it. Each feature party B makes a key for this
run, with modulus n and secret exponent d; H is a full-domain hash onto the numbers below n, G is
SHA-256 cut to 16 bytes (`isthmus.crypto.rsa`). Between it and the label party A::

    B -> A   align.key      n, and a proof that y -> y^e is a permutation of the numbers below it
    A -> B   align.blinded  H(x) r^e for each of A's ids x, with a random r of its own
    B -> A   align.tags     G(H(y)^d) for each of B's ids y, in an order of B's own
    B -> A   align.signed   (H(x) r^e)^d in A's order
             A checks each signature, divides by r, has G(H(x)^d), and matches
    A -> B   align.common   a bit for each of B's ids, in B's order: is it everybody's?

**Security model: semi-honest**, and a little more: see below. What each side learns is what `ecdh`
lets it learn:

- A: the number of each B's ids; which of its own ids each B has.
- B: the number of A's ids; which of its own ids *all* parties have.
- Neither: anything about ids that are not shared. What A sends is uniform, whatever its ids are,
  without any assumption (`isthmus.crypto.rsa` says why also for a B that makes up its key). B's
  tags are hashes of signatures: to find one that B did not give is the one-more-RSA problem, with
  H and G as random oracles.

A party that lies can make up ids, and so ask for people it does not know: A as many as it
announced. Answers are checked, so that a B that signs wrongly is found out at once. B can send any
tags; one that A also has is one whose signature B made.

It is the slowest of the protocols: B takes a power of 3072 bits for each id of both sides, some
2 ms of a core. It is here for who must use RSA, or wants to compare.

Chunks of both directions go in rounds, so at no time are more than `LAG` chunks under way.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from isthmus.align.matching import chunks, in_common, length
from isthmus.align.order import private_order
from isthmus.align.protocol import Found, Pairs, Positions
from isthmus.align.wire import take, tensors
from isthmus.crypto.rsa import (
    BYTES,
    PROOFS,
    TAG_BYTES,
    BadKey,
    BadNumber,
    Blinding,
    Bytes,
    RsaRequester,
    RsaSigner,
)
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.session import Session

CHUNK = 256
"""Ids in a message; part of the protocol, the same at every party."""
LAG = 4
"""Signatures come this many rounds after they are asked for; part of the protocol too."""
_MOST_THREADS = 64


def intersect(
    session: Session, ids: Sequence[bytes], sizes: Mapping[str, int], workers: int | None
) -> Found:
    """Find what each pair has in common; see `IntersectionProtocol`."""
    if session.is_label_party:
        return _as_hub(session, ids, sizes)
    # In threads: gmpy2 lets go of the interpreter's lock during a power.
    with ThreadPoolExecutor(_threads(workers), thread_name_prefix="rsa") as pool:
        return _as_spoke(session, ids, sizes[session.label_party], pool)


def _threads(workers: int | None) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(max(1, (cores or 1) if workers is None else workers), _MOST_THREADS)


# The label party: asks for signatures.


@dataclass
class _Partner:
    """One partner's exchange, as the label party has it."""

    link: Link
    size: int
    requester: RsaRequester
    asked: deque[Blinding] = field(default_factory=deque)
    own: list[Bytes] = field(default_factory=list)
    """The tags of our ids, by the partner's key."""
    theirs: list[Bytes] = field(default_factory=list)

    def ask(self, ids: Sequence[bytes]) -> None:
        """Send a chunk of our ids, blinded. Raises BadMessage where the key turns out bad."""
        try:
            blinded, blinding = self.requester.blind(ids)
        except BadKey as error:
            raise _bad_key(self.link, error) from error
        self.asked.append(blinding)
        self.link.send("align.blinded", {"numbers": blinded})

    def take_tags(self, count: int) -> None:
        """Take a chunk of the partner's tags."""
        tags = take(self.link, "align.tags", "tags", np.uint8, (count, TAG_BYTES))
        self.theirs.append(tags.copy())

    def take_signatures(self, count: int) -> None:
        """Take the answer to the oldest chunk. Raises BadMessage where it is not what was asked."""
        signed = take(self.link, "align.signed", "numbers", np.uint8, (count, BYTES))
        try:
            self.own.append(self.requester.tags(signed, self.asked.popleft()))
        except BadNumber as error:
            raise BadMessage(
                f"{self.link.partner} sent a number that is not the signature asked for"
            ) from error

    def pairs(self) -> Pairs:
        """What we have in common."""
        here, there = in_common(self.link, self.own, self.theirs)
        return Pairs(self.link, self.size, here, there)


def _as_hub(session: Session, ids: Sequence[bytes], sizes: Mapping[str, int]) -> Found:
    partners = [
        _Partner(link, sizes[name], _hear_key(link)) for name, link in session.links.items()
    ]
    mine = chunks(len(ids), CHUNK)
    with session.progress.task("align", len(ids) + sum(sizes.values())) as task:
        for i in range(max(mine + LAG, *(chunks(p.size, CHUNK) for p in partners))):
            own = ids[i * CHUNK : (i + 1) * CHUNK]
            task.advance(len(own))
            for partner in partners:
                if own:
                    partner.ask(own)
                if count := length(partner.size, i, CHUNK):
                    partner.take_tags(count)
                    task.advance(count)
                if count := length(len(ids), i - LAG, CHUNK):
                    partner.take_signatures(count)
    return Found([partner.pairs() for partner in partners])


def _hear_key(link: Link) -> RsaRequester:
    modulus, proof = tensors(
        link,
        link.recv("align.key"),
        {"modulus": (np.uint8, (BYTES,)), "proof": (np.uint8, (PROOFS, BYTES))},
    )
    try:
        return RsaRequester(modulus.copy(), proof)
    except BadKey as error:
        raise _bad_key(link, error) from error


def _bad_key(link: Link, error: BadKey) -> BadMessage:
    return BadMessage(f"{link.partner} sent a bad key: {error}")


# A feature party: signs.


def _as_spoke(session: Session, ids: Sequence[bytes], size: int, pool: ThreadPoolExecutor) -> Found:
    hub, signer, order = session.hub, RsaSigner(), private_order(ids)
    hub.send("align.key", {"modulus": signer.modulus, "proof": signer.prove()})
    own = _tagged(pool, signer, ids, order)
    pending: deque[Future[Bytes]] = deque()
    with session.progress.task("align", len(ids) + size) as task:
        for i in range(max(chunks(len(ids), CHUNK), chunks(size, CHUNK) + LAG)):
            if count := length(size, i, CHUNK):
                blinded = take(hub, "align.blinded", "numbers", np.uint8, (count, BYTES))
                pending.append(pool.submit(signer.sign, blinded))
                task.advance(count)
            if count := length(len(ids), i, CHUNK):
                hub.send("align.tags", {"tags": next(own)})
                task.advance(count)
            if length(size, i - LAG, CHUNK):
                hub.send("align.signed", {"numbers": _signed(hub, pending.popleft())})
    return Found(order=order)


def _signed(hub: Link, answer: Future[Bytes]) -> Bytes:
    try:
        return answer.result()
    except BadNumber as error:
        raise BadMessage(f"{hub.partner} sent a number that is out of range") from error


def _tagged(
    pool: Executor, signer: RsaSigner, ids: Sequence[bytes], order: Positions
) -> Iterator[Bytes]:
    """The tags of the own ids, a chunk at a time, with some under way."""
    pending: deque[Future[Bytes]] = deque()
    for start in range(0, len(ids), CHUNK):
        chunk = [ids[i] for i in order[start : start + CHUNK].tolist()]
        pending.append(pool.submit(signer.tags, chunk))
        if len(pending) > LAG:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
