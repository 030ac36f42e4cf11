"""A table's columns as what statistics need: numbers with gaps, or categories with gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]

Table = pl.DataFrame | Mapping[str, npt.ArrayLike]
"""Columns by name, all of one length."""
FARTHEST = 1e100
"""Numbers beyond it have squares whose sum no float64 may hold."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column. `numbers` float64 `[rows]` is None for categories, whose `texts` is a Series."""

    name: str
    numbers: Floats | None
    texts: pl.Series | None
    missing: Bools
    """True where there is no value: null, NaN, or no category."""

    @property
    def rows(self) -> int:
        """Its length."""
        return self.missing.size


def frame(table: Table) -> pl.DataFrame:
    """`table` as a data frame.

    Raises:
        DataError: it has no columns by name, or they have several lengths, or a kind that no
            table has.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if not hasattr(table, "items"):
        raise DataError(
            f"a table is a polars data frame or arrays by name, not of type {type(table).__name__}",
            mend="Name the columns of an array: pl.DataFrame(array, schema=[...]).",
        )
    try:
        return pl.DataFrame({name: np.asarray(values) for name, values in table.items()})
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(f"the columns {', '.join(table)} make no table: {error}") from error


def read(series: pl.Series) -> Column:
    """A column of numbers, of text, of categories or of booleans.

    Raises:
        DataError: it is of another kind, such as a date, or has values that are infinite or
            beyond `FARTHEST`.
    """
    kind = series.dtype
    if kind.is_numeric():
        numbers = series.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
        if np.isinf(numbers).any():
            raise DataError(f"column {series.name!r} has infinite values", mend="Clip them.")
        if (np.abs(numbers) > FARTHEST).any():
            raise DataError(
                f"column {series.name!r} has values beyond {FARTHEST:g}",
                mend="Is it a code for what is not known? Leave it empty, or clip the column.",
            )
        return Column(series.name, numbers, None, np.isnan(numbers))
    if kind == pl.Null:
        gaps = np.full(len(series), np.nan)
        return Column(series.name, gaps, None, np.isnan(gaps))
    if kind == pl.Boolean or kind in (pl.String, pl.Categorical, pl.Enum):
        texts = series.cast(pl.String)
        return Column(series.name, None, texts, texts.is_null().to_numpy().astype(np.bool_))
    raise DataError(
        f"column {series.name!r} is of kind {kind}, neither numbers nor categories",
        mend="Cast it, or leave it out.",
    )


def matrix(table: Table) -> tuple[tuple[str, ...], Floats]:
    """All columns as float64 `[rows, columns]`, with their names.

    Raises:
        DataError: a column is no number, or has missing or infinite values, or there is none.
    """
    given = frame(table)
    if not given.width or not given.height:
        raise DataError("there is no column, or no row")
    return tuple(given.columns), np.column_stack([_whole(given[name]) for name in given.columns])


def labels(values: npt.ArrayLike, rows: int) -> Bools:
    """A label of 0 and 1, bool `[rows]`, with both of them.

    Raises:
        DataError: it has another length, other values, or one value only.
    """
    given: npt.NDArray[Any] = np.asarray(values)
    if given.shape != (rows,):
        raise DataError(f"the label has shape {given.shape} for {rows} rows")
    if not np.isin(given, (0, 1)).all():
        raise DataError("the label has other values than 0 and 1, or gaps")
    found = given.astype(np.bool_)
    if found.all() or not found.any():
        raise DataError(f"all {rows} labels are {int(found.any())}; both must be there")
    return found


def _whole(series: pl.Series) -> Floats:
    column = read(series)
    if column.numbers is None:
        raise DataError(f"column {series.name!r} has no numbers", mend="Encode it first.")
    if column.missing.any():
        raise DataError(
            f"column {series.name!r} has {int(column.missing.sum())} missing values",
            mend="Fill them or leave the column out.",
        )
    return column.numbers
