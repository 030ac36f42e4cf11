"""A party's columns as numbers of bins: quantiles of numbers, categories by their frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError

Codes = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnBins:
    """The bins of one column, as its owner keeps them.

    Numbers up to `edges[0]` have bin 0, and so on. Categories have bins by falling frequency, all
    rare and unknown ones the last bin. What is missing has the bin after these, unless too few
    values were missing for a bin of their own: then the bin `missing`.
    """

    column: str
    edges: tuple[float, ...]
    """Inner edges, rising."""
    categories: tuple[str, ...] | None
    """None for numbers."""
    missing: int
    """The bin of missing values: `values` for one of their own."""
    has_missing: bool
    """Whether there is a bin of missing values to choose a side for."""

    @property
    def values(self) -> int:
        """Bins of values."""
        return len(self.edges) + 1 if self.categories is None else len(self.categories) + 1

    @property
    def width(self) -> int:
        """Bins that rows had in learning."""
        return self.values + self.has_missing

    def codes(self, table: pl.DataFrame) -> Codes:
        """The bin of each row, int16 `[rows]`; `values` for missing.

        Raises:
            DataError: the table has no such column, or one of another kind.
        """
        if self.column not in table.columns:
            raise DataError(f"the table has no column {self.column!r}, which the model uses")
        series = table[self.column]
        if self.categories is None:
            numbers = _numbers(series)
            found = np.searchsorted(np.asarray(self.edges, np.float64), numbers, side="left")
            gaps = np.isnan(numbers)
        else:
            texts = _texts(series)
            kept = list(self.categories)
            mapped = texts.replace_strict(
                kept or [""],
                list(range(len(kept))) or [0],
                default=len(kept),
                return_dtype=pl.Int32,
            )
            found = mapped.fill_null(0).to_numpy()
            gaps = texts.is_null().to_numpy()
        return np.where(gaps, self.missing, found).astype(np.int16)


def fit_bins(table: pl.DataFrame, learnt: Bools, bins: int, least: int) -> tuple[ColumnBins, ...]:
    """The bins of each column that has at least two.

    Args:
        table: the own columns.
        learnt: bool `[rows]`, the rows to make bins of.
        bins: of values, at most.
        least: rows of a bin, at least.

    Raises:
        DataError: a column is neither numbers nor text, or has infinite values.
    """
    found = [_fit(series, learnt, bins, least) for series in table]
    return tuple(one for one in found if one.width > 1)


def _fit(series: pl.Series, learnt: Bools, bins: int, least: int) -> ColumnBins:
    if _is_text(series):
        texts = _texts(series).filter(pl.Series(learnt))
        gaps = int(texts.null_count())
        found = texts.drop_nulls().alias("level").value_counts(name="rows").rows()
        counted = sorted((-count, text) for text, count in found)
        counts = [-count for count, _ in counted]
        kept = tuple(text for count, text in counted[: bins - 1] if -count >= least)
        if len(kept) == len(counted) or sum(counts[len(kept) :]) < least:
            kept = kept[:-1]  # the last bin is for all others
        sizes = [*counts[: len(kept)], sum(counts[len(kept) :])]
        return _with_missing(ColumnBins(series.name, (), kept, 0, False), sizes, gaps, least)
    numbers = _numbers(series)[learnt]
    values = numbers[~np.isnan(numbers)]
    edges, sizes = _edges(values, bins, least)
    return _with_missing(
        ColumnBins(series.name, edges, None, 0, False), sizes, len(numbers) - len(values), least
    )


def _with_missing(bins: ColumnBins, sizes: list[int], gaps: int, least: int) -> ColumnBins:
    has_missing = gaps >= least <= sum(sizes)
    missing = bins.values if has_missing or not gaps else int(np.argmax(sizes))
    return ColumnBins(bins.column, bins.edges, bins.categories, missing, has_missing)


def _edges(values: Floats, bins: int, least: int) -> tuple[tuple[float, ...], list[int]]:
    """Edges halfway between values so that bins are of about equal count, and their counts."""
    if not len(values):
        return (), [0]
    distinct, counts = np.unique(values, return_counts=True)
    cumulated = np.cumsum(counts)
    total, done = int(cumulated[-1]), 0
    edges: list[float] = []
    sizes: list[int] = []
    while len(sizes) < bins - 1 and total - done >= 2 * least:
        target = done + (total - done) / (bins - len(sizes))
        last = int(np.searchsorted(cumulated, target))
        before = int(cumulated[last - 1]) if last else 0
        if before > done and target - before < cumulated[last] - target:
            last -= 1  # the one that comes closer, so that a frequent value has a bin to itself
        last = max(last, int(np.searchsorted(cumulated, done + least)))
        if total - cumulated[last] < least:
            break
        edges.append(_between(float(distinct[last]), float(distinct[last + 1])))
        sizes.append(int(cumulated[last]) - done)
        done = int(cumulated[last])
    return tuple(edges), [*sizes, total - done]


def _between(low: float, high: float) -> float:
    middle = low / 2 + high / 2
    return middle if low < middle < high else low


def _is_text(series: pl.Series) -> bool:
    return series.dtype in (pl.String, pl.Categorical, pl.Enum)


def _texts(series: pl.Series) -> pl.Series:
    if not _is_text(series):
        raise DataError(f"column {series.name!r} is {series.dtype}, and was text for the model")
    return series.cast(pl.String)


def _numbers(series: pl.Series) -> Floats:
    kind = series.dtype
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise DataError(
            f"column {series.name!r} is of kind {kind}, neither numbers nor text",
            mend="Cast it, or leave it out.",
        )
    numbers = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if np.isinf(numbers).any():
        raise DataError(f"column {series.name!r} has infinite values", mend="Clip them.")
    return numbers
