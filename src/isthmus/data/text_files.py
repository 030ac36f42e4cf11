"""What is wrong with a text file that should be a table, told by row, never by value.

Polars names no row, reads a file of another encoding or drops surplus values without a word. These
checks read the file once, as the guess of its columns' types does too.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from isthmus.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_FIRST = 50
"""Rows, the header among them, by which a separator is told."""


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


def separator_of(path: Path, usual: str) -> str:
    """What stands between the values of the CSV file `path`: a comma, a semicolon, a tab or a bar.

    Args:
        path: maybe gzipped.
        usual: what its name says, which is taken where the beginning of the file leaves a choice.

    Raises:
        DataError: it is not UTF-8.
        csv.Error: it is no CSV.
    """
    csv.field_size_limit(2**31 - 1)
    with _reading(path, "row") as text:
        header = next((line for line in text if not line.isspace()), "")
    bare = re.sub(r'"[^"]*"', "", header)
    found = [one for one in SEPARATORS if one in bare]
    if usual not in found and len(found) == 1:
        return found[0]
    if usual in found and _fits(path, usual):
        return usual
    fitting = [one for one in found if one != usual and _fits(path, one)]
    return fitting[0] if len(fitting) == 1 else usual


def _fits(path: Path, separator: str) -> bool:
    """Whether the first rows have as many values as the header."""
    with _reading(path, "row") as text:
        rows = filter(None, csv.reader(text, delimiter=separator))
        return len({len(row) for row in islice(rows, _FIRST)}) <= 1


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
