"""Encoded features of one party: two contiguous arrays, their layout, and the batch gather.

`index` holds rows of one fused embedding table, `values` the numbers that some of those embeddings
are multiplied by. A batch is a gather of rows; nothing else happens between a table and a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError

FieldKind = Literal["categorical", "numeric", "multi_hot"]

PADDING = 0
"""The row of the fused table that stands for "no token here"; it is never trained."""


@dataclass(frozen=True)
class FieldLayout:
    """Where one feature lives in `Features.index`, in `Features.values` and in the fused table."""

    name: str
    kind: FieldKind
    start: int
    """First column of the field in `index`."""
    width: int
    """Number of columns in `index`: 1, or the most tokens of a multi-hot field."""
    first_row: int
    """First row of the field in the fused table."""
    rows: int
    """Number of rows of the field in the fused table."""
    value_column: int | None = None
    """Column in `values` that the embedding is multiplied by; None if there is none."""

    @property
    def columns(self) -> slice:
        """The field's columns in `index`."""
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True)
class Layout:
    """All fields of one party, in the order of its feature list."""

    fields: tuple[FieldLayout, ...]
    table_rows: int
    """Rows of the fused table, with the padding row 0."""
    columns: int
    """Columns of `index`."""
    values: int
    """Columns of `values`."""

    def field(self, name: str) -> FieldLayout:
        """The field called `name`.

        Raises:
            KeyError: there is no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


@dataclass(frozen=True, eq=False)
class Features:
    """Encoded rows of one party, gathered by sample.

    `index` is int32 [local_rows, columns], `values` float32 [local_rows, values]; both may be views
    of memory-mapped files. `rows` int32 or int64 [samples] maps a sample to its local row, as with
    entity keys, where many samples share one profile row; None means that sample i is row i.

    Raises:
        DataError: shapes or dtypes do not fit the layout, or `rows` points outside the arrays.
    """

    layout: Layout
    index: NDArray[np.int32]
    values: NDArray[np.float32]
    rows: NDArray[np.signedinteger[Any]] | None = None

    def __post_init__(self) -> None:
        # A plain view gathers faster than np.memmap, whose every result runs __array_finalize__.
        object.__setattr__(self, "index", np.asarray(self.index))
        object.__setattr__(self, "values", np.asarray(self.values))
        _check_array("index", self.index, np.dtype(np.int32), self.layout.columns)
        _check_array("values", self.values, np.dtype(np.float32), self.layout.values)
        if len(self.index) != len(self.values):
            raise DataError(f"index has {len(self.index)} rows, values {len(self.values)}")
        if self.rows is not None:
            object.__setattr__(self, "rows", np.asarray(self.rows))
            _check_rows(self.rows, len(self.index))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.index) if self.rows is None else len(self.rows)

    def with_rows(self, rows: NDArray[np.signedinteger[Any]]) -> Features:
        """The same local rows seen through another sample order, `rows` [samples]."""
        return Features(self.layout, self.index, self.values, rows)

    def gather(
        self, samples: NDArray[np.signedinteger[Any]]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The batch of `samples` [b]: index int32 [b, columns], values float32 [b, values].

        Raises:
            IndexError: a sample is negative or past the end.
        """
        samples = samples.astype(np.int64, copy=False)
        # Seen as unsigned, a negative number is huge: one reduction checks both ends.
        if samples.size and int(samples.view(np.uint64).max()) >= len(self):
            raise IndexError(f"a sample is outside 0..{len(self) - 1}")
        rows = samples if self.rows is None else self.rows.take(samples, mode="clip")
        # "clip" skips numpy's buffered bounds check, which was done above.
        return self.index.take(rows, axis=0, mode="clip"), self.values.take(
            rows, axis=0, mode="clip"
        )


def _check_array(name: str, array: NDArray[np.generic], dtype: np.dtype, columns: int) -> None:
    if array.dtype != dtype or array.ndim != 2 or array.shape[1] != columns:
        raise DataError(
            f"{name} is {array.dtype} {list(array.shape)}, the layout wants {dtype} [n, {columns}]"
        )


def _check_rows(rows: NDArray[np.signedinteger[Any]], local_rows: int) -> None:
    if rows.dtype not in (np.int32, np.int64) or rows.ndim != 1:
        raise DataError(f"rows is {rows.dtype} {list(rows.shape)}, wanted int64 [samples]")
    if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= local_rows):
        raise DataError(f"rows points outside the {local_rows} encoded rows")
