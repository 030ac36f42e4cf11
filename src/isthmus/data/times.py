"""A column of times as numbers, whatever its type in the file."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.errors import SchemaError

Times = NDArray[np.float64]
"""Seconds since 1970 (UTC) of dates, and numbers as they are; NaN where missing."""

_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)
_WITH_ZONE = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


def times_of(column: pl.Series, source: str) -> Times:
    """`column` as float64 [rows]: numbers as they are, dates and ISO 8601 text as seconds.

    The way from a value to its number never turns two times round; times too close for 64 bits
    become equal. A date without a zone is taken as UTC.

    Raises:
        SchemaError: the column holds neither numbers nor dates, text that is neither, or infinity.
    """
    dtype = column.dtype
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)):
        found = _from_text(column.cast(pl.String).str.strip_chars(), column.name, source)
    elif isinstance(dtype, (pl.Date, pl.Datetime)):
        found = _seconds(column)
    elif dtype.is_numeric() or isinstance(dtype, pl.Null):
        found = column.cast(pl.Float64)
    else:
        raise SchemaError(
            f"{source}: column {column.name!r} is of type {dtype}, which is no time",
            mend="A time is a number, a date, or ISO 8601 text.",
        )
    times = found.fill_nan(None).to_numpy().astype(np.float64)
    if np.isinf(times).any():
        raise SchemaError(f"{source}: time column {column.name!r} holds infinity")
    return times


def _from_text(text: pl.Series, name: str, source: str) -> pl.Series:
    text = text.set(text == "", None)
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() == text.null_count():
        return numbers
    dates = _from_dates(text)
    wrong = dates.null_count() - text.null_count()
    if wrong:
        raise SchemaError(
            f"{source}: time column {name!r} holds text that is no time in {wrong} rows",
            mend="Write numbers, or ISO 8601 text such as 2024-05-31T18:30:00Z, all of one kind.",
        )
    return dates


def _from_dates(text: pl.Series) -> pl.Series:
    found = pl.Series([None] * len(text), dtype=pl.Float64)
    for form in (*_FORMATS, *_WITH_ZONE):
        if found.null_count() == text.null_count():
            break
        parsed = text.str.to_datetime(form, time_unit="us", strict=False)
        found = found.zip_with(found.is_not_null(), _seconds(parsed))
    return found


def _seconds(column: pl.Series) -> pl.Series:
    # Polars counts from 1970 in UTC, with or without a zone.
    return column.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64) / 1e6
