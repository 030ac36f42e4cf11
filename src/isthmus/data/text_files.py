"""What is wrong with a text file that should be a table, told by row, never by value.

Polars names no row, reads a file of another encoding or drops surplus values without a word. These
checks read the file once, as the guess of its columns' types does too.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isthmus.errors import DataError


def check_lines(path: Path) -> None:
    """See that JSON lines in `path` are UTF-8 and not one JSON array.

    Raises:
        DataError: they are something else, or there is nothing; the message names the line.
    """
    begun = False
    with _reading(path, "line") as text:
        for line in text:
            if not begun and line.lstrip("\ufeff \t\r\n").startswith("["):
                raise DataError(
                    f"{path} holds a JSON array, not JSON lines",
                    mend="JSON lines have one object a line: "
                    "`jq -c '.[]' array.json > lines.jsonl`.",
                )
            begun = begun or not line.isspace()
    if not begun:
        raise DataError(f"the table {path} is empty")


def check_rows(path: Path, separator: str) -> None:
    """See that the CSV file `path` is UTF-8 and that no row has more values than the header.

    Raises:
        DataError: with the first offending row, data rows counted from 1, and their number.
        csv.Error: the file is no CSV.
    """
    first, count = 0, 0
    # A value may be as long as the file; the module's own limit is 128 KiB.
    csv.field_size_limit(2**31 - 1)
    with _reading(path, "row") as text:
        rows = filter(None, csv.reader(text, delimiter=separator))
        width = len(next(rows, ()))
        for number, row in enumerate(rows, 1):
            if len(row) > width:
                first, count = first or number, count + 1
    if count:
        raise DataError(
            f"{path}: {count} {'row has' if count == 1 else 'rows have'} more values than the "
            f"header's {width}, the first is row {first}",
            mend="A value that holds the separator belongs in double quotes.",
        )


@contextmanager
def _reading(path: Path, what: str) -> Iterator[TextIO]:
    """The text of a file, maybe gzipped; what is not UTF-8 is told by the number of its line."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        try:
            with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                yield text
        except UnicodeDecodeError:
            raise _not_utf8(path, what) from None


def _not_utf8(path: Path, what: str) -> DataError:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        encoding, place = "ISO-8859-1", ""
        for number, line in enumerate(file, 0 if what == "row" else 1):
            if not place and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                encoding = "UTF-16"
            try:
                line.decode()
            except UnicodeDecodeError:
                place = f"{what} {number}" if number else "the header"
                break
    target = f"converted{path.suffixes[0] if path.suffixes else ''}"
    return DataError(
        f"{path} is not UTF-8 text: {place} holds other bytes",
        mend="Save it as UTF-8, or convert it, such as with "
        f"`iconv -f {encoding} -t UTF-8 {path.name} > {target}`.",
    )
