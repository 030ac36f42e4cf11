"""Scores of aligned rows by a scorecard whose columns lie at several parties, with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import BadMessage, JobError
from isthmus.link import Link
from isthmus.session import PATIENCE, Session
from isthmus.stats import wire
from isthmus.stats.columns import Floats, Table, frame
from isthmus.stats.scorecard import Scorecard, greatest

Longs = npt.NDArray[np.int64]
_MOST_REASONS = 100


@dataclass(frozen=True, eq=False)
class Scored:
    """What the label party has after `score_rows`."""

    scores: Floats
    """`[rows]`; more is better."""
    reasons: pl.DataFrame
    """A row for each reason: `row`, `rank` from 1, `party`, `column`, and `lost`, the points
    that the row has less than it could have by that column."""


@dataclass(frozen=True, eq=False)
class _Part:
    """One party's part of the scores."""

    party: str
    names: tuple[str, ...]
    points: Floats
    """`[rows]`."""
    columns: Longs
    """Numbers of the columns that cost the most, or -1, `[rows, reasons]`."""
    lost: Floats
    """Points, `[rows, reasons]`."""


def score_rows(
    session: Session, card: Scorecard, table: Table, *, reasons: int = 3, names: bool = True
) -> Scored | None:
    """Score aligned rows with all parties' parts of a card. Every party calls it at the same time.

    The label party learns of each row the sum of each partner's points, and with `reasons` the
    partner's columns (by name, or by number without `names`) that cost the row the most, and how
    much. Where columns are few, points can tell bins. Feature parties learn nothing.

    Args:
        session: the party's session.
        card: the own part.
        table: the own columns, rows in the aligned order.
        reasons: columns that are named for each row; the same at all parties, 0 for none.
        names: at a feature party, whether its columns go by their names.

    Returns:
        Scores and reasons at the label party; None at others.

    Raises:
        DataError: a column is missing, or the tables have different numbers of rows.
        JobError: the parties want different things, or the card's base is at the wrong party.
        BadMessage: a partner did not keep to the protocol.
    """
    if session.is_label_party != (card.base is not None):
        raise JobError(
            f"the base of the card belongs to the label party, {session.label_party}",
            mend="Give `scorecard` the intercept there, and at no other party.",
        )
    if not 0 <= reasons <= _MOST_REASONS:
        raise JobError(f"{reasons} reasons for a row")
    mine = _own(session.me, card, table, reasons, names or session.is_label_party)
    parts = [mine]
    for link in session.links.values():
        same = {"reasons": reasons}
        theirs = wire.greet(link, "score.hello", mine.points.size, len(mine.names), same)
        if not session.is_label_party:
            _send(link, mine)
            return None
        parts.append(_received(link, mine.points.size, theirs, reasons))
    assert card.base is not None
    scores = card.base + np.sum([part.points for part in parts], axis=0)
    return Scored(scores, _reasons(parts, reasons))


def _own(party: str, card: Scorecard, table: Table, reasons: int, names: bool) -> _Part:
    columns, lost = card.reasons(table, reasons)
    if names:
        shown = tuple(column.bins.column for column in card.columns)
    else:
        shown = tuple(str(number) for number in range(len(card.columns)))
    rows = frame(table).height
    points = card.points(table).sum(axis=1) if card.columns else np.zeros(rows)
    return _Part(party, shown, points, columns, lost)


def _send(link: Link, part: _Part) -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "names": wire.shown_names(part.names),
        "points": part.points,
        "columns": part.columns,
        "lost": part.lost,
    }
    link.send("score.points", tensors)


def _received(link: Link, rows: int, count: int, reasons: int) -> _Part:
    message = link.recv("score.points", timeout=PATIENCE)
    names = wire.names(link, message, count)
    points = wire.tensor(link, message, "points", np.float64, (rows,))
    columns = wire.tensor(link, message, "columns", np.int64, (rows, reasons))
    lost = wire.tensor(link, message, "lost", np.float64, (rows, reasons))
    fits = (columns >= -1) & (columns < count) & (lost >= 0) & ((columns >= 0) | (lost == 0))
    if not fits.all():
        raise BadMessage(f"{link.partner} sent score.points with impossible reasons")
    return _Part(link.partner, names, points, columns, lost)


def _reasons(parts: list[_Part], most: int) -> pl.DataFrame:
    """The greatest losses of each row over all parties, at most `most`."""
    lost = np.hstack([part.lost for part in parts])
    place, size = greatest(lost, most)
    party = np.repeat(np.arange(len(parts)), most)
    column = np.hstack([part.columns for part in parts])
    row, rank = np.nonzero(place >= 0)
    picked = place[row, rank]
    # The columns of all parties one behind the other.
    first = np.cumsum([0, *(len(part.names) for part in parts)])
    owners = [part.party for part in parts for _ in part.names]
    names = [name for part in parts for name in part.names]
    which = first[party[picked]] + column[row, picked]
    return pl.DataFrame(
        {
            "row": row.astype(np.int64),
            "rank": rank.astype(np.int64) + 1,
            "party": pl.Series(owners, dtype=pl.String).gather(which),
            "column": pl.Series(names, dtype=pl.String).gather(which),
            "lost": size[row, rank],
        }
    )
