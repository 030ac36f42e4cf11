"""How many ids two parties have in common, without either learning which.

After Agrawal, Evfimievski and Srikant, "Information Sharing Across Private Databases", SIGMOD 2003,
section 5 (intersection size), by Diffie-Hellman on Curve25519 as in `isthmus.align.ecdh`, in a star
around the label party A. With secrets a and b drawn for this run::

    A -> B   align.points   H(x)^a   of A's ids, in an order of A's own
    B -> A   align.points   H(y)^b   of B's ids, in an order of B's own
    B -> A   align.sorted   H(x)^ab  cut to 16 bytes, all of them, sorted by their own values
             A computes H(y)^ba and counts how many values of the two lists are the same
    A -> B   align.count    that number, where it was agreed to share it

**Security model: semi-honest**, as `ecdh`. The order of `align.sorted` depends on nothing but
masked values, so that A cannot tell which of its ids a match is. Each pair learns the sizes of both
sets and the size of their intersection (B: where it is shared), and nothing else; feature parties
learn nothing of each other. A count can say much all the same: a party that comes with a single
real id among made-up ones learns whether the other has it, and so does one that counts twice with
one id more. Agree on who may count, with what tables, and how often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.align.ecdh import CHUNK, Exchange, masked
from isthmus.align.greeting import greet
from isthmus.align.keys import Ids, OnTrouble, read_keys
from isthmus.align.matching import TAG_BYTES, chunks, distinct
from isthmus.align.normalise import Rule, described, normalised
from isthmus.align.order import private_order
from isthmus.align.wire import number, take
from isthmus.crypto import PointWorkers, default_workers, new_secret
from isthmus.errors import BadMessage, JobError
from isthmus.link import Link
from isthmus.session import PATIENCE, Session


@dataclass(frozen=True)
class Overlap:
    """What a party has in common with one partner, in numbers."""

    ours: int
    """Distinct ids of the own table."""
    theirs: int
    """Distinct ids of the partner's."""
    common: int
    """Ids of both."""

    @property
    def rate(self) -> float:
        """The share of the own ids that the partner has."""
        return self.common / self.ours


def count_overlap(
    session: Session,
    ids: Ids,
    *,
    shared: bool = True,
    normalise: Sequence[Rule | None] = (),
    duplicates: OnTrouble = "refuse",
    nulls: OnTrouble = "refuse",
    workers: int | None = None,
) -> Mapping[str, Overlap]:
    """How many ids this party has in common with each partner it has a link to, exactly.

    Every party calls it at the same time with its own ids and the same `shared` and `normalise`.

    Args:
        session: the party's session. The label party has a link to each feature party.
        ids: the own id of each row, as for `align`.
        shared: whether feature parties hear the count, too.
        normalise: as for `align`.
        duplicates: refuse a repeated id, or drop all but its first row.
        nulls: refuse rows without a whole id, or drop them.
        workers: child processes for work on points; 0 for none, None for as many as are worth it.

    Returns:
        By partner: the label party gets a count for each feature party, a feature party the one
        with the label party, or none where it is not shared.

    Raises:
        AlignError: ids are repeated, missing, or of a kind that cannot be an id; a partner is
            about to do something else.
        JobError: there is no partner.
        BadMessage: a partner did not keep to the protocol.
    """
    if not session.links:
        raise JobError(f"{session.me} has no partner to count with")
    table = read_keys(normalised(ids, normalise)[0], repeats=duplicates, nulls=nulls)
    kind = "count, shared" if shared else "count"
    agreed = {"protocol": kind, "keys": "row", "normalise": described(normalise)}
    sizes = greet(session, agreed, table)
    processes = default_workers(len(table.values)) if workers is None else workers
    with PointWorkers(processes) as pool:
        partners = _exchange(session, table.values, sizes, pool)
    found = {}
    for partner in partners:
        common = _finish(session, partner, len(table.values), shared)
        if common is not None:
            found[partner.link.partner] = Overlap(len(table.values), partner.size, common)
    return found


def _exchange(
    session: Session, ids: Sequence[bytes], sizes: Mapping[str, int], pool: PointWorkers
) -> list[Exchange]:
    """Send the own points and multiply those of the partners."""
    secret, order = new_secret(), private_order(ids)
    partners = [Exchange(link, sizes[name], secret, pool) for name, link in session.links.items()]
    own = masked(pool, secret, ids, order)
    with session.progress.task("align", len(ids) + sum(sizes.values())) as task:
        for i in range(chunks(max(len(ids), *sizes.values()), CHUNK)):
            points = next(own, None)
            task.advance(0 if points is None else len(points))
            for partner in partners:
                if points is not None:
                    partner.link.send("align.points", {"points": points})
                task.advance(partner.receive(i))
                partner.keep(2 * pool.processes)
        for partner in partners:
            partner.keep(0)
    return partners


def _finish(session: Session, partner: Exchange, mine: int, shared: bool) -> int | None:
    """The end of the protocol with one partner, on either side."""
    link, theirs = partner.link, np.sort(distinct(partner.link, partner.doubly))
    if not session.is_label_party:
        rows = theirs.view(np.uint8).reshape(-1, TAG_BYTES)
        for start in range(0, len(rows), CHUNK):
            link.send("align.sorted", {"points": rows[start : start + CHUNK]})
        if not shared:
            return None
        most = min(mine, partner.size)
        # The label party may be busy with a partner that has many more ids than we.
        message = link.recv("align.count", timeout=PATIENCE)
        return number(link, message, "common", most, least=0)
    common = len(np.intersect1d(_hear_sorted(link, mine), theirs, assume_unique=True))
    if shared:
        link.send("align.count", header={"common": common})
    return common


def _hear_sorted(link: Link, count: int) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    """Our ids as both have masked them, `[count]` in the order of their values."""
    parts = [
        take(link, "align.sorted", "points", np.uint8, (min(CHUNK, count - start), TAG_BYTES))
        for start in range(0, count, CHUNK)
    ]
    values = np.ascontiguousarray(np.concatenate(parts)).view(f"S{TAG_BYTES}")[:, 0]
    if (values[1:] <= values[:-1]).any():
        raise BadMessage(f"{link.partner} sent align.sorted in another order, or a point twice")
    return values
