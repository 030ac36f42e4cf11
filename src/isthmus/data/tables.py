"""Tables from CSV, TSV, Parquet, JSON lines and Arrow files, lazily through Polars."""

from __future__ import annotations

import csv
import errno
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from isthmus.data.columns import columns_hint
from isthmus.data.text_files import check_lines, check_rows, separator_of
from isthmus.errors import DataError, SchemaError
from isthmus.files import replacing

T = TypeVar("T")

_WITH_COMMA = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?$"
"""A number with a comma before its decimals, and maybe a full stop behind its thousands."""

FORMATS = ".csv, .tsv, .csv.gz, .tsv.gz, .parquet, .jsonl, .ndjson, .arrow, .feather or .ipc"


def read_table(path: Path, *, text: Collection[str] = ()) -> pl.LazyFrame:
    """The table in `path`, by its suffix; a folder is read as one table of Parquet files.

    `text` names columns that are read from CSV as text, unchanged: keys and codes such as zip
    codes, whose leading zeros a guess at integers would lose. Other types are found by looking at
    the whole file, not at its first rows; dates in text files stay text. CSV may be separated by
    commas, semicolons, tabs or bars, whatever its suffix; where it is not by commas, a column of
    numbers may have decimal commas.

    Raises:
        DataError: the file is missing, of an unknown kind, empty or malformed; text is not UTF-8,
            or a row of CSV has more values than the header.
        SchemaError: the header holds a column twice.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"there is no table {path}", mend="Check the path.")
    frame = _guarded(path, lambda: _scan(path, text))
    names = _guarded(path, lambda: frame.collect_schema().names())
    twice = sorted({name for name in names if re.search(r"_duplicated_\d+$", name)})
    if twice:
        shown = sorted({re.sub(r"_duplicated_\d+$", "", name) for name in twice})
        raise SchemaError(f"{path}: the header holds {', '.join(map(repr, shown))} more than once")
    return frame


def load_table(
    path: Path, columns: Sequence[str] | None = None, *, text: Collection[str] = ()
) -> pl.DataFrame:
    """The `columns` of the table in `path` (None: all), in memory.

    Raises:
        DataError: as `read_table`, or a row is malformed.
        SchemaError: a column is missing; the message names the file.
    """
    path = Path(path)
    frame = read_table(path, text=text)
    if columns is not None:
        present = frame.collect_schema().names()
        missing = [name for name in columns if name not in present]
        if missing:
            raise SchemaError(
                f"{path} has no column {', '.join(map(repr, missing))}", mend=columns_hint(present)
            )
        frame = frame.select(list(dict.fromkeys(columns)))
    return _guarded(path, frame.collect)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write `frame` as CSV or Parquet, by the suffix of `path`, whole or not at all.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        try:
            if path.suffix == ".csv":
                frame.write_csv(temporary)
            else:
                frame.write_parquet(temporary)
        except (pl.exceptions.PolarsError, OSError) as error:
            # Polars tells the number of the system's error in its text alone.
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code)) from error


def _guarded(path: Path, action: Callable[[], T]) -> T:
    """Turn what Polars raises about `path` into a DataError, without the values it quotes."""
    try:
        return action()
    except pl.exceptions.NoDataError as error:
        raise DataError(f"the table {path} is empty") from error
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"the table {path} cannot be read as {path.suffix or 'Parquet'}: "
            f"{type(error).__name__}",
            mend="Check that it is whole and is what its name says.",
        ) from None


def _scan(path: Path, text: Collection[str]) -> pl.LazyFrame:
    if path.is_dir():
        if not any(path.glob("*.parquet")):
            raise DataError(
                f"{path} is a folder without Parquet files",
                mend="Name a file; a folder is read as one table of its .parquet files.",
            )
        return pl.scan_parquet(path / "*.parquet")
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    match kind.lower():
        case ".csv" | ".csv.gz":
            return _scan_csv(path, ",", text)
        case ".tsv" | ".tsv.gz":
            return _scan_csv(path, "\t", text)
        case ".parquet":
            return pl.scan_parquet(path)
        case ".jsonl" | ".ndjson":
            check_lines(path)
            return pl.scan_ndjson(path, infer_schema_length=None)
        case ".arrow" | ".feather" | ".ipc":
            return pl.scan_ipc(path)
    raise DataError(f"{path} is of an unknown kind", mend=f"A table ends in {FORMATS}.")


def _scan_csv(path: Path, usual: str, text: Collection[str]) -> pl.LazyFrame:
    separator = separator_of(path, usual)
    check_rows(path, separator)
    frame = pl.scan_csv(path, separator=separator, infer_schema_length=0)
    as_text = {name: pl.String for name in frame.collect_schema().names() if name in text}
    found = pl.scan_csv(
        path,
        separator=separator,
        infer_schema_length=None,
        schema_overrides=as_text,
    )
    return found if separator == "," else _with_decimal_commas(found, as_text)


def _with_decimal_commas(frame: pl.LazyFrame, text: Collection[str]) -> pl.LazyFrame:
    """Columns of numbers such as 1,5 and 1.234,5 as numbers: where the comma separates nothing, a
    column is one if all of its values can be, and one at least has a comma.
    """
    schema = frame.collect_schema()
    names = [name for name, kind in schema.items() if kind == pl.String and name not in text]
    if not names:
        return frame
    all_are = frame.select(
        pl.col(name).str.strip_chars().str.contains(_WITH_COMMA).all()
        & pl.col(name).str.contains(",", literal=True).any()
        for name in names
    ).collect()
    plain = [
        pl.col(name).str.strip_chars().str.replace_all(".", "", literal=True)
        .str.replace(",", ".", literal=True).cast(pl.Float64)
        for name, is_number in zip(names, all_are.row(0), strict=True) if is_number
    ]  # fmt: skip
    return frame.with_columns(plain)
