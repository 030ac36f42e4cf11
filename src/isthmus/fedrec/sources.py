"""Where interactions come from: public data sets by name, and tables of users and items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.columns import as_numbers, as_text, check_numbers, columns_hint
from isthmus.data.sources import get, load_tables
from isthmus.data.tables import load_table
from isthmus.errors import DataError, SchemaError
from isthmus.fedrec.population import Interactions, Longs, Order

PUBLIC = {
    "filmtrust": ("filmtrust", 10),
    "filmtrust-5": ("filmtrust", 5),
    "ml-100k": ("ml-100k", 10),
    "ml-1m": ("ml-1m", 10),
    "microlens-50k": ("microlens-50k", 5),
}
"""Name to the data set of `isthmus data get` and the fewest interactions of a client."""

_USER = ("user_id", "userid", "user", "uid")
_ITEM = ("item_id", "itemid", "item", "iid", "movieid", "mid")
_RATING = ("rating", "label", "stars")
_TIME = ("position", "timestamp", "time", "ts")


def interactions(
    source: str,
    *,
    least: int | None = None,
    columns: dict[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Interactions:
    """The interactions of a public data set, or of a table file.

    Args:
        source: a name of `PUBLIC`, or the path of a table: RecBole's atomic `.inter`, or CSV,
            Parquet, ... with columns for user and item and, if there are any, rating and time.
        least: clients with fewer rows are left out; None for the data set's usual cut.
        columns: which column is `user`, `item`, `rating` or `time`, where the names do not tell.
        say: told what is being fetched, and what is wrong with times.

    Raises:
        SourceError: the public data set cannot be had.
        SchemaError: a column is missing.
        DataError: nothing is left.
    """
    if source in PUBLIC:
        name, usual = PUBLIC[source]
        frame = load_tables(get(name, say=say))["ratings"]
    else:
        usual, frame = 5, read_table(Path(source))
    name = source if source in PUBLIC else Path(source).stem
    found = from_frame(frame, name, usual if least is None else least, columns or {})
    for note in found.notes:
        (say or (lambda text: None))(f"warning: {note}")
    return found


def read_table(path: Path) -> pl.DataFrame:
    """A table file: RecBole's atomic `.inter`, or CSV, Parquet, ...

    Raises:
        DataError: it is not there or cannot be read.
    """
    if not path.exists():
        raise DataError(
            f"{path} is no public data set, and there is no file of this name",
            mend=f"Known data sets: {', '.join(PUBLIC)}.",
        )
    return _atomic(path) if path.suffix == ".inter" else load_table(path)


def from_frame(
    frame: pl.DataFrame, name: str, least: int, columns: dict[str, str] | None = None
) -> Interactions:
    """The rows of `frame` as interactions: ratings above 0, users with `least` rows or more.

    Users and items are numbered by first appearance. Of a pair that comes twice the first counts.
    Rows at the same time stand with the later row first, as the FedCA loader ranks them. Where a
    row has no time the order counts for none; the notes of the result say how many have none.

    Raises:
        SchemaError: there is no column for users or items.
        DataError: nothing is left.
    """
    rows = cleaned(frame, least, columns or {})
    users, items = _numbered(rows["user"]), _numbered(rows["item"])
    order: Order = "time" if len(rows) and rows["time"].null_count() == 0 else "none"
    moment = rows["time"].to_numpy() if order == "time" else items
    place = in_order(users, moment)
    count = int(users.max()) + 1 if len(rows) else 0
    size = int(items.max()) + 1 if len(rows) else 0
    notes = untimed(rows, has_times(frame, columns or {}))
    return Interactions(name, count, size, users[place], items[place], order, notes)


def has_times(frame: pl.DataFrame, named: dict[str, str]) -> bool:
    """Whether the table has a column for times."""
    return _column(frame, named, *_OPTIONAL[1]) is not None


def untimed(rows: pl.DataFrame, timed: bool) -> tuple[str, ...]:
    """A sentence where `rows` of a table with a column for times lack some, so that none counts."""
    missing = rows["time"].null_count()
    if not timed or not missing:
        return ()
    have = "has" if missing == 1 else "have"
    return (
        f"{missing:,} of {len(rows):,} interactions {have} no time, so that no order counts and "
        "held-out items are not the latest ones. Fill the times in, or leave those rows out.",
    )


def in_order(users: Longs, moment: NDArray[Any]) -> Longs:
    """Rows user by user, each oldest first; at the same time the later row first."""
    return np.lexsort((-np.arange(len(users)), moment, users))


def cleaned(frame: pl.DataFrame, least: int, named: dict[str, str]) -> pl.DataFrame:
    """The rows that count: `user` and `item` as text, `rating`, `time` (null where there is none).

    Raises:
        SchemaError: there is no column for users or items, one stands for both, or ratings or
            times are not numbers.
    """
    _check_named(frame, named)
    user, item = (_column(frame, named, what, known) for what, known in _REQUIRED)
    rating, time = (_column(frame, named, what, known) for what, known in _OPTIONAL)
    if user == item:
        raise SchemaError(
            f"the column {user!r} stands for user and item", mend=columns_hint(frame.columns)
        )
    rows = pl.DataFrame(
        {
            "user": as_text(frame[str(user)], "the table"),
            "item": as_text(frame[str(item)], "the table"),
            "rating": _numbers(frame, "rating", rating, 1.0),
            "time": _numbers(frame, "time", time, None),
        }
    ).drop_nulls(["user", "item"])
    rows = rows.filter(pl.col("rating") > 0)
    rows = rows.filter(pl.len().over("user") >= least)
    return rows.unique(["user", "item"], keep="first", maintain_order=True)


_REQUIRED = (("user", _USER), ("item", _ITEM))
_OPTIONAL = (("rating", _RATING), ("time", _TIME))


def _check_named(frame: pl.DataFrame, named: dict[str, str]) -> None:
    kinds = [what for what, _ in (*_REQUIRED, *_OPTIONAL)]
    for what, name in named.items():
        if what not in kinds:
            raise SchemaError(
                f"--column {what}={name}: {what!r} is none of {', '.join(kinds)}",
                mend=f"Write what it is first, then its name in the table: --column user={what}.",
            )
        if name not in frame.columns:
            raise SchemaError(
                f"the table has no column {name!r} for {what}", mend=columns_hint(frame.columns)
            )


def _numbers(frame: pl.DataFrame, what: str, name: str | None, usual: float | None) -> pl.Series:
    """The column as Float64, null where missing; `usual` where there is no such column."""
    if name is None:
        return pl.Series([usual], dtype=pl.Float64).new_from_index(0, len(frame))
    column = frame[name]
    if what == "time" and column.dtype.is_temporal():
        return column.to_physical().cast(pl.Float64)
    try:
        check_numbers(column, "the table")
    except SchemaError as error:
        hint = "Times count by their order alone: write seconds. " if what == "time" else ""
        raise SchemaError(
            f"{error.message}; it stands for {what}",
            mend=f"{hint}Another column: --column {what}=NAME.",
        ) from error
    return as_numbers(column)


def _numbered(column: pl.Series) -> Longs:
    """0, 1, 2, ... by first appearance, int64."""
    known = column.unique(maintain_order=True)
    return column.replace_strict(
        known, np.arange(len(known), dtype=np.int64), return_dtype=pl.Int64
    ).to_numpy()


def _column(
    frame: pl.DataFrame, named: dict[str, str], what: str, known: tuple[str, ...]
) -> str | None:
    if what in named:
        return named[what]
    lower = {column.lower(): column for column in frame.columns}
    found = next((lower[name] for name in known if name in lower), None)
    if found is None and what in ("user", "item"):
        raise SchemaError(
            f"no column of the table is known to hold the {what}",
            mend=f"Name it: --column {what}=NAME. {columns_hint(frame.columns)}",
        )
    return found


def _atomic(path: Path) -> pl.DataFrame:
    """A RecBole atomic file: tab-separated, its header `name:type`."""
    frame = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    return frame.rename({column: column.split(":")[0] for column in frame.columns})
