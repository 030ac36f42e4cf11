"""What a table's columns look like, and the schema that they suggest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from isthmus.data.columns import as_numbers, as_text
from isthmus.data.schema import FeatureSpec, Kind, Schema
from isthmus.errors import DataError

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
_WHOSE = "no|nr|number|code|customer|client|user|member|account|person|patient|subscriber"
_WHOSE_NAME = re.compile(
    rf"(?i:(^|[_\W])({_WHOSE})$)|[a-z]({'|'.join(word.title() for word in _WHOSE.split('|'))})$"
)

_Named = Literal["id", "whose", ""]
_NAMED: tuple[_Named, ...] = ("id", "whose", "")
"""Ways to be named, the likeliest key first."""

MANY_ROWS = 100
"""With fewer rows no range is shown: it would be the values of single rows."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column in numbers: enough to choose its kind, no value of a row."""

    name: str
    dtype: str
    rows: int
    missing: int
    """Nulls, NaN and empty texts."""
    distinct: int
    """Distinct values that are not missing."""
    low: float | None
    high: float | None
    """The 1% and 99% quantiles of a column of numbers, to two digits; None for all others, and
    where there are fewer than `MANY_ROWS` values."""
    suggestion: FeatureSpec
    reason: str = ""
    """Why the column is ignored, if it is."""
    can_be_key: bool = False
    """Integers or texts, nothing missing, no value twice."""
    is_key: bool = False
    """It can be the key, and is named or numbered like an id."""

    @property
    def summary(self) -> str:
        """The profile in a few words, without an example."""
        parts = [f"{self.distinct} distinct"]
        if self.missing:
            parts.append(f"{self.missing} missing")
        if self.low is not None and self.high is not None:
            parts.append(f"mostly {_number(self.low)} to {_number(self.high)}")
        return ", ".join(parts)


def describe(
    table: pl.DataFrame | pl.LazyFrame, *, source: str = "the table"
) -> list[ColumnProfile]:
    """Profile every column of `table`, one at a time; `source` is its name in errors.

    Raises:
        DataError: the rest of the table turns out to be unreadable.
    """
    frame = table.lazy()
    try:
        names = frame.collect_schema().names()
        return [_profile(frame.select(name).collect().to_series()) for name in names]
    except (pl.exceptions.PolarsError, OSError) as error:
        # What Polars says may quote a value.
        raise DataError(
            f"{source} cannot be read: {type(error).__name__}",
            mend="Check that it is whole and is what its name says.",
        ) from None


def infer_schema(
    table: pl.DataFrame | pl.LazyFrame, *, profiles: list[ColumnProfile] | None = None
) -> Schema:
    """The schema that the columns of `table` suggest; a start to be edited, not a verdict.

    The first column named like an id whose values come once becomes the key, else the first one
    numbered like an id. Further ones are ignored as features, since a value that never comes back
    teaches nothing.
    """
    profiles = describe(table) if profiles is None else profiles
    keys = [profile.name for profile in profiles if profile.is_key]
    key = min(keys, key=lambda name: _NAMED.index(_named(name)), default=None)
    features = {profile.name: profile.suggestion for profile in profiles if profile.name != key}
    return Schema(key=() if key is None else (key,), features=features)


_IGNORE = FeatureSpec(kind="ignore")


def _profile(column: pl.Series) -> ColumnProfile:
    dtype = column.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return _lists(column, dtype)
    if not _is_scalar(dtype):
        return _plain(column, _IGNORE, f"{dtype} is no feature")
    text = as_text(column, "the table").drop_nulls()
    distinct, filled = text.n_unique(), len(text)
    unique = filled == len(column) == distinct and filled > 1
    can_be_key = unique and (dtype.is_integer() or dtype == pl.String)
    numbered = dtype.is_integer() and _fills_range(column, distinct)
    low, high = _usual_range(column)
    spec, reason = _suggest(column, text, distinct)
    return ColumnProfile(
        name=column.name,
        dtype=str(dtype),
        rows=len(column),
        missing=len(column) - filled,
        distinct=distinct,
        low=low,
        high=high,
        suggestion=spec,
        reason=reason,
        can_be_key=can_be_key,
        is_key=can_be_key and (numbered or _named(column.name) != ""),
    )


def _lists(column: pl.Series, dtype: pl.List | pl.Array) -> ColumnProfile:
    """Lists of fractional numbers are vectors where all have one width; other lists are sets."""
    if not (dtype.inner.is_float() if isinstance(dtype.inner, pl.DataType) else False):
        return _plain(column, FeatureSpec(kind="multi_hot"))
    widths = column.cast(pl.List(pl.Float64)).list.len().drop_nulls().unique()
    if len(widths) == 1 and widths[0] > 0:
        return _plain(column, FeatureSpec(kind="vector", width=widths[0]))
    return _plain(column, _IGNORE, "lists of numbers of different lengths")


def _plain(column: pl.Series, spec: FeatureSpec, reason: str = "") -> ColumnProfile:
    """The profile of a column of lists, or of a type that cannot be a feature."""
    return ColumnProfile(
        name=column.name,
        dtype=str(column.dtype),
        rows=len(column),
        missing=column.null_count(),
        distinct=0 if spec.kind == "ignore" else column.drop_nulls().n_unique(),
        low=None,
        high=None,
        suggestion=spec,
        reason=reason,
    )


def _named(column: str) -> _Named:
    """How a column is named: like an id, after whom or what it numbers, or neither."""
    if _ID_NAME.search(column):
        return "id"
    return "whose" if _WHOSE_NAME.search(column) else ""


def _suggest(column: pl.Series, text: pl.Series, distinct: int) -> tuple[FeatureSpec, str]:
    """The kind of a column, and the reason if it is to be ignored."""
    reason = _useless(column, text, distinct)
    return (FeatureSpec(kind="ignore"), reason) if reason else (_kind(column, text, distinct), "")


def _useless(column: pl.Series, text: pl.Series, distinct: int) -> str:
    """Why a column is not worth learning from, in a few words; empty where it may be."""
    dtype, filled = column.dtype, len(text)
    if distinct <= 1:
        return "one value" if distinct else "no values"
    if dtype.is_temporal() or _TIME_NAME.search(column.name):
        return "a time"
    if dtype.is_integer() and distinct == filled:
        numbered = _named(column.name) != "" or _fills_range(column, distinct)
        return "no value comes twice" if numbered else ""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return ""
    if text.str.contains(_DATE).all():
        return "a date"
    nearly_unique = distinct > 0.5 * filled and distinct > FEW_TEXTS
    return "nearly all different" if nearly_unique and not _separator_of(text) else ""


def _kind(column: pl.Series, text: pl.Series, distinct: int) -> FeatureSpec:
    dtype = column.dtype
    if dtype.is_float() or dtype.is_decimal():
        whole = distinct <= 10 and not text.str.contains(".", literal=True).any()
        return FeatureSpec(kind="categorical" if whole else "numeric")
    if dtype.is_integer():
        return FeatureSpec(kind=_integer_kind(column, distinct, len(text)))
    separator = None if dtype == pl.Boolean else _separator_of(text)
    if separator is not None:
        return FeatureSpec(kind="multi_hot", separator=separator)
    return FeatureSpec(kind="categorical")


def _integer_kind(column: pl.Series, distinct: int, filled: int) -> Kind:
    if distinct == filled:
        return "numeric"
    if _named(column.name) or distinct <= FEW_NUMBERS:
        return "categorical"
    repeated = filled >= 2 * distinct and distinct > MANY_IDS
    return "categorical" if repeated and _fills_range(column, distinct) else "numeric"


def _fills_range(column: pl.Series, distinct: int) -> bool:
    """Whether most integers between the least and the greatest occur, as numbers given in order."""
    numbers = as_numbers(column).drop_nulls().to_numpy()
    return len(numbers) > 0 and distinct >= 0.5 * float(numbers.max() - numbers.min() + 1)


def _separator_of(text: pl.Series) -> str | None:
    """What stands between the tokens of multi-hot texts; None where they are no such texts."""
    values = text.unique()
    return next((one for one in SEPARATORS if _is_multi_hot(values, one)), None)


def _is_multi_hot(values: pl.Series, separator: str) -> bool:
    """Whether distinct texts are made of fewer tokens that come back in many of them."""
    several = values.str.contains(separator, literal=True)
    if several.sum() < max(2, 0.1 * len(values)):
        return False
    tokens = values.str.split(separator).explode().str.strip_chars()
    return tokens.n_unique() <= min(0.5 * len(values) + 2, 0.2 * len(tokens) + 2)


def _usual_range(column: pl.Series) -> tuple[float | None, float | None]:
    """The 1% and 99% quantiles to two digits, so that no row's value is told."""
    if not column.dtype.is_numeric():
        return None, None
    numbers = as_numbers(column).drop_nulls().to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < MANY_ROWS:
        return None, None
    low, high = np.quantile(numbers, [0.01, 0.99])
    return float(f"{low:.2g}"), float(f"{high:.2g}")


def _number(value: float) -> str:
    """A rounded number without an exponent where it is short enough without."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e15 else f"{value:g}"


def _is_scalar(dtype: pl.DataType) -> bool:
    return not (dtype.is_nested() or isinstance(dtype, (pl.Binary, pl.Object)))
