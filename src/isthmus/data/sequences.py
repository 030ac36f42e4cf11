"""Sequences as fields of the encoder: lists in a column of the table, and histories of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from isthmus.data.fields import (
    NO_CODE,
    Codes,
    Values,
    place_in_group,
    tokens_of,
    values_of,
)


@dataclass(frozen=True, eq=False)
class ListField:
    """A list in each row: the last `width` items, oldest first, `NO_CODE` in front."""

    name: str
    known: Values
    width: int
    separator: str | None
    shares: str = ""
    """The categorical field whose values these are; it then has no rows of its own."""
    kind: Literal["sequence"] = "sequence"
    has_value: bool = False

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return 0 if self.shares else self.known.rows

    def encode(self, column: pl.Series, source: str) -> tuple[Codes, None]:
        """Codes int32 [rows, width]; an item may stand several times."""
        owner, items = tokens_of(column, self.separator, source, "sequence")
        codes = self.known.codes(items, source)
        sizes = np.bincount(owner, minlength=len(column))
        place = place_in_group(owner) - sizes[owner] + self.width
        kept = place >= 0
        out = np.full((len(column), self.width), NO_CODE, dtype=np.int32)
        out[owner[kept], place[kept]] = codes[kept]
        return out, None


@dataclass(frozen=True, eq=False)
class HistoryField:
    """A sequence that is built from events: its columns are not stored with the rows."""

    name: str
    known: Values
    width: int
    shares: str = ""
    """The categorical field whose values these are; it then has no rows of its own."""
    kind: Literal["sequence"] = "sequence"

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return 0 if self.shares else self.known.rows


def fit_list(
    column: pl.Series,
    *,
    separator: str | None,
    length: int,
    min_count: int,
    buckets: int | None,
    shared: tuple[str, Values] | None,
    source: str,
    chunk: int,
) -> ListField:
    """Fit on the training rows `column` in chunks.

    Args:
        column: lists, or text with `separator`.
        separator: what stands between the items of a text.
        length: the most items of a row that are kept.
        min_count: an item in fewer rows is unknown.
        buckets: hash the items in place of a vocabulary.
        shared: the name of a field and its values, in place of a vocabulary of its own.
        source: names the table in messages.
        chunk: rows looked at together.
    """
    if shared is not None:
        return ListField(column.name, shared[1], length, separator, shares=shared[0])
    seen = []
    for start in range(0, len(column), chunk):
        owner, items = tokens_of(column.slice(start, chunk), separator, source, "sequence")
        seen.append(pl.DataFrame({"owner": owner, "item": items}).unique()["item"])
    return ListField(column.name, values_of(seen, min_count, buckets, source), length, separator)
