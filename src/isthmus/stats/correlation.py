r"""The correlation of all parties' columns, by an encrypted inner product, and what comes of it.

Each party standardises its own columns (mean 0, deviation of the population 1). The label party A
encrypts its columns r, a feature party B multiplies with its own x and sends back masked products
whose sums A can open (`crypto.products`): x' r / n is the block of correlations between the two.

**Precision.** Standardised numbers go as whole numbers in two words, z = (h + l 2^-g) 2^-f with
h = round(z 2^f), |l| <= 2^(g - 1). For two columns, z z' summed is the sum of h h' and 2^-g times
the sum of h l' + l h', both exact; what is left out, l l', is below n 2^-2(f + 1) in all. f is the
greatest for which no sum can pass half the modulus by Cauchy and Schwarz, whatever the columns:
sums of squares of z are n, so |sum h h'| is about n 2^2f. With g = f, what is left out and rounded
is below 2^(1 - 2f) of a correlation. For 30,000 rows f is 17.

**Security model: semi-honest** (and see `crypto.he` on noise). What each side learns:

- A: names of B's columns (numbers, if B wants), the correlations among B's columns, and those
  between B's and its own. Not means or deviations.
- B: nothing more without `share`; with it, the same matrix.
- Others: nothing. With several feature parties there are no correlations between two of them, so
  there may be one only.

Correlations say something of rows where there are few: with as many own columns as rows, A could
solve for B's values. So B refuses unless there are `ROWS_A_COLUMN` rows for each column of A; a
label party that cheats and makes up columns can mark single rows, which no such protocol prevents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isthmus.crypto import he
from isthmus.crypto.products import Shape, encrypted, masked, opened
from isthmus.errors import BadMessage, DataError, JobError
from isthmus.link import Link
from isthmus.session import PATIENCE, Session
from isthmus.stats import storing, wire
from isthmus.stats.columns import Floats, Table, frame, matrix
from isthmus.stats.storing import STRICT

Longs = npt.NDArray[np.int64]
ROWS_A_COLUMN = 10
"""Rows that a feature party asks for each column of the label party."""
_NEAR = 1 + 1e-6
"""Of a correlation, at most."""
_TOGETHER = 16
"""Answers in a message, about."""


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
        return np.diag(np.linalg.inv(found)).copy()

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

    def save(self, path: Path) -> None:
        """Write it to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: Path) -> Correlation:
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
    threads: int = 1,
) -> Correlation | None:
    """The correlations of both parties' columns; see the module.

    Both parties call it at the same time with their own aligned columns.

    Args:
        session: of the label party, or of its only feature party.
        table: numbers without gaps, rows in the aligned order.
        share: whether the feature party gets the matrix too; the same on both sides.
        names: at the feature party, whether its columns go by their names, or by numbers.
        threads: that SEAL may use.

    Returns:
        The matrix; at the feature party None without `share`. A label party without partners gets
        that of its own columns.

    Raises:
        DataError: the tables have different numbers of rows, too few of them, or a column that
            cannot be used.
        JobError: the parties want different things, or there are more than two.
        BadMessage: the partner did not keep to the protocol.
    """
    scaled = standardised(frame(table))
    return correlation_of(session, scaled, share=share, names=names, threads=threads)


def correlation_of(
    session: Session, scaled: Scaled, *, share: bool = True, names: bool = True, threads: int = 1
) -> Correlation | None:
    """`correlation` of columns that are standardised already."""
    rows, own = scaled.values.shape
    if session.is_label_party and not session.links:
        return _joined(session.me, scaled, "", (), np.empty((0, own)), np.empty((0, 0)))
    if len(session.parties) != 2:
        raise JobError(
            f"correlation is between two parties, and there are {len(session.parties)}",
            mend="Run it with one partner at a time.",
        )
    (link,) = session.links.values()
    theirs = wire.greet(link, "correlation.hello", rows, own, {"share": share})
    words = _Words.of(rows)
    if not theirs:
        raise BadMessage(f"{link.partner} sent correlation.hello without columns")
    if session.is_label_party:
        _enough(rows, own, session.me)
        return _as_label_party(session.me, link, scaled, theirs, words, share, threads)
    _enough(rows, theirs, link.partner)
    return _as_feature_party(session.me, link, scaled, theirs, words, share, names, threads)


def _enough(rows: int, columns: int, party: str) -> None:
    if rows < ROWS_A_COLUMN * columns:
        raise DataError(
            f"{rows} rows are too few for {columns} columns of {party}: "
            f"the correlations would say too much of single rows",
            mend=f"Take {ROWS_A_COLUMN} rows or more for each of its columns.",
        )


# ----------------------------------------------------------------------------- the two parties


def _as_label_party(
    me: str, link: Link, scaled: Scaled, theirs: int, words: _Words, share: bool, threads: int
) -> Correlation:
    rows, own = scaled.values.shape
    key = he.HeKey(threads)
    link.send("correlation.key", {"key": key.public()})
    sums = np.empty((2, theirs, own), np.int64)
    shapes = Shape(rows, theirs), Shape(2 * rows, theirs)
    for column in range(own):
        high, low = words.split(scaled.values[:, column])
        for word, r in enumerate((high, np.concatenate([high, low]))):
            # One question at a time: answers to more could fill the window before they are read.
            link.send("correlation.column", he.pack(encrypted(key, shapes[word], r)))
            sums[word, :, column] = _opened(link, key, shapes[word])
    block = words.joined(sums) / rows
    message = link.recv("correlation.own", timeout=PATIENCE)
    names = wire.names(link, message, theirs)
    inner = wire.tensor(link, message, "matrix", np.float64, (theirs, theirs))
    _check(link, block, inner)
    found = _joined(me, scaled, link.partner, names, block, inner)
    if share:
        mine = scaled.values.T @ scaled.values / rows
        shown = wire.shown_names(scaled.names)
        link.send("correlation.shared", {"names": shown, "block": block, "matrix": mine})
    return found


def _as_feature_party(
    me: str, link: Link, scaled: Scaled, theirs: int, words: _Words, share: bool, names: bool,
    threads: int,
) -> Correlation | None:  # fmt: skip
    rows, own = scaled.values.shape
    data = link.recv("correlation.key", timeout=PATIENCE)
    public = he.HePublic(wire.tensor_of_any_length(link, data, "key", np.uint8), threads)
    high, low = words.split(scaled.values)
    shapes = Shape(rows, own), Shape(2 * rows, own)
    for _ in range(theirs):
        for shape, x in zip(shapes, (high, np.concatenate([low, high])), strict=True):
            asked = link.recv("correlation.column", timeout=PATIENCE)
            _answer(link, public, shape, he.unpack(public, dict(asked.tensors), shape.asked), x)
    inner = scaled.values.T @ scaled.values / rows
    shown = scaled.names if names else tuple(str(number) for number in range(own))
    link.send("correlation.own", {"names": wire.shown_names(shown), "matrix": inner})
    if not share:
        return None
    message = link.recv("correlation.shared", timeout=PATIENCE)
    their_names = wire.names(link, message, theirs)
    block = wire.tensor(link, message, "block", np.float64, (own, theirs))
    outer = wire.tensor(link, message, "matrix", np.float64, (theirs, theirs))
    _check(link, block, outer)
    values = np.block([[outer, block.T], [block, inner]])
    return Correlation(
        rows,
        (link.partner,) * theirs + (me,) * own,
        their_names + scaled.names,
        _tuples(values),
    )


def _answer(
    link: Link, public: he.HePublic, shape: Shape, asked: list[he.Cipher], x: Longs
) -> None:
    for start, stop in _batches(shape):
        part = Shape(shape.rows, stop - start)
        answers, _ = masked(public, part, asked, x[:, start:stop], to_key=True)
        link.send("correlation.products", he.pack(answers))


def _opened(link: Link, key: he.HeKey, shape: Shape) -> Longs:
    out = []
    for start, stop in _batches(shape):
        part = Shape(shape.rows, stop - start)
        message = link.recv("correlation.products", timeout=PATIENCE)
        out.append(opened(key, part, he.unpack(key, dict(message.tensors), part.answered)))
    return np.concatenate(out)


def _batches(shape: Shape) -> Iterator[tuple[int, int]]:
    """First and last column of each message."""
    step = shape.together * max(1, _TOGETHER // shape.together)
    for start in range(0, shape.columns, step):
        yield start, min(start + step, shape.columns)


@dataclass(frozen=True)
class _Words:
    """How numbers go as two whole ones; both parties work it out alike."""

    f: int
    """Bits after the point in the first word."""
    g: int
    """Bits of the second word."""

    @staticmethod
    def of(rows: int) -> _Words:
        """As precise as the modulus allows for so many rows."""
        f = 0
        while _fits(rows, f + 1):
            f += 1
        if f < 8:
            raise DataError(f"{rows} rows are too many for the precision of correlations")
        return _Words(f, f)

    def split(self, values: Floats) -> tuple[Longs, Longs]:
        """The first and the second word of standardised numbers."""
        high = np.rint(values * 2.0**self.f)
        low = np.rint((values * 2.0**self.f - high) * 2.0**self.g)
        return high.astype(np.int64), low.astype(np.int64)

    def joined(self, sums: Longs) -> Floats:
        """Sums of products of numbers, from those of words, int64 `[2, ...]`."""
        found: Floats = (sums[0] + sums[1] * 2.0**-self.g) * 2.0 ** (-2 * self.f)
        return found


def _fits(rows: int, f: int) -> bool:
    """Whether neither sum can pass `he.HALF`: each word has a root of its sum of squares."""
    root = math.sqrt(rows)
    high, low = root * (2**f + 0.5), root * (2 ** (f - 1) + 0.5)
    return bool(max(high * high, 2 * high * low) * (1 + 1e-9) <= he.HALF)


def _check(link: Link, block: Floats, inner: Floats) -> None:
    """Refuse what cannot be correlations."""
    if np.abs(block).max() > _NEAR or not _plausible(inner):
        raise BadMessage(f"{link.partner} sent what cannot be correlations")


def _plausible(inner: Floats) -> bool:
    """Whether a matrix could be that of correlations."""
    return bool(
        np.abs(inner).max() <= _NEAR
        and np.allclose(inner, inner.T, atol=1e-9)
        and np.allclose(np.diag(inner), 1, atol=1e-6)
    )


def _joined(
    me: str, scaled: Scaled, partner: str, names: tuple[str, ...], block: Floats, inner: Floats
) -> Correlation:
    rows, own = scaled.values.shape
    mine = scaled.values.T @ scaled.values / rows
    values = np.block([[mine, block.T], [block, inner]])
    return Correlation(
        rows, (me,) * own + (partner,) * len(names), scaled.names + names, _tuples(values)
    )


def _tuples(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
