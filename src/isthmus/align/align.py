"""`align`: both sides' tables in, the common rows in one agreed order out.

What crosses, whatever the protocol: the number of distinct ids and of key columns, a digest of the
agreed order, and with entity keys, or where all of the label party's rows are samples, the common
id of each sample. The intersection itself is found by
one of `PROTOCOLS`, each of which says in its own module what it lets a party learn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from isthmus.align.alignment import Alignment, AlignmentCounts
from isthmus.align.ecdh import intersect as ecdh
from isthmus.align.entities import receive_samples, send_samples
from isthmus.align.greeting import greet
from isthmus.align.kept import Kept, keep_label_rows
from isthmus.align.keys import Ids, Keys, OnTrouble, read_keys
from isthmus.align.kkrt import intersect as kkrt
from isthmus.align.normalise import Rule, described, normalised
from isthmus.align.order import agree_order
from isthmus.align.protocol import Found, IntersectionProtocol
from isthmus.align.rr22 import intersect as rr22
from isthmus.align.rr22_spu import find_spu
from isthmus.align.rsa_blind import intersect as rsa_blind
from isthmus.align.suspicion import suspicions
from isthmus.align.telling import Match, settle
from isthmus.errors import AlignError, JobError
from isthmus.session import Session

PROTOCOLS: Mapping[str, IntersectionProtocol] = MappingProxyType(
    {"ecdh": ecdh, "kkrt": kkrt, "rr22": rr22, "rsa-blind": rsa_blind}
)
"""The private set intersection protocols by name."""


def align(
    session: Session,
    ids: Ids,
    *,
    protocol: str = "ecdh",
    keys: Literal["row", "entity"] = "row",
    rows: Literal["common", "label"] = "common",
    normalise: Sequence[Rule | None] = (),
    duplicates: OnTrouble = "refuse",
    nulls: OnTrouble = "refuse",
    workers: int | None = None,
) -> Alignment:
    """Find the samples that all parties have, in an order that tells nothing about the tables.

    Every party calls it at the same time with its own ids and the same `protocol`, `keys`, `rows`
    and `normalise`.

    Args:
        session: the party's session. The label party has a link to each feature party.
        ids: the own id of each row: integers, text, or several columns as one key.
        protocol: one of `PROTOCOLS`.
        keys: "row": an id is one row at every party, and a common id is a sample. "entity": an id
            may have many rows (events) at the label party, each of which is a sample, and one row
            (a profile) at a feature party, whose row then repeats. Feature parties learn the number
            of events of each common entity.
        rows: "common": the samples are the rows of ids that all parties have. "label": they are all
            rows of the label party, and a feature party has row -1 for those it does not have.
            Feature parties then learn which of their ids the label party has, and how many rows it
            has.
        normalise: how each column of the key is written alike at all parties before it is compared,
            None for as it is; nothing at all where it is empty.
        duplicates: where ids must be unique, refuse a repeated one, or drop all but its first row.
        nulls: refuse rows without a whole id, or drop them.
        workers: child processes for work on points (`ecdh`) or threads (`rsa-blind`); 0 for none,
            None for as many as are worth it.

    Raises:
        AlignError: ids are repeated, missing, or of a kind that cannot be an id; the parties ask
            for different things; nothing is common to all.
        JobError: there is no such protocol or option, or no partner, or a package is missing.
        BadMessage: a partner did not keep to the protocol.
    """
    if not session.links:
        raise JobError(f"{session.me} has no partner to align with")
    _check_choice("protocol", protocol, PROTOCOLS)
    if protocol == "rr22":
        find_spu()
    _check_choice("keys", keys, ("row", "entity"))
    _check_choice("rows", rows, ("common", "label"))
    _check_choice("duplicates", duplicates, ("refuse", "drop"))
    _check_choice("nulls", nulls, ("refuse", "drop"))
    events = keys == "entity" and session.is_label_party
    ids, told = normalised(ids, normalise)
    table = read_keys(ids, repeats="keep" if events else duplicates, nulls=nulls)
    agreed = {"protocol": protocol, "keys": keys, "rows": rows, "normalise": described(normalise)}
    sizes = greet(session, agreed, table)
    found = PROTOCOLS[protocol](session, table.values, sizes, workers)
    if rows == "label":
        kept = keep_label_rows(session, table, found, events=keys == "entity")
    else:
        kept = _common_rows(session, table, found, sizes, keys)
    counts = AlignmentCounts(
        rows=table.rows,
        nulls=table.nulls,
        duplicates=0 if events else table.repeats,
        keys=len(table.values),
        partners=sizes,
        pairwise=kept.pairwise,
        common=kept.common,
        samples=len(kept.rows),
        unmatched=int((kept.rows < 0).sum()),
    )
    warnings = (*told, *suspicions(table, kept.matched, counts))
    return Alignment(kept.rows, kept.common, counts, warnings)


def _common_rows(
    session: Session, table: Keys, found: Found, sizes: Mapping[str, int], keys: str
) -> Kept:
    """The samples of the ids that all parties have."""
    match = settle(session, found, len(table.values))
    if not len(match.common):
        raise _nothing_common(session, table, sizes, match)
    common = match.common[agree_order(session, [table.values[i] for i in match.common.tolist()])]
    if keys == "row":
        rows = table.first_row[common]
    elif session.is_label_party:
        rows = send_samples(session, table, common)
    else:
        rows = receive_samples(session, table.first_row[common])
    return Kept(rows, match.common, len(common), dict(match.pairwise))


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise JobError(f"align has no {name} {value!r}; there is {', '.join(choices)}")


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
