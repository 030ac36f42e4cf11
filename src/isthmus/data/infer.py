"""What a table's columns look like, and the schema that they suggest."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from isthmus.data.columns import as_numbers, as_text
from isthmus.data.schema import FeatureSpec, Kind, Schema

SEPARATORS = ("|", ";", ",", "/", " ")
"""What may stand between the tokens of a multi-hot text, the most telling first."""

FEW_NUMBERS = 25
"""Integers with at most this many distinct values are taken for categories."""

MANY_IDS = 200
"""Integers that fill a range and have more distinct values than this are taken for ids."""

FEW_TEXTS = 100
"""Texts with at most this many distinct values are categories even if most rows differ."""

_TIME_NAME = re.compile(r"(^|[_\W])(time|timestamp|datetime|ts)$|timestamp", re.IGNORECASE)
_DATE = r"^\d{4}-\d\d-\d\d([T ]\d\d:|$)"
_ID_NAME = re.compile(r"(?i:(^|[_\W])(id|idx|key|uuid|uid)$)|[a-z]I[dD]$")


@dataclass(frozen=True)
class ColumnProfile:
    """One column in numbers: enough to choose its kind, no value of a person."""

    name: str
    dtype: str
    rows: int
    missing: int
    """Nulls, NaN and empty texts."""
    distinct: int
    """Distinct values that are not missing."""
    minimum: float | None
    maximum: float | None
    """The range of a numeric column; None for all others."""
    suggestion: FeatureSpec
    is_key: bool
    """Nothing missing, no value twice, and named or numbered like an id."""

    @property
    def summary(self) -> str:
        """The profile in a few words, without an example."""
        parts = [f"{self.distinct} distinct"]
        if self.missing:
            parts.append(f"{self.missing} missing")
        if self.minimum is not None and self.maximum is not None:
            parts.append(f"{self.minimum:g} to {self.maximum:g}")
        return ", ".join(parts)


def describe(table: pl.DataFrame | pl.LazyFrame) -> list[ColumnProfile]:
    """Profile every column of `table`, one at a time."""
    frame = table.lazy()
    profiles = []
    for name in frame.collect_schema().names():
        profiles.append(_profile(frame.select(name).collect().to_series()))
    return profiles


def infer_schema(
    table: pl.DataFrame | pl.LazyFrame, *, profiles: list[ColumnProfile] | None = None
) -> Schema:
    """The schema that the columns of `table` suggest; a start to be edited, not a verdict.

    The first key candidate becomes the key; further ones are ignored as features, since a value
    that never comes back teaches nothing.
    """
    profiles = describe(table) if profiles is None else profiles
    key = next((profile.name for profile in profiles if profile.is_key), None)
    features = {profile.name: profile.suggestion for profile in profiles if profile.name != key}
    return Schema(key=() if key is None else (key,), features=features)


def _profile(column: pl.Series) -> ColumnProfile:
    dtype = column.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return _plain(column, "multi_hot")
    if not _is_scalar(dtype):
        return _plain(column, "ignore")
    text = as_text(column, "the table").drop_nulls()
    distinct, filled = text.n_unique(), len(text)
    unique = filled == len(column) == distinct and filled > 1
    numbered = dtype.is_integer() and _fills_range(column, distinct)
    low, high = _range(column)
    return ColumnProfile(
        name=column.name,
        dtype=str(dtype),
        rows=len(column),
        missing=len(column) - filled,
        distinct=distinct,
        minimum=low,
        maximum=high,
        suggestion=_suggest(column, text, distinct),
        is_key=unique and (numbered or _ID_NAME.search(column.name) is not None),
    )


def _plain(column: pl.Series, kind: Kind) -> ColumnProfile:
    """The profile of a column of lists, or of a type that cannot be a feature."""
    return ColumnProfile(
        name=column.name,
        dtype=str(column.dtype),
        rows=len(column),
        missing=column.null_count(),
        distinct=0 if kind == "ignore" else column.drop_nulls().n_unique(),
        minimum=None,
        maximum=None,
        suggestion=FeatureSpec(kind=kind),
        is_key=False,
    )


def _suggest(column: pl.Series, text: pl.Series, distinct: int) -> FeatureSpec:
    dtype, filled = column.dtype, len(text)
    if distinct <= 1 or dtype.is_temporal() or _TIME_NAME.search(column.name):
        return FeatureSpec(kind="ignore")
    if dtype.is_float() or dtype.is_decimal():
        whole = distinct <= 10 and not text.str.contains(".", literal=True).any()
        return FeatureSpec(kind="categorical" if whole else "numeric")
    if dtype.is_integer():
        return FeatureSpec(kind=_integer_kind(column, distinct, filled))
    if dtype == pl.Boolean:
        return FeatureSpec(kind="categorical")
    if text.str.contains(_DATE).all():
        return FeatureSpec(kind="ignore")
    return _text_spec(text, distinct, filled)


def _integer_kind(column: pl.Series, distinct: int, filled: int) -> Kind:
    named = _ID_NAME.search(column.name) is not None
    if distinct == filled:
        return "ignore" if named or _fills_range(column, distinct) else "numeric"
    if named or distinct <= FEW_NUMBERS:
        return "categorical"
    repeated = filled >= 2 * distinct and distinct > MANY_IDS
    return "categorical" if repeated and _fills_range(column, distinct) else "numeric"


def _fills_range(column: pl.Series, distinct: int) -> bool:
    """Whether most integers between the least and the greatest occur, as numbers given in order."""
    low, high = _range(column)
    return low is not None and high is not None and distinct >= 0.5 * (high - low + 1)


def _text_spec(text: pl.Series, distinct: int, filled: int) -> FeatureSpec:
    values = text.unique()
    for separator in SEPARATORS:
        if _is_multi_hot(values, separator):
            return FeatureSpec(kind="multi_hot", separator=separator)
    nearly_unique = distinct > 0.5 * filled and distinct > FEW_TEXTS
    return FeatureSpec(kind="ignore" if nearly_unique else "categorical")


def _is_multi_hot(values: pl.Series, separator: str) -> bool:
    """Whether distinct texts are made of fewer tokens that come back in many of them."""
    several = values.str.contains(separator, literal=True)
    if several.sum() < max(2, 0.1 * len(values)):
        return False
    tokens = values.str.split(separator).explode().str.strip_chars()
    return tokens.n_unique() <= min(0.5 * len(values) + 2, 0.2 * len(tokens) + 2)


def _range(column: pl.Series) -> tuple[float | None, float | None]:
    if not column.dtype.is_numeric():
        return None, None
    numbers = as_numbers(column).drop_nulls()
    if not len(numbers):
        return None, None
    array = numbers.to_numpy()
    return float(array.min()), float(array.max())


def _is_scalar(dtype: pl.DataType) -> bool:
    return not (dtype.is_nested() or isinstance(dtype, (pl.Binary, pl.Object)))
