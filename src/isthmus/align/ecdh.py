r"""Private set intersection by Diffie-Hellman on Curve25519, in a star around the label party.

After Meadows (1986) and Huberman, Franklin and Hogg (1999). With H hashing ids to the curve, the
label party A (secret a) and each feature party B (secret b), both fresh in every run::

    A -> B   align.points   H(x)^a   of A's ids, in an order of A's own
    B -> A   align.points   H(y)^b   of B's ids, in an order of B's own
    B -> A   align.echo     H(x)^ab  in A's order, cut to 16 bytes
             A computes H(y)^ba itself, matches, and intersects over all feature parties
    A -> B   align.common   a bit for each of B's points, in B's order: is it everybody's?

**Security model: semi-honest.** The parties keep to the protocol and may study what they see; for
ids that are not shared this is as good as random under the decisional Diffie-Hellman assumption on
Curve25519 with H as a random oracle. A party that lies can make up ids, and so ask for people it
does not know; no protocol of this kind prevents it.

What each side learns:

- A: the number of each B's ids; which of its own ids each B has (with three or more parties this
  is more than the final intersection).
- B: the number of A's ids; which of its own ids *all* parties have. Nothing of other feature
  parties, not even their number of ids.
- Neither: anything about ids that are not shared. Points lie on the curve and never on its twist
  (`isthmus.crypto.curve25519`), and each party sends in an order by a hash under a fresh secret
  key, so neither a point nor its place says anything.

**The 16 bytes.** Two different ids are taken for one only where two of the n_A n_B doubly masked
points agree in 128 bits: probability below n_A n_B / 2^128, that is 2^-88 for a million ids a side
and 2^-68 for a billion.

Chunks of both directions go in rounds, so at no time are more than `LAG` chunks under way: memory
stays at the ids and 16 bytes for each id of each side, and no window can fill up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.align.matching import TAG_BYTES as ECHO_BYTES
from isthmus.align.matching import chunks, in_common, length
from isthmus.align.order import private_order
from isthmus.align.protocol import Found, Pairs, Positions
from isthmus.align.wire import take
from isthmus.crypto import LowOrderPoint, PointWorkers, default_workers, new_secret
from isthmus.crypto.curve25519 import POINT_BYTES, Points
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.session import Session

CHUNK = 8192
"""Ids in a message; part of the protocol, the same at every party."""
LAG = 8
"""Echoes come this many rounds after their points; part of the protocol too."""


def intersect(
    session: Session, ids: Sequence[bytes], sizes: Mapping[str, int], workers: int | None
) -> Found:
    """Find what each pair has in common; see `IntersectionProtocol`."""
    processes = default_workers(len(ids)) if workers is None else workers
    with PointWorkers(processes) as pool:
        if session.is_label_party:
            return _as_hub(session, ids, sizes, pool)
        return _as_spoke(session, ids, sizes[session.label_party], pool)


@dataclass
class Exchange:
    """One partner's stream of points, multiplied as they come."""

    link: Link
    size: int
    secret: bytes
    workers: PointWorkers
    pending: deque[Future[Points]] = field(default_factory=deque)
    doubly: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    echoes: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    def receive(self, chunk: int) -> int:
        """Take the partner's points of this round, if it has any left; how many they were."""
        count = length(self.size, chunk, CHUNK)
        if count:
            points = take(self.link, "align.points", "points", np.uint8, (count, POINT_BYTES))
            self.pending.append(self.workers.multiply(self.secret, points))
        return count

    def next_echo(self) -> npt.NDArray[np.uint8]:
        """The oldest chunk of doubly masked points, uint8 `[n, 16]`.

        Raises:
            BadMessage: there is a point of low order among them.
        """
        try:
            return np.ascontiguousarray(self.pending.popleft().result()[:, :ECHO_BYTES])
        except LowOrderPoint as error:
            raise BadMessage(f"{self.link.partner} sent a point of low order") from error

    def keep(self, most: int) -> None:
        """Keep finished chunks until at most `most` are under way."""
        while len(self.pending) > most:
            self.doubly.append(self.next_echo())


def _as_hub(
    session: Session, ids: Sequence[bytes], sizes: Mapping[str, int], workers: PointWorkers
) -> Found:
    secret, order = new_secret(), private_order(ids)
    partners = [
        Exchange(link, sizes[name], secret, workers) for name, link in session.links.items()
    ]
    own = masked(workers, secret, ids, order)
    rounds = max(
        chunks(len(ids), CHUNK) + LAG, *(chunks(partner.size, CHUNK) for partner in partners)
    )
    with session.progress.task("align", len(ids) + sum(sizes.values())) as task:
        for i in range(rounds):
            if i < chunks(len(ids), CHUNK):
                points = next(own)
                for partner in partners:
                    partner.link.send("align.points", {"points": points})
                task.advance(len(points))
            for partner in partners:
                task.advance(partner.receive(i))
                partner.keep(LAG)
                if echoed := length(len(ids), i - LAG, CHUNK):
                    shape = (echoed, ECHO_BYTES)
                    echo = take(partner.link, "align.echo", "points", np.uint8, shape)
                    partner.echoes.append(echo.copy())
    return _match(partners, order)


def _match(partners: Sequence[Exchange], order: Positions) -> Found:
    """What is in common with each partner."""
    pairs = []
    for partner in partners:
        partner.keep(0)
        here, there = in_common(partner.link, partner.echoes, partner.doubly)
        pairs.append(Pairs(partner.link, partner.size, order[here], there))
    return Found(pairs)


def _as_spoke(session: Session, ids: Sequence[bytes], size: int, workers: PointWorkers) -> Found:
    secret, order = new_secret(), private_order(ids)
    hub = Exchange(session.hub, size, secret, workers)
    own = masked(workers, secret, ids, order)
    with session.progress.task("align", len(ids) + size) as task:
        for i in range(max(chunks(len(ids), CHUNK), chunks(size, CHUNK) + LAG)):
            if i < chunks(len(ids), CHUNK):
                points = next(own)
                hub.link.send("align.points", {"points": points})
                task.advance(len(points))
            task.advance(hub.receive(i))
            if length(size, i - LAG, CHUNK):
                hub.link.send("align.echo", {"points": hub.next_echo()})
    return Found(order=order)


def masked(
    workers: PointWorkers, secret: bytes, ids: Sequence[bytes], order: Positions
) -> Iterator[Points]:
    """The own masked points, a chunk at a time, with enough under way to keep all workers busy."""
    pending: deque[Future[Points]] = deque()
    for start in range(0, len(ids), CHUNK):
        chunk = [ids[i] for i in order[start : start + CHUNK].tolist()]
        pending.append(workers.mask_ids(secret, chunk))
        if len(pending) > 2 * workers.processes:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
