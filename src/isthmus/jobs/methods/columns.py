"""A party's columns as the numbers that a linear model learns from, fitted on the training rows.

A numeric column is centred and scaled; a categorical one becomes a column of 0 and 1 for each of
its levels but the most frequent. Rare levels share one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from isthmus.errors import DataError, StorageError
from isthmus.files import write_json

Floats = NDArray[np.float64]

OTHER = "other"
"""What the rare levels of a column are called together."""
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_MOST_LEVELS = 1000


@dataclass(frozen=True)
class Term:
    """One number that the model learns from."""

    column: str
    level: str | None = None
    """Of a categorical column."""
    deviation: float = 1.0
    """What one unit of it is, in the column's own units."""


@dataclass(frozen=True)
class NumberColumn:
    """A numeric column: (value - mean) / deviation."""

    name: str
    mean: float = 0.0
    deviation: float = 1.0
    kind: Literal["numeric"] = "numeric"
    __pydantic_config__ = _STRICT

    @property
    def terms(self) -> tuple[Term, ...]:
        """One."""
        return (Term(self.name, deviation=self.deviation),)

    def apply(self, column: pl.Series) -> Floats:
        """Float64 [rows, 1]."""
        values = np.asarray(column.to_numpy(), np.float64)
        return ((values - self.mean) / self.deviation)[:, None]


@dataclass(frozen=True)
class LevelsColumn:
    """A categorical column: 1 at the value's own level, nothing at the most frequent one."""

    name: str
    base: str
    """The most frequent level, which has no number of its own."""
    levels: tuple[str, ...]
    """The others that have one, the most frequent first."""
    other: bool
    """Whether the rest has one together; else it counts as `base`."""
    kind: Literal["categorical"] = "categorical"
    __pydantic_config__ = _STRICT

    @property
    def terms(self) -> tuple[Term, ...]:
        """One for each level."""
        named = (*self.levels, *((OTHER,) if self.other else ()))
        return tuple(Term(self.name, level) for level in named)

    def apply(self, column: pl.Series) -> Floats:
        """Float64 [rows, terms]."""
        rest = len(self.levels)
        known = {self.base: rest + 1} | {level: n for n, level in enumerate(self.levels)}
        codes = column.replace_strict(known, default=rest, return_dtype=pl.Int64).to_numpy()
        found: Floats = (codes[:, None] == np.arange(len(self.terms))).astype(np.float64)
        return found


@dataclass(frozen=True)
class Design:
    """All columns of one party."""

    columns: tuple[NumberColumn | LevelsColumn, ...]
    __pydantic_config__ = _STRICT

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the model has a coefficient for, in order."""
        return tuple(term for column in self.columns for term in column.terms)

    def apply(self, table: pl.DataFrame) -> Floats:
        """Float64 [rows, terms]. Raises DataError where a column is missing."""
        parts = []
        for column in self.columns:
            if column.name not in table.columns:
                raise DataError(f"the table has no column {column.name!r}, which the model has")
            parts.append(column.apply(table[column.name]))
        return np.hstack(parts) if parts else np.empty((table.height, 0))

    def save(self, path: Path) -> None:
        """Write as JSON, for this party alone. Raises StorageError."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Design:
        """What `save` wrote. Raises StorageError."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise StorageError(
                f"{path} does not hold the columns of a model",
                mend="Run the job again without --resume.",
            ) from error


def fit_design(
    table: pl.DataFrame,
    train: NDArray[np.int64],
    *,
    least: int,
    scale: bool,
    party: str,
    parts: Sequence[NDArray[np.int64]] | None = None,
) -> Design:
    """How the columns become numbers.

    Args:
        table: the own columns, all samples: Float64 for numbers, String for categories.
        train: positions of the training samples, of which means and levels are.
        least: levels of fewer training samples share one.
        scale: whether numbers are centred and scaled.
        party: named in messages.
        parts: batches, whose sums are seen each for itself, as places within `train`: levels have
            `least` samples in each. None: all training samples are one.

    Raises:
        DataError: a column has gaps, or too many levels.
    """
    batches = [train] if parts is None else [train[part] for part in parts]
    return Design(tuple(_columns(table, train, batches, least, scale, party)))


def _columns(
    table: pl.DataFrame,
    train: NDArray[np.int64],
    batches: Sequence[NDArray[np.int64]],
    least: int,
    scale: bool,
    party: str,
) -> Iterator[NumberColumn | LevelsColumn]:
    for column in table:
        check_whole(column, party)
        if column.dtype == pl.String:
            yield _levels([column.gather(batch) for batch in batches], least, party)
        elif scale:
            yield _number(column.gather(train), party)
        else:
            yield NumberColumn(column.name)


def check_whole(column: pl.Series, party: str) -> None:
    """See that a value stands in every row. Raises DataError."""
    gaps = column.null_count()
    if column.dtype.is_float():
        gaps += int(column.is_nan().sum() or 0)
    if gaps:
        raise DataError(
            f"{column.name!r} is missing in {gaps} of {len(column)} aligned rows of {party}",
            mend=f"Say in parties.{party}.clean.{column.name}.missing what stands for it, or bin "
            "the columns with `bin.transform`.",
        )


def _number(column: pl.Series, party: str) -> NumberColumn:
    values = column.to_numpy()
    if values.min() == values.max():
        # Its mean is off by a rounding.
        return NumberColumn(column.name, float(values[0]))
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(values.mean()), float(values.std())
    if not math.isfinite(deviation):
        raise DataError(
            f"{column.name!r} of {party} has values too great for a deviation",
            mend="Is one a code for what is not known? Leave it empty, or say in "
            f"parties.{party}.clean.{column.name}.clip where values end.",
        )
    return NumberColumn(column.name, mean, deviation or 1.0)


def _levels(batches: Sequence[pl.Series], least: int, party: str) -> LevelsColumn:
    column = batches[0]
    names, counts = _counted(batches)
    kept = int((counts.min(axis=1) >= least).sum())
    if not kept and len(counts) > 1:
        raise DataError(
            f"{column.name!r} of {party} has no level of at least {least} training samples",
            mend="Is it a column of ids? Ignore it, or use `bin.transform`.",
        )
    # The most frequent one is there in any case, and the rest must be enough together.
    kept = max(kept, 1)
    while kept < len(names) and counts[kept:].sum(axis=0).min() < least and kept > 1:
        kept -= 1
    if kept > _MOST_LEVELS:
        raise DataError(
            f"{column.name!r} of {party} has {kept} levels, more than {_MOST_LEVELS}",
            mend="Is it a column of ids? Ignore it, or use `bin.transform`.",
        )
    other = bool(counts[kept:].sum(axis=0).min() >= least)
    return LevelsColumn(column.name, names[0], tuple(names[1:kept]), other)


def _counted(batches: Sequence[pl.Series]) -> tuple[list[str], NDArray[np.int64]]:
    """The levels, and their rows in each batch, int64 [levels, batches]; the most first."""
    # Names of their own: a column may be called as those that Polars adds.
    counted = [one.alias("level").value_counts(name="rows") for one in batches]
    names = pl.concat(counted)["level"].unique().sort()
    places = {name: place for place, name in enumerate(names.to_list())}
    found = np.zeros((len(places), len(batches)), np.int64)
    for batch, one in enumerate(counted):
        found[[places[name] for name in one["level"].to_list()], batch] = one["rows"].to_numpy()
    order = np.lexsort((np.arange(len(names)), -found.sum(axis=1), -found.min(axis=1)))
    return names.gather(order).to_list(), found[order]
