"""One column of a table as text or as numbers, whatever its type in the file.

An id read as the integer 7 from Parquet and as the text "7" from CSV is the same category. Missing
is null, NaN and empty text. No message here names a value: tables hold personal data.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from isthmus.errors import SchemaError


def column_of(frame: pl.DataFrame, name: str, source: str) -> pl.Series:
    """The column `name` of `frame`.

    Raises:
        SchemaError: there is no such column; the message names the table and its columns.
    """
    if name not in frame.columns:
        raise SchemaError(f"{source} has no column {name!r}", mend=columns_hint(frame.columns))
    return frame.get_column(name)


def columns_hint(columns: list[str]) -> str:
    """The sentence that lists a table's columns, shortened when there are very many."""
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    return f"Its columns are: {shown}."


def as_text(column: pl.Series, source: str) -> pl.Series:
    """`column` as String, null where missing; the same value gives the same text in any dtype.

    Raises:
        SchemaError: the column holds lists, structures, binary or other values.
    """
    dtype = column.dtype
    if dtype.is_float() or dtype.is_decimal():
        return _number_text(column.cast(pl.Float64))
    if isinstance(dtype, pl.Datetime):
        return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
    if dtype.is_integer() or isinstance(dtype, (pl.Boolean, pl.Date, pl.Time, pl.Null)):
        return column.cast(pl.String)
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)):
        text = column.cast(pl.String)
        return text.set(text == "", None)
    raise SchemaError(
        f"{source}: column {column.name!r} is of type {dtype}, which cannot be a category",
        mend="Ignore the column or turn it into text or numbers.",
    )


def is_there(column: pl.Series) -> pl.Series:
    """Where `column` is not missing, bool [rows]: neither null, NaN nor empty text."""
    there = column.is_not_null()
    if column.dtype.is_float():
        there &= column.is_not_nan()
    elif isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum)):
        there &= column.cast(pl.String) != ""
    return there.fill_null(False)


def as_numbers(column: pl.Series) -> pl.Series:
    """`column` as Float64, null where missing or not a number (`check_numbers` tells which)."""
    if isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum)):
        column = column.cast(pl.String).str.strip_chars()
    return column.cast(pl.Float64, strict=False).fill_nan(None)


def check_numbers(column: pl.Series, source: str) -> None:
    """See that every value of `column` is missing or a finite number.

    Raises:
        SchemaError: with the first offending row, counted from 1, and the number of such rows.
    """
    dtype = column.dtype
    if not (
        dtype.is_numeric()
        or isinstance(dtype, (pl.Boolean, pl.Null, pl.String, pl.Categorical, pl.Enum))
    ):
        raise SchemaError(
            f"{source}: column {column.name!r} is of type {dtype}, which is not a number",
            mend="Make it categorical, or ignore it.",
        )
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)):
        text = column.cast(pl.String).str.strip_chars()
        parsed = text.cast(pl.Float64, strict=False)
        _refuse(column.name, (text != "") & parsed.is_null(), "text that is not a number", source)
        column = parsed
    if column.dtype.is_float():
        _refuse(column.name, column.is_infinite(), "infinity", source)


def _refuse(name: str, bad: pl.Series, what: str, source: str) -> None:
    rows = np.flatnonzero(bad.fill_null(False).to_numpy())
    if rows.size:
        raise SchemaError(
            f"{source}: numeric column {name!r} holds {what} in {rows.size} rows, "
            f"the first is row {rows[0] + 1}",
            mend="Mend these rows, leave them empty, or make the column categorical.",
        )


def _number_text(column: pl.Series) -> pl.Series:
    """Floats as text, whole ones as an integer would be written; NaN is missing."""
    column = column.fill_nan(None)
    whole = (column == column.floor()) & (column.abs() < 2.0**53)
    as_integer = column.cast(pl.Int64, strict=False).cast(pl.String)
    return as_integer.zip_with(whole.fill_null(False), column.cast(pl.String))
