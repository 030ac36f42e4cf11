"""The encoder of one party's table: fitted on training rows, kept by its owner, never sent.

A vocabulary holds the owner's raw values, so an encoder file is as private as the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from isthmus.data.arrays import open_array, writing_array
from isthmus.data.columns import check_numbers, column_of
from isthmus.data.features import PADDING, Features, FieldLayout, Layout
from isthmus.data.fields import (
    NO_CODE,
    CategoricalField,
    FittedField,
    MultiHotField,
    NumericField,
    Values,
    fit_categorical,
    fit_multi_hot,
    fit_numeric,
)
from isthmus.data.schema import FeatureSpec, describe_errors, parse_features
from isthmus.errors import DataError, StorageError
from isthmus.files import write_json

CHUNK = 1 << 20
"""Rows encoded at a time: bounds the memory beyond the table itself."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Encoder:
    """Fitted fields in the order of the feature list."""

    fields: tuple[FittedField, ...]

    @cached_property
    def layout(self) -> Layout:
        """Columns and rows of every field; row 0 of the fused table is padding."""
        placed, start, row, values = [], 0, PADDING + 1, 0
        for field in self.fields:
            value = values if field.has_value else None
            placed.append(
                FieldLayout(field.name, field.kind, start, field.width, row, field.rows, value)
            )
            start, row, values = start + field.width, row + field.rows, values + field.has_value
        if row > np.iinfo(np.int32).max:
            raise DataError(f"the features need {row} embedding rows, more than 32 bits can count")
        return Layout(tuple(placed), row, start, values)

    def encode(
        self,
        frame: pl.DataFrame,
        folder: Path | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
        source: str = "the table",
        chunk: int = CHUNK,
    ) -> Features:
        """Encode `frame`, or only its `rows` int64 [n] in that order, chunk by chunk.

        With a folder the arrays are written there and memory-mapped; without one they stay in
        memory. Row numbers in messages are those of `frame`.

        Raises:
            SchemaError: a column is missing, or a numeric one holds text or infinity.
            StorageError: the folder's disk is full or cannot be written.
        """
        columns = [column_of(frame, field.name, source) for field in self.fields]
        for field, column in zip(self.fields, columns, strict=True):
            if isinstance(field, NumericField):
                check_numbers(column, source)
        n = len(frame) if rows is None else len(rows)
        blocks = self._blocks(columns, n, rows, source, chunk)
        layout = self.layout
        if folder is None:
            return _in_memory(layout, n, blocks)
        # The layout is written last and says that the arrays are whole; an old one must not.
        (folder / "layout.json").unlink(missing_ok=True)
        with (
            writing_array(folder / "index.npy", n, layout.columns, np.int32) as add_index,
            writing_array(folder / "values.npy", n, layout.values, np.float32) as add_values,
        ):
            for index, values in blocks:
                add_index(index)
                add_values(values)
        write_json(folder / "layout.json", asdict(layout))
        return load_features(folder)

    def _blocks(
        self,
        columns: list[pl.Series],
        n: int,
        rows: NDArray[np.int64] | None,
        source: str,
        chunk: int,
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        layout = self.layout
        for start in range(0, n, chunk):
            size = min(chunk, n - start)
            index = np.empty((size, layout.columns), dtype=np.int32)
            values = np.empty((size, layout.values), dtype=np.float32)
            for field, place, column in zip(self.fields, layout.fields, columns, strict=True):
                part = (
                    column.slice(start, size)
                    if rows is None
                    else column.gather(rows[start : start + size])
                )
                codes, numbers = field.encode(part, source)
                index[:, place.columns] = np.where(
                    codes == NO_CODE, np.int32(PADDING), codes + np.int32(place.first_row)
                )
                if numbers is not None and place.value_column is not None:
                    values[:, place.value_column] = numbers
            yield index, values

    def save(self, path: Path) -> None:
        """Write the encoder as JSON, whole or not at all.

        Raises:
            StorageError: the file cannot be written.
        """
        content = {"version": 1, "fields": [_to_json(field) for field in self.fields]}
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Encoder:
        """Read an encoder that `save` wrote.

        Raises:
            StorageError: the file cannot be read or is not an encoder of this version.
        """
        content = _read(path, "encoder", TypeAdapter(_EncoderFile))
        return cls(tuple(_from_json(field) for field in content.fields))


def fit_encoder(
    frame: pl.DataFrame,
    features: Mapping[str, FeatureSpec | str | dict[str, Any]],
    train_rows: NDArray[np.int64],
    *,
    source: str = "the table",
    chunk: int = CHUNK,
) -> Encoder:
    """Fit vocabularies, means and deviations on `train_rows` int64 [n] of `frame` alone.

    Every row is checked for text in numeric columns: a bad table is refused before training.

    Raises:
        SchemaError: a column is missing, is not of the kind that the features say, or a spec is
            not valid.
        DataError: `train_rows` points outside the table.
    """
    if train_rows.size and not 0 <= int(train_rows.min()) <= int(train_rows.max()) < len(frame):
        raise DataError(f"the training rows point outside the {len(frame)} rows of {source}")
    fields = [
        _fit(column_of(frame, name, source), spec, train_rows, source, chunk)
        for name, spec in parse_features(features).items()
        if spec.kind != "ignore"
    ]
    return Encoder(tuple(fields))


def load_features(folder: Path) -> Features:
    """Map the features that `Encoder.encode` wrote to `folder`.

    Raises:
        StorageError: a file is missing, broken, or does not belong to the others.
    """
    layout = _read(folder / "layout.json", "layout", TypeAdapter(Layout))
    index = open_array(folder / "index.npy", np.int32).astype(np.int32, copy=False)
    values = open_array(folder / "values.npy", np.float32).astype(np.float32, copy=False)
    try:
        return Features(layout, index, values)
    except DataError as error:
        raise StorageError(f"the features in {folder} do not belong together: {error}") from error


def _fit(
    column: pl.Series, spec: FeatureSpec, rows: NDArray[np.int64], source: str, chunk: int
) -> FittedField:
    if spec.kind == "numeric":
        check_numbers(column, source)
        return fit_numeric(column.gather(rows), source=source)
    train = column.gather(rows)
    if spec.kind == "categorical":
        return fit_categorical(train, min_count=spec.min_count, buckets=spec.buckets, source=source)
    return fit_multi_hot(
        train,
        separator=spec.separator,
        min_count=spec.min_count,
        buckets=spec.buckets,
        max_tokens=spec.max_tokens,
        source=source,
        chunk=chunk,
    )


def _in_memory(
    layout: Layout, n: int, blocks: Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]
) -> Features:
    index = np.empty((n, layout.columns), dtype=np.int32)
    values = np.empty((n, layout.values), dtype=np.float32)
    start = 0
    for index_block, values_block in blocks:
        stop = start + len(index_block)
        index[start:stop], values[start:stop] = index_block, values_block
        start = stop
    return Features(layout, index, values)


class _FieldFile(BaseModel):
    """One field of an encoder file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str


class _NumericFile(_FieldFile):
    kind: Literal["numeric"]
    mean: float
    std: float = Field(gt=0)


class _CategoricalFile(_FieldFile):
    kind: Literal["categorical"]
    vocabulary: list[str]
    buckets: int | None = Field(ge=2)


class _MultiHotFile(_FieldFile):
    kind: Literal["multi_hot"]
    vocabulary: list[str]
    buckets: int | None = Field(ge=2)
    width: int = Field(ge=1)
    separator: str | None


class _EncoderFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    fields: list[
        Annotated[_NumericFile | _CategoricalFile | _MultiHotFile, Field(discriminator="kind")]
    ]


def _to_json(field: FittedField) -> dict[str, Any]:
    common: dict[str, Any] = {"name": field.name, "kind": field.kind}
    if isinstance(field, NumericField):
        return common | {"mean": field.mean, "std": field.std}
    common |= {"vocabulary": field.known.vocabulary.to_list(), "buckets": field.known.buckets}
    if isinstance(field, MultiHotField):
        common |= {"width": field.width, "separator": field.separator}
    return common


def _from_json(field: _NumericFile | _CategoricalFile | _MultiHotFile) -> FittedField:
    if isinstance(field, _NumericFile):
        return NumericField(field.name, field.mean, field.std)
    known = Values(pl.Series(field.vocabulary, dtype=pl.String), field.buckets)
    if isinstance(field, _CategoricalFile):
        return CategoricalField(field.name, known)
    return MultiHotField(field.name, known, field.width, field.separator)


def _read(path: Path, what: str, adapter: TypeAdapter[T]) -> T:
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read the {what} {path}") from error
    except ValidationError as error:
        raise StorageError(f"{path} is not a valid {what}: {describe_errors(error)}") from error
