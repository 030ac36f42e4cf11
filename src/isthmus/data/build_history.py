"""From events and the samples' owners and moments to one history field and its arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.event_tables import Events, Ids, times_seen, windows
from isthmus.data.fields import Codes, Values, values_of
from isthmus.data.histories import Histories
from isthmus.data.sequences import HistoryField
from isthmus.data.times import Times


@dataclass(frozen=True, eq=False)
class BuiltHistory:
    """A history before its place in the fused table is known."""

    field: HistoryField
    codes: Codes
    """int32 [events]: rows relative to the field's first one."""
    start: Ids
    end: Ids

    def placed(self, first_row: int) -> Histories:
        """The history as rows of the fused table."""
        items = self.codes + np.int32(first_row)
        return Histories(self.field.name, items, self.start, self.end)


def build_history(
    name: str,
    events: Events,
    owner: Ids,
    at: Times,
    train: NDArray[np.signedinteger],
    *,
    length: int,
    min_count: int = 1,
    buckets: int | None = None,
    shared: tuple[str, Values] | None = None,
    source: str = "the event table",
) -> BuiltHistory:
    """The last `length` events of each sample's owner before its moment, and their codes.

    Args:
        name: of the feature.
        events: in order, with owners in the same numbers as `owner`.
        owner: int64 [samples].
        at: float64 [samples], each sample's own time; NaN for none.
        train: positions of the training samples: a vocabulary holds what stands in their histories.
        length: the most events of a history.
        min_count: an item that stands in fewer training histories is unknown.
        buckets: hash the items in place of a vocabulary.
        shared: the name of a field and its values, in place of a vocabulary of its own.
        source: names the event table in messages.
    """
    start, end = windows(events, owner, at, length)
    if shared is not None:
        field = HistoryField(name, shared[1], length, shares=shared[0])
    else:
        seen = times_seen(start[train], end[train], len(events.items))
        known = _values(events.items, seen, min_count, buckets, source)
        field = HistoryField(name, known, length)
    return BuiltHistory(field, field.known.codes(events.items, source), start, end)


def _values(
    items: pl.Series, seen: Ids, min_count: int, buckets: int | None, source: str
) -> Values:
    if buckets is not None:
        return values_of([], min_count, buckets, source)
    totals = pl.DataFrame({"item": items, "seen": seen}).group_by("item").agg(pl.sum("seen"))
    return Values(totals.filter(pl.col("seen") >= min_count)["item"].sort())
