"""What a party has after `fit_woe`: bins, tables, the selection, and the WOE transform."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError, JobError
from isthmus.metrics.stability import psi
from isthmus.stats import storing
from isthmus.stats.binning import NO_BIN, ColumnBins
from isthmus.stats.columns import Codes, Floats, Table, frame, read
from isthmus.stats.storing import STRICT
from isthmus.stats.woe import WoeTable

Counts = npt.NDArray[np.integer]


@dataclass(frozen=True)
class ColumnWoe:
    """One column as one party knows it."""

    party: str
    """Who has the column."""
    column: str
    bins: ColumnBins | None
    """At its owner."""
    keep: bool
    """Whether its IV is what the label party asked for."""
    iv: float | None
    """None where the label party has not told. At a feature party that is told no WOE it is to
    three decimals, and of bins with enough rows of each class, so that it may be less."""
    woe: tuple[float, ...] | None
    """Per bin; None where the label party has not told."""
    table: WoeTable | None
    """At the label party."""
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class WoeFit:
    """Bins and what is known of them; JSON in files of their own."""

    rows: int
    columns: tuple[ColumnWoe, ...]
    __pydantic_config__ = STRICT

    def own(self) -> tuple[ColumnWoe, ...]:
        """The columns that this party has."""
        return tuple(column for column in self.columns if column.bins is not None)

    def selected(self) -> tuple[ColumnWoe, ...]:
        """The columns to keep."""
        return tuple(column for column in self.columns if column.keep)

    def ivs(self) -> pl.DataFrame:
        """Party, column, bins, IV and keep, the greatest IV first; unknown IV last."""
        rows = [
            (c.party, c.column, _bins(c), c.iv, c.keep)
            for c in sorted(
                self.columns, key=lambda c: -1.0 if c.iv is None else c.iv, reverse=True
            )
        ]
        kinds = {
            "party": pl.String, "column": pl.String, "bins": pl.Int64, "iv": pl.Float64,
            "keep": pl.Boolean,
        }  # fmt: skip
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def codes(self, table: Table) -> dict[str, Codes]:
        """The bin of each row of the own columns, int32 `[rows]`; -1 where there is none.

        Raises:
            DataError: a column is missing, or is of another kind.
        """
        given = frame(table)
        out = {}
        for column in self.own():
            if column.column not in given.columns:
                raise DataError(f"the table has no column {column.column!r}, which was binned")
            assert column.bins is not None
            out[column.column] = column.bins.codes(read(given[column.column]))
        return out

    def transform(self, table: Table, *, selected: bool = True) -> pl.DataFrame:
        """The own columns as WOE, float64; 0 for a value of a kind that no bin has seen.

        Args:
            table: with the columns that were binned.
            selected: leave out columns that are not to be kept.

        Raises:
            DataError: a column is missing, or is of another kind.
            JobError: the label party has not told the WOE.
        """
        codes = self.codes(table)
        out: dict[str, Floats] = {}
        for column in self.own():
            if selected and not column.keep:
                continue
            if column.woe is None:
                raise JobError(
                    f"the WOE of {column.column!r} is not known to {column.party}",
                    mend='The label party must agree to it: Disclosure(tell="woe").',
                )
            # The last entry is the one that NO_BIN, -1, points to.
            out[column.column] = np.append(column.woe, 0.0)[codes[column.column]]
        return pl.DataFrame(out)

    def stability(self, before: Table, after: Table) -> dict[str, float]:
        """The population stability index of each own column between two samples.

        Raises:
            DataError: a column is missing, or is of another kind.
        """
        first, second = self.codes(before), self.codes(after)
        return {name: psi(*_shares(first[name], second[name])) for name in first}

    def to_json(self) -> str:
        """For a file of this party alone: it has edges and categories."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> WoeFit:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        return storing.parsed(WoeFit, text, "binning", _sound)

    def save(self, path: str | Path) -> None:
        """Write the own part to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: str | Path) -> WoeFit:
        """What `save` wrote.

        Raises:
            StorageError: the file cannot be read, or is something else.
        """
        return storing.load(path, WoeFit.from_json)


def _sound(fit: WoeFit) -> bool:
    names = {(column.party, column.column) for column in fit.columns}
    if len(names) != len(fit.columns) or fit.rows < 0:
        return False
    return all(_sound_column(column, fit.rows) for column in fit.columns)


def _sound_column(column: ColumnWoe, rows: int) -> bool:
    bins, table = column.bins, column.table
    if (bins and not bins.is_sound) or (table and not table.is_sound):
        return False
    counts = {len(table.rows)} if table else set()
    if bins:
        counts.add(bins.count)
    if column.woe is not None:
        counts.add(len(column.woe))
    named = bins is None or bins.column == column.column
    return named and len(counts) <= 1 and (table is None or sum(table.rows) == rows)


def _bins(column: ColumnWoe) -> int | None:
    if column.bins is not None:
        return column.bins.count
    return len(column.table.rows) if column.table else None


def _shares(first: Codes, second: Codes) -> Sequence[Counts]:
    """Rows per bin of both samples, with NO_BIN as one more."""
    size = int(max(first.max(initial=0), second.max(initial=0))) + 2
    counts: list[Counts] = [
        np.bincount(codes - NO_BIN, minlength=size) for codes in (first, second)
    ]
    used = (counts[0] + counts[1]) > 0
    return [count[used] for count in counts]
