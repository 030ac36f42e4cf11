"""`align`: both sides' tables in, the common rows in one agreed order out.

What crosses, whatever the protocol: the number of distinct ids and of key columns, a digest of the
agreed order, and with entity keys the entity of each sample. The intersection itself is found by
one of `PROTOCOLS`, each of which says in its own module what it lets a party learn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

from isthmus.align.alignment import Alignment, AlignmentCounts
from isthmus.align.ecdh import intersect as ecdh
from isthmus.align.entities import receive_samples, send_samples
from isthmus.align.keys import Ids, Keys, OnTrouble, read_keys
from isthmus.align.kkrt import intersect as kkrt
from isthmus.align.order import agree_order
from isthmus.align.protocol import IntersectionProtocol
from isthmus.align.rsa_blind import intersect as rsa_blind
from isthmus.align.suspicion import suspicions
from isthmus.align.telling import Match, settle
from isthmus.align.wire import number
from isthmus.errors import AlignError, JobError
from isthmus.link import Link, Message
from isthmus.session import PATIENCE, Session

PROTOCOLS: Mapping[str, IntersectionProtocol] = MappingProxyType(
    {"ecdh": ecdh, "kkrt": kkrt, "rsa-blind": rsa_blind}
)
"""The private set intersection protocols by name."""

_MOST_IDS = 2**31 - 1


def align(
    session: Session,
    ids: Ids,
    *,
    protocol: str = "ecdh",
    keys: Literal["row", "entity"] = "row",
    duplicates: OnTrouble = "refuse",
    nulls: OnTrouble = "refuse",
    workers: int | None = None,
) -> Alignment:
    """Find the samples that all parties have, in an order that tells nothing about the tables.

    Every party calls it at the same time with its own ids and the same `protocol` and `keys`.

    Args:
        session: the party's session. The label party has a link to each feature party.
        ids: the own id of each row: integers, text, or several columns as one key.
        protocol: one of `PROTOCOLS`.
        keys: "row": an id is one row at every party, and a common id is a sample. "entity": an id
            may have many rows (events) at the label party, each of which is a sample, and one row
            (a profile) at a feature party, whose row then repeats. Feature parties learn the number
            of events of each common entity.
        duplicates: where ids must be unique, refuse a repeated one, or drop all but its first row.
        nulls: refuse rows without a whole id, or drop them.
        workers: child processes for work on points (`ecdh` alone has such); 0 for none, None for as
            many as are worth it.

    Raises:
        AlignError: ids are repeated, missing, or of a kind that cannot be an id; the parties ask
            for different things; nothing is common to all.
        JobError: there is no such protocol or option, or no partner.
        BadMessage: a partner did not keep to the protocol.
    """
    if not session.links:
        raise JobError(f"{session.me} has no partner to align with")
    _check_choice("protocol", protocol, PROTOCOLS)
    _check_choice("keys", keys, ("row", "entity"))
    _check_choice("duplicates", duplicates, ("refuse", "drop"))
    _check_choice("nulls", nulls, ("refuse", "drop"))
    events = keys == "entity" and session.is_label_party
    table = read_keys(ids, repeats="keep" if events else duplicates, nulls=nulls)
    sizes = _greet(session, protocol, keys, table)
    found = PROTOCOLS[protocol](session, table.values, sizes, workers)
    match = settle(session, found, len(table.values))
    if not len(match.common):
        raise _nothing_common(session, table, sizes, match)
    common = match.common[agree_order(session, [table.values[i] for i in match.common.tolist()])]
    if events:
        rows = send_samples(session, table, common)
    elif keys == "entity":
        rows = receive_samples(session, table.first_row[common])
    else:
        rows = table.first_row[common]
    counts = AlignmentCounts(
        rows=table.rows,
        nulls=table.nulls,
        duplicates=0 if events else table.repeats,
        keys=len(table.values),
        partners=sizes,
        pairwise=match.pairwise,
        common=len(common),
        samples=len(rows),
    )
    return Alignment(rows, len(common), counts, suspicions(table, match.common, counts))


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise JobError(f"align has no {name} {value!r}; there is {', '.join(choices)}")


def _greet(session: Session, protocol: str, keys: str, table: Keys) -> dict[str, int]:
    """Tell the partners what we are about to do and hear the same; how many ids each has."""
    mine = {"protocol": protocol, "keys": keys, "columns": table.parts}
    for link in session.links.values():
        link.send("align.hello", header={**mine, "ids": len(table.values)})
    sizes = {}
    for partner, link in session.links.items():
        # The partner may still be reading a table much longer than ours.
        message = link.recv("align.hello", timeout=PATIENCE)
        for name, value in mine.items():
            _check_same(link, message, name, value)
        sizes[partner] = number(link, message, "ids", _MOST_IDS)
    return sizes


def _check_same(link: Link, message: Message, name: str, mine: object) -> None:
    theirs = message.header.get(name)
    if theirs != mine:
        shown = theirs if isinstance(theirs, int) else str(theirs)[:40]
        raise AlignError(
            f"{link.partner} aligns with {name} = {shown!r}, {link.me} with {mine!r}",
            mend="Give both sides the same job.",
        )


def _nothing_common(
    session: Session, table: Keys, sizes: Mapping[str, int], match: Match
) -> AlignError:
    counts = ", ".join(f"{partner} with {size}" for partner, size in sizes.items())
    pairs = ", ".join(f"{count} with {partner}" for partner, count in match.pairwise.items())
    several = f" (in common pair by pair: {pairs})" if len(match.pairwise) > 1 else ""
    return AlignError(
        f"no id is common to all: {session.me} came with {len(table.values)} ids, "
        f"{counts}{several}",
        mend="Is it the same key column on every side, written in the same way? Look for leading "
        "zeros, spaces, upper and lower case, and numbers that became text like 7.0.",
    )
