"""Vectors that were computed elsewhere, such as embeddings of pictures or texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.errors import SchemaError

Numbers = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class VectorField:
    """One vector a row, divided by the training rows' root mean square; zeros where missing."""

    name: str
    width: int
    separator: str | None
    scale: float
    """Root mean square of the numbers of the training rows."""
    kind: Literal["vector"] = "vector"

    def encode(self, column: pl.Series, source: str) -> Numbers:
        """The vectors of `column`, float32 [rows, width]. Raises SchemaError, see `vectors_of`."""
        vectors, _ = vectors_of(column, self.width, self.separator, source)
        limit = np.finfo(np.float32).max
        return np.clip(vectors / self.scale, -limit, limit).astype(np.float32)


def fit_vector(
    column: pl.Series, width: int, separator: str | None, source: str, chunk: int
) -> VectorField:
    """Fit on the training rows `column` in chunks. Raises SchemaError, see `vectors_of`."""
    total, numbers = 0.0, 0
    for start in range(0, len(column), chunk):
        vectors, there = vectors_of(column.slice(start, chunk), width, separator, source, start)
        total += float(np.square(vectors).sum())
        numbers += int(np.count_nonzero(there)) * width
    scale = math.sqrt(total / numbers) if numbers else 0.0
    if not math.isfinite(scale):
        raise SchemaError(f"{source}: the numbers of vector column {column.name!r} are too large")
    return VectorField(column.name, width, separator, scale or 1.0)


def check_vectors(
    column: pl.Series, width: int, separator: str | None, source: str, chunk: int
) -> None:
    """See that every row of `column` holds a vector or nothing. Raises SchemaError."""
    for start in range(0, len(column), chunk):
        vectors_of(column.slice(start, chunk), width, separator, source, start)


def vectors_of(
    column: pl.Series, width: int, separator: str | None, source: str, first: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The vectors of a column of lists, arrays, or text with a separator.

    Args:
        column: null, an empty list and empty text stand for a missing vector.
        width: numbers that each vector must have.
        separator: what stands between the numbers of a text.
        source: names the table in messages.
        first: rows of the table before `column`, for messages.

    Returns:
        float64 [rows, width], zeros where missing, and bool [rows]: where there is a vector.

    Raises:
        SchemaError: the column holds something else; a vector of another width, or one with
            missing or infinite numbers or with text (the first such row is named).
    """
    lists = _lists(column, separator, source)
    sizes = lists.list.len().fill_null(0).to_numpy()
    there = sizes > 0
    _refuse(column.name, there & (sizes != width), f"not of width {width}", source, first)
    numbers = lists.filter(pl.Series(there)).explode().cast(pl.Float64, strict=False)
    found = numbers.fill_null(np.nan).to_numpy().reshape(-1, width)
    bad = np.zeros(len(column), dtype=np.bool_)
    bad[there] = ~np.isfinite(found).all(1)
    _refuse(column.name, bad, "with something that is no finite number", source, first)
    vectors = np.zeros((len(column), width))
    vectors[there] = found
    return vectors, there


def _lists(column: pl.Series, separator: str | None, source: str) -> pl.Series:
    dtype = column.dtype
    if isinstance(dtype, pl.Array):
        column = column.arr.to_list()
        dtype = column.dtype
    if isinstance(dtype, pl.List):
        if dtype.inner.is_numeric() or isinstance(dtype.inner, pl.Null):
            return column
    elif isinstance(dtype, pl.Null):
        return column.cast(pl.List(pl.Float64))
    elif isinstance(dtype, pl.String) and separator is not None:
        text = column.str.strip_chars()
        parts = text.set(text == "", None).str.split(separator)
        return parts.list.eval(pl.element().str.strip_chars())
    if isinstance(dtype, pl.String):
        raise SchemaError(
            f"{source}: vector column {column.name!r} holds text and has no separator",
            mend='Write it as {kind: vector, width: 64, separator: " "}.',
        )
    raise SchemaError(
        f"{source}: column {column.name!r} is of type {dtype}, which holds no vectors",
        mend="A vector is a list of numbers, or text with a separator.",
    )


def _refuse(name: str, bad: NDArray[np.bool_], what: str, source: str, first: int) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise SchemaError(
            f"{source}: column {name!r} holds vectors {what} in {rows.size} rows, "
            f"the first is row {first + rows[0] + 1}",
            mend="Mend these rows or leave them empty.",
        )
