"""Ids of any kind as canonical bytes: equal text at two parties gives equal bytes.

An integer is its decimal text, so 7 at one party matches "7" at another; a string is its UTF-8
bytes, unchanged (no trimming, no change of case, no Unicode normalisation). A key of several
columns is each part's length as four bytes (little-endian) and the part, so ("1", "23") and
("12", "3") differ. Floats and dates are refused: their text differs between programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import AlignError

Ids = pl.Series | pl.DataFrame | Sequence[int] | Sequence[str] | npt.NDArray[Any]
"""One id a row; a data frame's columns together are a composite key."""

OnTrouble = Literal["refuse", "drop"]

FORMS: Mapping[str, str] = MappingProxyType(
    {
        "leading zeros": r"^[+-]?0\d",
        "spaces around them": r"^\s|\s$",
        "capital letters": r"\p{Lu}",
        "a fraction of zero, like 7.0": r"^[+-]?\d+\.0+$",
    }
)
"""Ways of writing an id that another program often changes, as regular expressions."""


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
    forms: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """bool `[k]` for each of `FORMS` that occurs: which distinct ids are written so."""

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
    keys = _distinct(text_frame(ids))
    _refuse(keys.rows, keys.nulls, keys.repeats, repeats, nulls)
    return keys


def check_keys(ids: Ids, *, repeats: OnTrouble | Literal["keep"], nulls: OnTrouble) -> None:
    """See that `read_keys` would take these ids, at less cost. Raises AlignError as it does."""
    text = text_frame(ids)
    whole = text.drop_nulls()
    rows, nulled = len(text), len(text) - len(whole)
    _refuse(rows, nulled, len(whole) - whole.n_unique() if rows else 0, repeats, nulls)


def _refuse(
    rows: int,
    nulled: int,
    repeated: int,
    repeats: OnTrouble | Literal["keep"],
    nulls: OnTrouble,
) -> None:
    if nulled and nulls == "refuse":
        raise AlignError(
            f"{nulled} of {rows} rows have no id",
            mend="Fill in the missing ids, or drop these rows with nulls: drop.",
        )
    if repeated and repeats == "refuse":
        raise AlignError(
            f"{repeated} of {rows} rows have an id that an earlier row has",
            mend="Make the ids unique, keep the first row of each with duplicates: drop, or, if "
            "these are events of entities at the label party, align with keys: entity.",
        )
    if nulled == rows:
        raise AlignError(f"there are no ids to align in a table of {rows} rows")


def text_frame(ids: Ids) -> pl.DataFrame:
    """The columns of the key as text. Raises AlignError where one cannot be an id."""
    frame = _as_frame(ids)
    return frame.select(_as_text(column) for column in frame.get_columns())


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
        values=_as_bytes([first[name].cast(pl.Binary).to_list() for name in names]),
        first_row=first["row"].to_numpy().astype(np.int64),
        event_row=whole["row"].to_numpy().astype(np.int64),
        event_key=event_key,
        parts=text.width,
        rows=len(text),
        forms=_forms(first.select(names)),
    )


def _forms(ids: pl.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    found = {
        name: ids.select(pl.any_horizontal(pl.all().str.contains(pattern))).to_series().to_numpy()
        for name, pattern in FORMS.items()
    }
    return {name: has for name, has in found.items() if has.any()}


def _as_bytes(columns: list[list[bytes]]) -> list[bytes]:
    if len(columns) == 1:
        return columns[0]
    return [b"".join(map(_prefixed, row)) for row in zip(*columns, strict=True)]


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "little") + part
