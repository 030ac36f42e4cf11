"""The correlations of all parties' columns, by encrypted inner products, and what comes of it.

Each party standardises its own columns (mean 0, deviation of the population 1). For each two
parties, sums of products of their columns go to the label party A and to nobody else, by encrypted
products whose slots are masked (`crypto.side_by_side`, and `pairwise` for who sends what). Divided
by the rows, they are the correlations between the two. Precision: `words`.

**Security model: semi-honest** (and see `crypto.he` on noise). What each side learns:

- A: names of the others' columns (numbers, if they want), and all correlations. Not means or
  deviations.
- Feature parties: how many columns each party has, and without `share` nothing more; with it, the
  names and the same matrix.

Correlations say something of rows where there are few: with as many columns as rows, who knows
these columns could solve for another's values; a 0/1 column of some hundreds of rows may be found
from fewer, as each sum is exact to 30 bits. So a feature party refuses unless there are
`ROWS_A_COLUMN` rows for each column of the others, and so does the label party with `share`. A
label party that cheats and makes up columns can mark single rows, which no such protocol prevents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage, DataError, JobError
from isthmus.session import PATIENCE, Session
from isthmus.stats import pairwise, storing, wire
from isthmus.stats.columns import Floats, Table, frame, matrix
from isthmus.stats.storing import STRICT
from isthmus.stats.words import Words

Longs = npt.NDArray[np.int64]
ROWS_A_COLUMN = 10
"""Rows that a party asks for each column of the others."""
DIGITS = 9
"""Decimals of a correlation, unless less is asked for."""
_NEAR = 1.001
"""Of a correlation, at most: with few digits, 1 may be passed."""


@dataclass(frozen=True)
class Correlation:
    """Correlations of all columns, the label party's first."""

    rows: int
    parties: tuple[str, ...]
    """Who has each column."""
    columns: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    """`[columns, columns]`, symmetric, 1 on the diagonal."""
    __pydantic_config__ = STRICT

    def array(self) -> Floats:
        """The matrix, float64 `[columns, columns]`."""
        return np.array(self.matrix, np.float64).reshape(len(self.columns), len(self.columns))

    def vif(self) -> Floats:
        """Variance inflation factor of each column, float64 `[columns]`.

        1 / (1 - R^2) of the column regressed on all others: the diagonal of the inverse matrix.
        Infinite for all columns where the columns determine one another to numerical precision.
        """
        found = self.array()
        if np.linalg.cond(found) > 1e10:
            return np.full(len(found), np.inf)
        factors = np.diag(np.linalg.inv(found))
        # Below 1 only by the rounding of correlations that determine one another.
        return factors.copy() if factors.min() > 1 - 1e-6 else np.full(len(found), np.inf)

    @property
    def is_sound(self) -> bool:
        """Whether the fields agree with one another: a file may say anything."""
        size = len(self.columns)
        square = len(self.matrix) == size and all(len(row) == size for row in self.matrix)
        if not (square and len(self.parties) == size > 0 and self.rows > 0):
            return False
        return len({*zip(self.parties, self.columns, strict=True)}) == size and _plausible(
            self.array()
        )

    def to_json(self) -> str:
        """For a file."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> Correlation:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        return storing.parsed(Correlation, text, "correlation", lambda found: found.is_sound)

    def save(self, path: str | Path) -> None:
        """Write it to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: str | Path) -> Correlation:
        """What `save` wrote.

        Raises:
            StorageError: the file cannot be read, or is something else.
        """
        return storing.load(path, Correlation.from_json)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Own columns standardised."""

    names: tuple[str, ...]
    values: Floats
    """`[rows, columns]`, of mean 0 and deviation 1."""
    mean: Floats
    std: Floats
    """Of the population, `[columns]`."""


def standardised(table: Table) -> Scaled:
    """The own columns, all numbers without gaps.

    Raises:
        DataError: a column is no number, has gaps, or does not vary.
    """
    names, values = matrix(table)
    mean, std = values.mean(axis=0), values.std(axis=0)
    for name, m, s in zip(names, mean, std, strict=True):
        # A constant such as 0.1 has a deviation of rounding.
        if s <= 1e-12 * abs(m):
            raise DataError(f"column {name!r} does not vary", mend="Leave it out.")
    return Scaled(names, (values - mean) / std, mean, std)


def correlation(
    session: Session,
    table: Table,
    *,
    share: bool = True,
    names: bool = True,
    digits: int = DIGITS,
    threads: int = 1,
) -> Correlation | None:
    """The correlations of all parties' columns; see the module.

    All parties call it at the same time with their own aligned columns.

    Args:
        session: the party's session.
        table: numbers without gaps, rows in the aligned order.
        share: whether feature parties get the matrix too; the same at all parties.
        names: at a feature party, whether its columns go by their names, or by numbers.
        digits: decimals that a correlation of two parties' columns is right to, from 1; the same at
            all parties. Five or fewer can do with half the work and half the bytes. `words` has
            what can be had at most: nine at 30,000 rows, and eight at a million.
        threads: that SEAL may use.

    Returns:
        The matrix; at a feature party None without `share`. A label party without partners gets
        that of its own columns.

    Raises:
        DataError: the tables have different numbers of rows, too few of them, or a column that
            cannot be used.
        JobError: the parties want different things.
        BadMessage: a partner did not keep to the protocol.
    """
    scaled = standardised(frame(table))
    return correlation_of(session, scaled, share=share, names=names, digits=digits, threads=threads)


def correlation_of(
    session: Session,
    scaled: Scaled,
    *,
    share: bool = True,
    names: bool = True,
    digits: int = DIGITS,
    threads: int = 1,
) -> Correlation | None:
    """`correlation` of columns that are standardised already."""
    rows, own = scaled.values.shape
    if digits < 1:
        raise JobError(f"correlations to {digits} decimals")
    if session.is_label_party and not session.links:
        return Correlation(rows, (session.me,) * own, scaled.names, _tuples(_inner(scaled)))
    same = {"share": share, "digits": digits}
    if session.is_label_party:
        counts = _counts_at_label_party(session, rows, own, same)
    else:
        counts = _counts_at_feature_party(session, rows, own, same)
    if share or not session.is_label_party:
        _enough(rows, session.me, counts)
    words = Words.of(rows, digits)
    mine = pairwise.Table(words.split(scaled.values), counts, threads)
    if session.is_label_party:
        return _as_label_party(session, scaled, mine, words, share)
    return _as_feature_party(session, scaled, mine, share, names)


def _counts_at_label_party(
    session: Session, rows: int, own: int, same: Mapping[str, object]
) -> dict[str, int]:
    counts = {session.me: own}
    for party in session.feature_parties:
        link = session.link(party)
        counts[party] = wire.greet(link, "correlation.hello", rows, own, same)
        if not counts[party]:
            raise BadMessage(f"{party} sent correlation.hello without columns")
    told = np.array(list(counts.values()), np.int64)
    for party in session.feature_parties:
        session.link(party).send("correlation.columns", {"counts": told})
    return counts


def _counts_at_feature_party(
    session: Session, rows: int, own: int, same: Mapping[str, object]
) -> dict[str, int]:
    link = session.hub
    theirs = wire.greet(link, "correlation.hello", rows, own, same)
    message = link.recv("correlation.columns", timeout=PATIENCE)
    parties = (session.label_party, *session.feature_parties)
    found = wire.tensor(link, message, "counts", np.int64, (len(parties),))
    counts = dict(zip(parties, found.tolist(), strict=True))
    fits = ((found >= 1) & (found <= wire.MOST_COLUMNS)).all()
    if not fits or counts[session.me] != own or counts[link.partner] != theirs:
        raise BadMessage(f"{link.partner} sent impossible correlation.columns")
    return counts


def _enough(rows: int, me: str, counts: Mapping[str, int]) -> None:
    others = {party: count for party, count in counts.items() if party != me}
    if rows < ROWS_A_COLUMN * sum(others.values()):
        raise DataError(
            f"{rows} rows are too few for {sum(others.values())} columns of {', '.join(others)}: "
            f"the correlations would say too much of single rows",
            mend=f"Take {ROWS_A_COLUMN} rows or more for each of these columns.",
        )


# ----------------------------------------------------------------------------- the two sides


def _as_label_party(
    session: Session, scaled: Scaled, mine: pairwise.Table, words: Words, share: bool
) -> Correlation:
    rows = len(scaled.values)
    sums = pairwise.at_label_party(session, mine)
    places, size = _places(mine.counts)
    found = np.empty((size, size))
    found[places[session.me], places[session.me]] = _inner(scaled)
    shown = {session.me: scaled.names}
    for party in session.feature_parties:
        link = session.link(party)
        message = link.recv("correlation.own", timeout=PATIENCE)
        count = mine.counts[party]
        shown[party] = wire.names(link, message, count)
        inner = wire.tensor(link, message, "matrix", np.float64, (count, count))
        if not _plausible(inner):
            raise BadMessage(f"{party} sent what cannot be correlations")
        found[places[party], places[party]] = inner
    for (holder, owner), parts in sums.items():
        block = words.joined(parts) / rows
        if np.abs(block).max() > _NEAR:
            who = owner if holder == session.me else f"{holder} or {owner}"
            raise BadMessage(f"{who} sent what cannot be correlations")
        found[places[owner], places[holder]] = block
        found[places[holder], places[owner]] = block.T
    if share:
        _share(session, shown, found)
    owners = tuple(party for party, count in mine.counts.items() for _ in range(count))
    return Correlation(
        rows, owners, tuple(n for part in shown.values() for n in part), _tuples(found)
    )


def _as_feature_party(
    session: Session, scaled: Scaled, mine: pairwise.Table, share: bool, names: bool
) -> Correlation | None:
    link, (rows, own) = session.hub, scaled.values.shape
    pairwise.at_feature_party(session, mine)
    shown = scaled.names if names else tuple(str(number) for number in range(own))
    inner = _inner(scaled)
    link.send("correlation.own", {"names": wire.shown_names(shown), "matrix": inner})
    if not share:
        return None
    places, size = _places(mine.counts)
    message = link.recv("correlation.shared", timeout=PATIENCE)
    found = wire.tensor(link, message, "matrix", np.float64, (size, size))
    here = places[session.me]
    if not _plausible(found) or not np.allclose(found[here, here], inner, atol=1e-9):
        raise BadMessage(f"{link.partner} sent what cannot be correlations")
    columns: list[str] = []
    for party, count in mine.counts.items():
        if party == session.me:
            columns += scaled.names
        else:
            told = link.recv("correlation.names", timeout=PATIENCE)
            columns += wire.names(link, told, count)
    owners = tuple(party for party, count in mine.counts.items() for _ in range(count))
    return Correlation(rows, owners, tuple(columns), _tuples(found))


def _share(session: Session, shown: Mapping[str, tuple[str, ...]], found: Floats) -> None:
    for party in session.feature_parties:
        link = session.link(party)
        link.send("correlation.shared", {"matrix": found})
        for other, names in shown.items():
            if other != party:
                link.send("correlation.names", {"names": wire.shown_names(names)})


def _places(counts: Mapping[str, int]) -> tuple[dict[str, slice], int]:
    """Where each party's columns are in the matrix, and how many there are in all."""
    ends = np.cumsum(list(counts.values())).tolist()
    starts = [0, *ends[:-1]]
    return {p: slice(a, b) for p, a, b in zip(counts, starts, ends, strict=True)}, ends[-1]


def _inner(scaled: Scaled) -> Floats:
    found: Floats = scaled.values.T @ scaled.values / len(scaled.values)
    return found


def _plausible(found: Floats) -> bool:
    """Whether a matrix could be that of correlations."""
    return bool(
        np.abs(found).max() <= _NEAR
        and np.allclose(found, found.T, atol=1e-9)
        and np.allclose(np.diag(found), 1, atol=1e-6)
    )


def _tuples(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
