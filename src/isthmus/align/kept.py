"""Union alignment: all rows of the label party, of which a feature party has some.

The parties find what each feature party has in common with the label party by the protocol of their
choice, and compare it pair by pair. Then the label party draws an order of its samples and tells
each partner, for each sample, which common id it has, or -1 for none::

    A -> B   align.common   a bit for each of B's ids: has A it?
    both     align.digest   of the agreed order of the ids common to A and B
    A -> B   align.samples  for each sample the position of its id in that order (int32), or -1

What B learns: which of its own ids A has (in an intersection of three parties or more it would
learn less: those that all have), and how many samples A has; nothing about a sample that it does
not have, since the order is a permutation that B cannot undo. What A learns is what the protocol
lets it learn anyhow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from isthmus.align.entities import draw_samples, receive_samples, send_positions
from isthmus.align.keys import Keys
from isthmus.align.order import agree_order
from isthmus.align.protocol import Found, Pairs, Positions
from isthmus.align.telling import by_partner, common_to_all, hear_common, tell
from isthmus.errors import AlignError
from isthmus.session import Session


@dataclass(frozen=True, eq=False)
class Kept:
    """The samples: the label party's rows."""

    rows: npt.NDArray[np.int64]
    """int64 `[samples]`: the own row of each sample, -1 where there is none."""
    matched: Positions
    """int64 `[c]`: which of the own distinct ids a partner has too."""
    common: int
    """How many ids all parties have; at a feature party, it and the label party."""
    pairwise: dict[str, int]
    """At the label party: how many ids it has in common with each feature party."""


def keep_label_rows(session: Session, table: Keys, found: Found, *, events: bool) -> Kept:
    """The samples of all rows of the label party.

    Args:
        session: the party's session.
        table: the own ids.
        found: what the protocol found.
        events: whether an id may have several rows at the label party.

    Raises:
        AlignError: a feature party has no id in common with the label party, or found others.
        BadMessage: a partner did not keep to the protocol.
    """
    if not session.is_label_party:
        return _hear(session, table, found, events)
    for pair in found.pairs:
        tell(pair, np.ones(len(pair.here), dtype=bool))
    rows, ids = draw_samples(session, table, events=events)
    for pair in found.pairs:
        _send_positions(session, table, pair, ids)
    matched = np.unique(np.concatenate([pair.here for pair in found.pairs]))
    common = int(common_to_all(found.pairs, len(table.values)).sum())
    return Kept(rows, matched, common, by_partner(found.pairs))


def _hear(session: Session, table: Keys, found: Found, events: bool) -> Kept:
    common = hear_common(session.hub, found)
    if not len(common):
        raise _nothing_common(session, session.label_party)
    common = common[agree_order(session, _values(table, common))]
    rows = receive_samples(
        session, table.first_row[common], least=-1, most=None if events else len(common)
    )
    return Kept(rows, common, len(common), {})


def _send_positions(session: Session, table: Keys, pair: Pairs, ids: Positions) -> None:
    """Tell a partner which common id each sample has."""
    partner = pair.link.partner
    if not len(pair.here):
        raise _nothing_common(session, partner)
    alone = replace(session, links={partner: pair.link})
    common = pair.here[agree_order(alone, _values(table, pair.here))]
    position = np.full(len(table.values), -1, dtype=np.int64)
    position[common] = np.arange(len(common))
    send_positions(pair.link, position[ids])


def _values(table: Keys, which: Positions) -> list[bytes]:
    return [table.values[i] for i in which.tolist()]


def _nothing_common(session: Session, partner: str) -> AlignError:
    return AlignError(
        f"{session.me} and {partner} have no id in common",
        mend="Is it the same key column on both sides, written in the same way?",
    )
