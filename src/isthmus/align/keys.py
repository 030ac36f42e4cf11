"""Ids of any kind as canonical bytes: equal text at two parties gives equal bytes.

An integer is its decimal text, so 7 at one party matches "7" at another; a string is its UTF-8
bytes, unchanged (no trimming, no change of case, no Unicode normalisation). A key of several
columns is each part's length as four bytes (little-endian) and the part, so ("1", "23") and
("12", "3") differ. Floats and dates are refused: their text differs between programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import AlignError

Ids = pl.Series | pl.DataFrame | Sequence[int] | Sequence[str] | npt.NDArray[Any]
"""One id a row; a data frame's columns together are a composite key."""

OnTrouble = Literal["refuse", "drop"]


@dataclass(frozen=True)
class Keys:
    """The distinct ids of a table, and which row has which."""

    values: list[bytes]
    """`[k]`: each distinct id, in the order of its first row."""
    first_row: npt.NDArray[np.int64]
    """int64 `[k]`: the first row of each distinct id."""
    event_row: npt.NDArray[np.int64]
    """int64 `[m]`: every row whose id is whole."""
    event_key: npt.NDArray[np.int64]
    """int64 `[m]`: which of `values` that row has."""
    parts: int
    """Number of columns of the key."""
    rows: int
    """Rows of the table."""

    @property
    def nulls(self) -> int:
        """Rows without a whole id."""
        return self.rows - len(self.event_row)

    @property
    def repeats(self) -> int:
        """Rows whose id an earlier row has."""
        return len(self.event_row) - len(self.values)


def read_keys(ids: Ids, *, repeats: OnTrouble | Literal["keep"], nulls: OnTrouble) -> Keys:
    """The distinct ids of a column or of several.

    Args:
        ids: an id a row.
        repeats: what to do with an id that occurs twice: refuse, keep its first row only ("drop"),
            or allow it ("keep": entity keys at the label party).
        nulls: refuse rows without a whole id, or drop them.

    Raises:
        AlignError: a column is of a kind that cannot be an id, an id is missing or occurs twice
            where that is refused, or there are no ids at all.
    """
    frame = _as_frame(ids)
    keys = _distinct(frame.select(_as_text(column) for column in frame.get_columns()))
    if keys.nulls and nulls == "refuse":
        raise AlignError(
            f"{keys.nulls} of {keys.rows} rows have no id",
            mend="Fill in the missing ids, or drop these rows with nulls: drop.",
        )
    if keys.repeats and repeats == "refuse":
        raise AlignError(
            f"{keys.repeats} of {keys.rows} rows have an id that an earlier row has",
            mend="Make the ids unique, keep the first row of each with duplicates: drop, or, if "
            "these are events of entities at the label party, align with keys: entity.",
        )
    if not keys.values:
        raise AlignError(f"there are no ids to align in a table of {keys.rows} rows")
    return keys


def _as_frame(ids: Ids) -> pl.DataFrame:
    if isinstance(ids, pl.DataFrame):
        if not ids.width:
            raise AlignError("a key needs at least one column")
        return ids
    try:
        series = ids if isinstance(ids, pl.Series) else pl.Series("id", ids)
    except (TypeError, OverflowError, ValueError, pl.exceptions.PolarsError) as error:
        raise AlignError(
            "the ids are not all of one kind", mend="Give them all as text, or all as integers."
        ) from error
    return series.to_frame()


def _as_text(column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind.is_float():
        raise AlignError(
            f"the key column {column.name!r} holds floats, whose text is not the same everywhere",
            mend="Cast it to integers or text at every party. A column of whole numbers often "
            "becomes float because some are missing.",
        )
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise AlignError(
            f"the key column {column.name!r} is of type {kind}, which cannot be an id",
            mend="Cast it to text in the same way at every party.",
        )
    return column.cast(pl.String)


def _distinct(text: pl.DataFrame) -> Keys:
    names = [str(i) for i in range(text.width)]
    frame = text.rename(dict(zip(text.columns, names, strict=True))).with_row_index("row")
    whole = frame.drop_nulls(names)
    first = whole.unique(names, keep="first", maintain_order=True)
    if len(first) == len(whole):
        event_key = np.arange(len(whole), dtype=np.int64)
    else:
        numbered = first.select(*names).with_row_index("key")
        joined = whole.join(numbered, on=names, how="left", maintain_order="left")
        event_key = joined["key"].to_numpy().astype(np.int64)
    return Keys(
        values=_as_bytes([first[name].to_list() for name in names]),
        first_row=first["row"].to_numpy().astype(np.int64),
        event_row=whole["row"].to_numpy().astype(np.int64),
        event_key=event_key,
        parts=text.width,
        rows=len(text),
    )


def _as_bytes(columns: list[list[str]]) -> list[bytes]:
    if len(columns) == 1:
        return [value.encode() for value in columns[0]]
    return [
        b"".join(_prefixed(part.encode()) for part in row) for row in zip(*columns, strict=True)
    ]


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "little") + part
