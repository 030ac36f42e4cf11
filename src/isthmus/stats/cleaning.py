"""Cleaning of one party's own columns by rules: clip, winsorise, fill, standardise, drop.

A rule is worked through in this order: values beyond `clip` become its ends; values beyond the
quantiles of `winsorise` become these; a missing value becomes what `missing` says; and the column
is standardised. Each statistic is of the training rows as the steps before have left them, and is
then the same for all rows. Nothing of it is told to a partner.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError, JobError
from isthmus.stats import storing
from isthmus.stats.columns import Bools, Floats, Table, frame, read
from isthmus.stats.storing import STRICT

Words = Literal["keep", "mean", "median", "zero", "mode", "drop"]
_OF_NUMBERS = ("mean", "median", "zero")
_OF_TRAINING = ("mean", "median", "mode")


@dataclass(frozen=True, kw_only=True)
class CleanRule:
    """What is done to a column."""

    missing: Words | float | str = "keep"
    """What a missing value becomes: a statistic of the training rows, 0, or the value given; of
    "mode" the least of several. "drop": its row is to be left out (`rows_to_drop`)."""
    clip: tuple[float, float] | None = None
    """The least and the greatest value that are kept as they are."""
    winsorise: float | None = None
    """Share of the training values at each end beyond whose quantile a value becomes it, in
    (0, 0.5); by linear interpolation."""
    standardise: bool = False
    """To mean 0 and deviation 1 (of the population) of the training rows."""

    def __post_init__(self) -> None:
        """Raises JobError where a setting is impossible."""
        if not isinstance(self.missing, str) and not math.isfinite(self.missing):
            raise JobError("a missing value cannot become one that is not finite")
        if self.clip is not None:
            low, high = self.clip
            if not -math.inf < low < high < math.inf:
                raise JobError("clip needs two finite values, the least one first")
        if self.winsorise is not None and not 0 < self.winsorise < 0.5:
            raise JobError(f"winsorise is {self.winsorise}, not between 0 and 0.5")

    @property
    def is_of_numbers(self) -> bool:
        """Whether it says something that categories cannot follow."""
        return (
            not isinstance(self.missing, str)
            or self.missing in _OF_NUMBERS
            or self.clip is not None
            or self.winsorise is not None
            or self.standardise
        )


@dataclass(frozen=True)
class CleanColumn:
    """A rule with its statistics."""

    column: str
    numbers: bool
    """Whether it has numbers, and not categories."""
    drop: bool = False
    low: float | None = None
    high: float | None = None
    """Beyond which values become these."""
    fill: float | str | None = None
    """What a missing value becomes, before the column is standardised."""
    mean: float | None = None
    std: float | None = None
    """Of the training rows, where the column is standardised."""
    __pydantic_config__ = STRICT

    @property
    def is_sound(self) -> bool:
        """Whether the fields agree with one another: a file may say anything."""
        numeric = [one is None for one in (self.low, self.high, self.mean, self.std)]
        return (
            (self.numbers or all(numeric))
            and numeric[0] == numeric[1]
            and numeric[2] == numeric[3]
            and isinstance(self.fill, (float if self.numbers else str, type(None)))
            and not (self.drop and self.fill is not None)
            and (self.low is None or self.high is None or self.low <= self.high)
            and (self.std is None or self.std > 0)
        )


@dataclass(frozen=True)
class Cleaning:
    """The rules of one party's table with their statistics."""

    columns: tuple[CleanColumn, ...]
    __pydantic_config__ = STRICT

    def apply(self, table: Table) -> pl.DataFrame:
        """The table with its columns cleaned: numbers as Float64, gaps that are left as null.

        Columns without a rule stay as they are, and so do rows that are to be left out.

        Raises:
            DataError: a column is missing, of another kind than it was, or has infinite values
                that no `clip` takes in.
        """
        given = frame(table)
        return given.with_columns([_cleaned(_of(given, one.column), one) for one in self.columns])

    def dropped(self, table: Table) -> Bools:
        """Which rows are to be left out, bool `[rows]`; raises DataError where a column is missing.

        They are left out before the rows are aligned, so that no partner is told.
        """
        return _gaps(frame(table), [one.column for one in self.columns if one.drop])

    def table(self) -> pl.DataFrame:
        """A row for each rule: column, low, high, fill (as text), mean, std, drop."""
        rows = [
            (
                c.column,
                c.low,
                c.high,
                None if c.fill is None else str(c.fill),
                c.mean,
                c.std,
                c.drop,
            )
            for c in self.columns
        ]
        kinds = {
            "column": pl.String, "low": pl.Float64, "high": pl.Float64, "fill": pl.String,
            "mean": pl.Float64, "std": pl.Float64, "drop": pl.Boolean,
        }  # fmt: skip
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def to_json(self) -> str:
        """For a file of this party alone: it has means and quantiles."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> Cleaning:
        """What `to_json` wrote.

        Raises:
            DataError: it is something else.
        """
        return storing.parsed(Cleaning, text, "cleaning", _sound)

    def save(self, path: str | Path) -> None:
        """Write it to a file. Raises StorageError."""
        storing.save(path, self.to_json())

    @staticmethod
    def load(path: str | Path) -> Cleaning:
        """What `save` wrote.

        Raises:
            StorageError: the file cannot be read, or is something else.
        """
        return storing.load(path, Cleaning.from_json)


def fit_cleaning(
    table: Table, rules: Mapping[str, CleanRule], rows: npt.ArrayLike | None = None
) -> Cleaning:
    """The rules with their statistics.

    Args:
        table: numbers, text, categories or booleans.
        rules: by column.
        rows: numbers of the training rows, from which statistics come; None for all rows.

    Raises:
        DataError: a column is missing or of a kind that its rule does not fit, or its training rows
            have no statistic: no value, or no variation.
    """
    given = frame(table)
    training = given if rows is None else _training(given, rows)
    return Cleaning(tuple(_fitted(_of(training, name), rule) for name, rule in rules.items()))


def rows_to_drop(table: Table, rules: Mapping[str, CleanRule]) -> Bools:
    """Which rows the rules leave out, bool `[rows]`: it takes no statistics, so it comes first.

    Raises:
        DataError: a column is missing.
    """
    return _gaps(frame(table), [name for name, rule in rules.items() if rule.missing == "drop"])


def _training(given: pl.DataFrame, rows: npt.ArrayLike) -> pl.DataFrame:
    wanted = np.asarray(rows)
    if wanted.ndim != 1 or not wanted.size or wanted.dtype.kind not in "iu":
        raise DataError(
            "cleaning needs the numbers of at least one training row",
            mend="Of true and false for each row, give np.flatnonzero(rows).",
        )
    if not 0 <= wanted.min() <= wanted.max() < given.height:
        raise DataError(f"the training rows are no rows of a table of {given.height}")
    return given[wanted]


def _of(given: pl.DataFrame, name: str) -> pl.Series:
    if name not in given.columns:
        raise DataError(f"the table has no column {name!r}, which is to be cleaned")
    return given[name]


def _gaps(given: pl.DataFrame, names: list[str]) -> Bools:
    out = np.zeros(given.height, np.bool_)
    for name in names:
        series = _of(given, name)
        if series.dtype.is_float():
            series = series.fill_nan(None)
        out |= series.is_null().to_numpy().astype(np.bool_)
    return out


# ----------------------------------------------------------------------------- one column


def _fitted(series: pl.Series, rule: CleanRule) -> CleanColumn:
    numbers = series.dtype.is_numeric() or series.dtype == pl.Null
    blank = CleanColumn(series.name, numbers, rule.missing == "drop")
    if not numbers:
        if rule.is_of_numbers:
            raise DataError(
                f"column {series.name!r} has categories, and its rule is for numbers",
                mend='Categories can be kept, dropped, or filled by "mode" or by a text.',
            )
        return replace(blank, fill=_filler(_texts(series).drop_nulls(), rule))
    ends = blank if rule.clip is None else replace(blank, low=rule.clip[0], high=rule.clip[1])
    values = _numbers(series, ends)
    if rule.winsorise is not None:
        kept = _some(values.drop_nulls())
        low, high = np.quantile(kept.to_numpy(), (rule.winsorise, 1 - rule.winsorise)).tolist()
        ends = replace(ends, low=low, high=high)
        values = values.clip(low, high)
    filled = replace(ends, fill=_filler(values.drop_nulls(), rule))
    if not rule.standardise:
        return filled
    scaled: Floats = _some(_plugged(values, filled).drop_nulls()).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(scaled.mean()), float(scaled.std())
    if not math.isfinite(std):
        raise DataError(
            f"column {series.name!r} has values too great for a deviation",
            mend="Clip or winsorise it.",
        )
    # A constant such as 0.1 has a deviation of rounding.
    if std <= 1e-12 * abs(mean):
        raise DataError(
            f"column {series.name!r} does not vary in the training rows",
            mend="Leave it out, or do not standardise it.",
        )
    return replace(filled, mean=mean, std=std)


def _filler(values: pl.Series, rule: CleanRule) -> float | str | None:
    """What a missing value becomes, from the training values without gaps."""
    if rule.missing in ("keep", "drop"):
        return None
    is_number = values.dtype.is_numeric()
    if rule.missing in _OF_TRAINING:
        kept = _some(values)
        found: Any = kept.mode().min() if rule.missing == "mode" else getattr(kept, rule.missing)()
        return float(found) if is_number else str(found)
    if rule.missing == "zero":
        return 0.0
    if is_number and isinstance(rule.missing, str):
        raise DataError(
            f"column {values.name!r} has numbers, and its missing values cannot become a text",
            mend="Give a number, or one of keep, mean, median, zero, mode, drop.",
        )
    return float(rule.missing) if is_number else str(rule.missing)


def _some(values: pl.Series) -> pl.Series:
    if not values.len():
        raise DataError(
            f"column {values.name!r} has no value in the training rows",
            mend="Leave it out, or give the value for missing ones.",
        )
    return values


def _cleaned(series: pl.Series, column: CleanColumn) -> pl.Series:
    if (series.dtype.is_numeric() or series.dtype == pl.Null) != column.numbers:
        if series.null_count() < series.len():
            raise DataError(f"column {series.name!r} is of another kind than its rule was made for")
        series = series.cast(pl.String)
    values = _plugged(_numbers(series, column) if column.numbers else _texts(series), column)
    if column.mean is None or column.std is None:
        return values
    return (values - column.mean) / column.std


def _plugged(values: pl.Series, column: CleanColumn) -> pl.Series:
    return values if column.fill is None else values.fill_null(column.fill)


def _numbers(series: pl.Series, column: CleanColumn) -> pl.Series:
    """Float64 within the ends, gaps as null."""
    values = series.cast(pl.Float64).fill_nan(None)
    if column.low is not None and column.high is not None:
        values = values.clip(column.low, column.high)
    if values.is_infinite().any():
        raise DataError(f"column {series.name!r} has infinite values", mend="Clip them.")
    return values


def _texts(series: pl.Series) -> pl.Series:
    texts = read(series).texts
    assert texts is not None
    return texts


def _sound(cleaning: Cleaning) -> bool:
    names = {column.column for column in cleaning.columns}
    return len(names) == len(cleaning.columns) and all(c.is_sound for c in cleaning.columns)
