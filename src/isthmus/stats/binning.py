"""Bins of one party's own columns: edges or categories, special values, missing.

A value bin is `(lower, upper]`, as FATE has it, the first from minus infinity and the last to
infinity. Special values and missing have bins of their own. `groups` then says which of these raw
bins are one; merging never changes anything else, so a partner that knows no edge can ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError, JobError
from isthmus.stats.columns import Bools, Codes, Column, Floats, Table, frame, read
from isthmus.stats.merging import Trend, chi_merge, enough, monotone
from isthmus.stats.storing import STRICT

Longs = npt.NDArray[np.int64]
Method = Literal["quantile", "width", "custom", "chi", "monotone"]
METHODS = ("quantile", "width", "custom", "chi", "monotone")
TRENDS = ("auto", "rising", "falling")
NO_BIN = -1
"""The code of a value for which there was no bin when the bins were made."""
_MOST_FINE = 256


@dataclass(frozen=True, kw_only=True)
class BinningOptions:
    """How columns are cut into bins."""

    method: Method = "quantile"
    """"quantile": of about equal count. "width": of equal width. "custom": by `edges`. "chi":
    quantiles, `fine` of them, joined by ChiMerge. "monotone": those joined so that the share of
    positives never turns and the information value is the greatest."""
    bins: int = 10
    """Value bins at most."""
    fine: int = 32
    """Quantiles from which "chi" and "monotone" begin."""
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Inner edges of a column, which then is cut at these whatever the method."""
    special: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    """Values of a column that get bins of their own, such as -1 for "never"."""
    categories: int = 50
    """Categories at most, the most frequent; all others are one."""
    least: int = 20
    """Rows that a bin has at least: smaller ones are joined to others before anything is shown."""
    threshold: float = 3.841
    """Chi-square below which "chi" joins two bins; 3.841 is 5% at one degree of freedom."""
    trend: Trend = "auto"
    """Of the share of positives, for "monotone"."""
    adjustment: float = 0.5
    """See `woe`."""

    def __post_init__(self) -> None:
        """Raises JobError where an option is impossible."""
        if self.method not in METHODS or self.trend not in TRENDS:
            raise JobError(f"binning has no method {self.method!r} with trend {self.trend!r}")
        for name, value, low, high in (
            ("bins", self.bins, 2, _MOST_FINE),
            ("fine", self.fine, 2, _MOST_FINE),
            ("categories", self.categories, 1, _MOST_FINE),
            ("least", self.least, 1, 10**9),
            ("threshold", self.threshold, 0, 1e6),
            ("adjustment", self.adjustment, 0, 1e6),
        ):
            if not low <= value <= high:
                raise JobError(f"binning's {name} is {value}, not from {low} to {high}")

    @property
    def by_label(self) -> bool:
        """Whether the label decides which bins are joined."""
        return self.method in ("chi", "monotone")


@dataclass(frozen=True)
class ColumnBins:
    """The bins of one column, as its owner keeps them."""

    column: str
    edges: tuple[float, ...]
    """Inner edges, rising."""
    categories: tuple[str, ...] | None
    """For categories: each has a raw bin, and one more is for all others. None for numbers."""
    special: tuple[float | str, ...]
    groups: tuple[int, ...]
    """The bin of each raw bin: of values, of special values, of missing; NO_BIN where no row was.
    Bins of values come first."""
    values: int
    """Bins that have values, not special values or missing alone."""
    __pydantic_config__ = STRICT

    @property
    def count(self) -> int:
        """Bins."""
        return max(self.groups) + 1

    @property
    def ordered(self) -> int:
        """Raw bins of values."""
        return len(self.edges) + 1 if self.categories is None else len(self.categories) + 1

    def codes(self, column: Column) -> Codes:
        """The bin of each row, int32 `[rows]`; NO_BIN where there is none.

        Raises:
            DataError: the column is of the other kind than that of the bins.
        """
        return np.asarray(self.groups, np.int32)[_raw(self, column)]

    def counts(self, codes: Codes) -> Longs:
        """Rows per bin, int64 `[count]`."""
        return np.bincount(codes[codes >= 0], minlength=self.count).astype(np.int64)

    def regrouped(self, joined: npt.ArrayLike) -> ColumnBins:
        """With bin b made part of bin `joined[b]`, numbered anew in order of appearance."""
        wanted = [NO_BIN if g == NO_BIN else int(np.asarray(joined)[g]) for g in self.groups]
        seen = list(dict.fromkeys(g for g in wanted if g != NO_BIN))
        groups = tuple(NO_BIN if g == NO_BIN else seen.index(g) for g in wanted)
        return replace(self, groups=groups, values=max(groups[: self.ordered], default=-1) + 1)

    @property
    def is_sound(self) -> bool:
        """Whether the fields agree with one another: a file may say anything."""
        used = {group for group in self.groups if group != NO_BIN}
        wanted = float if self.categories is None else str
        return (
            all(a < b for a, b in pairwise(self.edges))
            and (self.categories is None or not self.edges)
            and len(set(self.categories or ())) == len(self.categories or ())
            and all(isinstance(value, wanted) for value in self.special)
            and len(self.groups) == self.ordered + len(self.special) + 1
            and bool(used)
            and used == set(range(len(used)))
            and self.values == max(self.groups[: self.ordered]) + 1
        )

    def labels(self) -> tuple[str, ...]:
        """What each bin has, such as `(0.5, 2]` or `missing`, for its owner."""
        return tuple(_label(self, bin_) for bin_ in range(self.count))


def fit_bins(
    table: Table,
    options: BinningOptions,
    label: Bools | None = None,
    weights: Floats | None = None,
) -> dict[str, ColumnBins]:
    """Bins of all columns, each with at least `options.least` rows.

    Without a label, "chi" and "monotone" give their fine quantiles. With `weights`, float64
    `[rows]`, these count in place of rows where the label decides.

    Raises:
        DataError: a column cannot be binned, or has fewer rows than `least`.
        JobError: an edge or special value is named for a column that is not there.
    """
    given = frame(table)
    for name in (*options.edges, *options.special):
        if name not in given.columns:
            raise JobError(f"binning names the column {name!r}, which the table does not have")
    return {name: _fit(read(given[name]), options, label, weights) for name in given.columns}


def label_groups(
    rows: npt.ArrayLike, positives: npt.ArrayLike, values: int, options: BinningOptions,
    *, ordered: bool = True,
) -> Longs:  # fmt: skip
    """The joined bin of each bin, int64 `[bins]`, where the label decides.

    Args:
        rows: per bin, weighted or not; the first `values` are of values.
        positives: those of label 1 among them.
        values: bins that may be joined.
        options: the method is "chi" or "monotone".
        ordered: whether their order means anything; that of categories does not, so they are
            sorted by their share of positives.
    """
    row, positive = np.asarray(rows, np.float64), np.asarray(positives, np.float64)
    out = np.arange(row.size)
    if not options.by_label or values < 2:
        return out
    order = np.arange(values)
    if not ordered:
        rate = np.divide(positive, row, out=np.zeros(row.size), where=row > 0)[:values]
        order = np.argsort(rate, kind="stable")
    mine, hits = row[:values][order], positive[:values][order]
    if options.method == "chi":
        groups = chi_merge(mine, hits, options.bins, options.threshold)
    else:
        groups = monotone(
            mine, hits, options.bins, trend=options.trend, adjustment=options.adjustment,
            totals=(float(row.sum()), float(positive.sum())),
        )  # fmt: skip
    out[order] = order[np.searchsorted(groups, groups)]
    return out


def pooled(sizes: npt.ArrayLike, values: int, least: int) -> Longs:
    """The joined bin of each bin so that all have `least`, int64 `[bins]`.

    Bins of values join a neighbour; what else is too small joins the largest bin.
    """
    size = np.asarray(sizes, np.int64)
    out = np.arange(size.size)
    if values:
        groups = enough(size[:values], least)
        out[:values] = np.searchsorted(groups, groups)
    held = np.bincount(out, weights=size, minlength=size.size)
    largest = int(held.argmax())
    for bin_ in np.unique(out):
        if held[bin_] < least:
            out[out == bin_] = largest
    return out


def _fit(
    column: Column, options: BinningOptions, label: Bools | None, weights: Floats | None
) -> ColumnBins:
    if column.rows < options.least:
        raise DataError(
            f"column {column.name!r} has {column.rows} rows, a bin must have {options.least}"
        )
    special = tuple(dict.fromkeys(options.special.get(column.name, ())))
    if column.numbers is None:
        bins = _of_categories(column, special, options)
    else:
        bins = _of_numbers(column, special, options)
    sizes = np.bincount(_raw(bins, column), minlength=len(bins.groups))
    used = sizes > 0
    if bins.categories is None and used[: bins.ordered].any():
        # An interval without rows is a gap between others, and is joined to one of them.
        used[: bins.ordered] = True
    groups = tuple(np.where(used, np.cumsum(used) - 1, NO_BIN).tolist())
    bins = replace(bins, groups=groups, values=int(used[: bins.ordered].sum()))
    bins = bins.regrouped(pooled(sizes[used], bins.values, options.least))
    if label is None or not options.by_label or column.name in options.edges:
        return bins
    codes = bins.codes(column)
    unit = np.ones(column.rows) if weights is None else weights * (column.rows / weights.sum())
    rows, positives = (
        np.bincount(codes[codes >= 0], weights=(unit * of)[codes >= 0], minlength=bins.count)
        for of in (1, label)
    )
    ordered = bins.categories is None
    return bins.regrouped(label_groups(rows, positives, bins.values, options, ordered=ordered))


def _of_numbers(
    column: Column, special: tuple[float | str, ...], options: BinningOptions
) -> ColumnBins:
    if not all(isinstance(value, int | float) and np.isfinite(value) for value in special):
        raise JobError(
            f"column {column.name!r} has numbers, its special values must be numbers",
            mend="Missing has a bin of its own anyhow.",
        )
    numbers = column.numbers
    assert numbers is not None
    kept = numbers[~column.missing & ~np.isin(numbers, np.asarray(special, np.float64))]
    edges = _edges(column.name, kept, options)
    return ColumnBins(column.name, edges, None, special, (0,) * (len(edges) + len(special) + 2), 1)


def _edges(name: str, values: Floats, options: BinningOptions) -> tuple[float, ...]:
    if name in options.edges:
        edges = tuple(float(edge) for edge in options.edges[name])
        rising = all(a < b for a, b in pairwise(edges))
        if not rising or not np.isfinite(edges).all() or len(edges) >= _MOST_FINE:
            raise JobError(f"the edges of column {name!r} do not rise, or are too many")
        return edges
    if options.method == "custom":
        raise JobError(f"column {name!r} has no edges, which method 'custom' needs")
    if not values.size:
        return ()
    if options.method == "width":
        found = np.linspace(values.min(), values.max(), options.bins + 1)[1:-1]
    else:
        parts = options.fine if options.by_label else options.bins
        found = np.quantile(values, np.arange(1, parts) / parts, method="inverted_cdf")
    # An edge at the greatest value would leave nothing above it.
    return tuple(np.unique(found[found < values.max()]).tolist())


def _of_categories(
    column: Column, special: tuple[float | str, ...], options: BinningOptions
) -> ColumnBins:
    if not all(isinstance(value, str) for value in special):
        raise JobError(f"column {column.name!r} has text, its special values must be text")
    assert column.texts is not None
    found = column.texts.drop_nulls().alias("level").value_counts(name="rows").rows()
    counted = sorted((-count, text) for text, count in found if text not in special)
    kept = tuple(text for _, text in counted[: options.categories])
    return ColumnBins(column.name, (), kept, special, (0,) * (len(kept) + len(special) + 2), 1)


def _raw(bins: ColumnBins, column: Column) -> Codes:
    """The raw bin of each row, int32 `[rows]`."""
    if (column.numbers is None) != (bins.categories is not None):
        raise DataError(f"column {column.name!r} is of another kind than its bins were made for")
    last = bins.ordered + len(bins.special)
    if column.numbers is not None:
        found = np.searchsorted(np.asarray(bins.edges, np.float64), column.numbers, side="left")
        codes = found.astype(np.int32)
        for number, value in enumerate(bins.special):
            codes[column.numbers == value] = bins.ordered + number
    else:
        assert column.texts is not None
        assert bins.categories is not None
        known = [*bins.categories, *map(str, bins.special)]
        places = [*range(len(bins.categories)), *range(bins.ordered, last)]
        others = len(bins.categories)
        mapped = column.texts.replace_strict(
            known or [""], places or [others], default=others, return_dtype=pl.Int32
        )
        codes = mapped.fill_null(last).to_numpy().copy()
    codes[column.missing] = last
    return codes


def _label(bins: ColumnBins, bin_: int) -> str:
    mine = [raw for raw, group in enumerate(bins.groups) if group == bin_]
    values = [raw for raw in mine if raw < bins.ordered]
    if bins.categories is not None:
        named = [*bins.categories, "others"]
        texts = [named[raw] for raw in values]
    elif values:
        ends = ["-inf", *(f"{edge:.6g}" for edge in bins.edges), "inf"]
        low, high = ends[values[0]], ends[values[-1] + 1]
        texts = [f"({low}, {high}{')' if high == 'inf' else ']'}"]
    else:
        texts = []
    special = [value if isinstance(value, str) else f"{value:.12g}" for value in bins.special]
    others = [*(f"= {value}" for value in special), "missing"]
    return " or ".join(texts + [others[raw - bins.ordered] for raw in mine if raw >= bins.ordered])
