"""What is in a table's columns: counts, quantiles, histograms, outliers, drift; the owner's view.

What a partner is shown of it is another thing: `isthmus.stats.shown`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic.dataclasses import dataclass as checked

from isthmus.errors import DataError
from isthmus.metrics.stability import psi
from isthmus.stats import storing
from isthmus.stats.columns import Bools, Column, Floats, Table, frame, read
from isthmus.stats.storing import STRICT

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Levels of a profile's quantiles."""


@checked(frozen=True, config=STRICT)
class Numbers:
    """What is in a column of numbers, missing values left out."""

    mean: float | None
    std: float | None
    """Of the population (divided by n)."""
    least: float | None
    greatest: float | None
    levels: tuple[float, ...]
    """Of the quantiles, within 0 and 1."""
    quantiles: tuple[float, ...]
    """By linear interpolation, or from the histogram where a policy allows no more."""
    edges: tuple[float, ...]
    """Of the histogram. There are as many counts as gaps between edges, or one more and less on
    either side where it is open: `open_ended`."""
    counts: tuple[int, ...]
    open_ended: bool
    """Whether the first and last count are of all rows below the first and above the last edge."""
    outliers: int | None
    """Rows more than 1.5 quartile ranges below the first or above the third (Tukey, 1977)."""


@checked(frozen=True, config=STRICT)
class Categories:
    """What is in a column of categories, missing values left out."""

    names: tuple[str, ...]
    """The most frequent first."""
    counts: tuple[int, ...]
    others: int
    """Rows of all other categories."""


@checked(frozen=True, config=STRICT)
class ColumnProfile:
    """One column: it has either `numbers` or `categories`."""

    name: str
    rows: int
    missing: int
    distinct: int | None
    """Different values; None where a policy does not say."""
    numbers: Numbers | None
    categories: Categories | None


@checked(frozen=True, config=STRICT)
class TableProfile:
    """All columns of a table."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    epsilon: float | None = None
    """Where counts have noise: the differential privacy of each column's counts."""
    least: int | None = None
    """Where a policy was applied: rows that a cell has at least."""

    def to_json(self) -> str:
        """For a file or a message."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> TableProfile:
        """What `to_json` wrote, checked: kinds, finite numbers, lengths, order, counts.

        Raises:
            DataError: it is something else.
        """
        return storing.parsed(
            TableProfile, text, "profile", lambda found: all(map(_sound, found.columns))
        )

    def save(self, path: str | Path) -> None:
        """Write it to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: str | Path) -> TableProfile:
        """What `save` wrote.

        Raises:
            StorageError: the file cannot be read, or is something else.
        """
        return storing.load(path, TableProfile.from_json)


@dataclass(frozen=True)
class ColumnDrift:
    """How one column differs between two samples."""

    column: str
    psi: float
    """Over deciles of the first sample and missing, or over categories and missing."""
    ks: float | None
    """Largest distance of the two distribution functions; None for categories or no values."""


def profile(table: Table, *, bins: int = 20, categories: int = 20) -> TableProfile:
    """The owner's own view of its columns, with nothing left out.

    Args:
        table: numbers, text, categories or booleans.
        bins: of each histogram, of equal width.
        categories: that are named.

    Raises:
        DataError: a column is of another kind, or has infinite values.
    """
    given = frame(table)
    columns = tuple(_column(read(given[name]), bins, categories) for name in given.columns)
    return TableProfile(given.height, columns)


def drift(table: Table, overlap: npt.ArrayLike, *, bins: int = 10) -> tuple[ColumnDrift, ...]:
    """How the aligned rows differ from the rest of the own table, column by column.

    Args:
        table: the whole own table.
        overlap: the rows that are aligned, such as `Alignment.rows`; repeated rows count once.
        bins: quantiles of the rest, for PSI.

    Raises:
        DataError: all rows are aligned, or none is, or there is no such row.
    """
    given = frame(table)
    rows = np.asarray(overlap)
    if rows.dtype.kind not in "iu" or (
        rows.size and not 0 <= rows.min() <= rows.max() < given.height
    ):
        raise DataError(f"the aligned rows are no rows of a table of {given.height}")
    inside = np.zeros(given.height, np.bool_)
    inside[rows] = True
    if inside.all() or not inside.any():
        raise DataError(
            f"{int(inside.sum())} of {given.height} rows are aligned; drift compares with the rest"
        )
    return tuple(_drift(read(given[name]), inside, bins) for name in given.columns)


def _column(column: Column, bins: int, categories: int) -> ColumnProfile:
    missing = int(column.missing.sum())
    empty = ColumnProfile(column.name, column.rows, missing, 0, None, None)
    if column.numbers is not None:
        values = column.numbers[~column.missing]
        distinct = int(np.unique(values).size)
        return replace(empty, distinct=distinct, numbers=_numbers(values, bins))
    assert column.texts is not None
    counted = _counted(column.texts)
    named = counted[:categories]
    return replace(
        empty,
        distinct=len(counted),
        categories=Categories(
            tuple(text for text, _ in named),
            tuple(count for _, count in named),
            sum(count for _, count in counted[categories:]),
        ),
    )


def _numbers(values: Floats, bins: int) -> Numbers:
    if not values.size:
        return Numbers(None, None, None, None, (), (), (), (), False, 0)
    quantiles = np.quantile(values, QUANTILES)
    first, third = np.quantile(values, (0.25, 0.75))
    reach = 1.5 * (third - first)
    outside = (values < first - reach) | (values > third + reach)
    counts, edges = np.histogram(values, bins)
    return Numbers(
        mean=float(values.mean()),
        std=float(values.std()),
        least=float(values.min()),
        greatest=float(values.max()),
        levels=QUANTILES,
        quantiles=tuple(quantiles.tolist()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        open_ended=False,
        outliers=int(outside.sum()),
    )


def _counted(texts: pl.Series) -> list[tuple[str, int]]:
    """Categories and their rows, the most frequent first, then by name."""
    found = texts.drop_nulls().alias("level").value_counts(name="rows").rows()
    return [(text, -count) for count, text in sorted((-count, text) for text, count in found)]


def _sound(column: ColumnProfile) -> bool:
    """Whether a profile that came from elsewhere can be one."""
    rows_fit = 0 <= column.missing <= column.rows and (column.distinct or 0) >= 0
    if (column.numbers is None) == (column.categories is None) or not rows_fit:
        return False
    if column.categories is not None:
        kinds = column.categories
        counts = (*kinds.counts, kinds.others)
        fits = len(kinds.names) == len(kinds.counts) == len(set(kinds.names))
        return fits and min(counts) >= 0
    numbers = column.numbers
    assert numbers is not None
    gaps = len(numbers.edges) + (1 if numbers.open_ended else -1)
    return (
        len(numbers.counts) == (gaps if numbers.edges or numbers.open_ended else 0)
        and len(numbers.levels) == len(numbers.quantiles)
        and _rising(numbers.edges, strictly=True)
        and _rising(numbers.quantiles)
        and _rising((0.0, *numbers.levels, 1.0))
        and min(numbers.counts, default=0) >= 0
        and (numbers.outliers or 0) >= 0
        and (numbers.std or 0) >= 0
    )


def _rising(values: tuple[float, ...], *, strictly: bool = False) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() if strictly else (steps >= 0).all())


def _drift(column: Column, inside: Bools, bins: int) -> ColumnDrift:
    if column.numbers is None:
        assert column.texts is not None
        names = [text for text, _ in _counted(column.texts)]
        codes = column.texts.replace_strict(
            names or [""], range(max(1, len(names))), default=len(names), return_dtype=pl.Int64
        )
        place = codes.fill_null(len(names)).to_numpy()
        return ColumnDrift(column.name, _psi(place, inside, len(names) + 1), None)
    values, known = column.numbers, ~column.missing
    rest, mine = np.sort(values[known & ~inside]), np.sort(values[known & inside])
    edges = np.empty(0)
    if rest.size:
        edges = np.unique(np.quantile(rest, np.arange(1, bins) / bins, method="inverted_cdf"))
    place = np.where(known, np.searchsorted(edges, values, side="left"), edges.size + 1)
    ks = None
    if rest.size and mine.size:
        both = np.concatenate([rest, mine])
        below = [np.searchsorted(one, both, side="right") / one.size for one in (rest, mine)]
        ks = float(np.abs(below[0] - below[1]).max())
    return ColumnDrift(column.name, _psi(place, inside, edges.size + 2), ks)


def _psi(place: npt.NDArray[np.int64], inside: Bools, size: int) -> float:
    return psi(*(np.bincount(place[rows], minlength=size) for rows in (~inside, inside)))
