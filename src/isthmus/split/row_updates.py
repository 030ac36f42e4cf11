"""Updates of a large table's rows: at once those that the next batch looks up, later the others.

Rows of a large table lie far apart in main memory, and to reach for a batch's rows and their
moments takes longer than all arithmetic on them. Nobody needs most of them at once: the next
batch is known before a batch's gradient is, and in a large table it has few rows in common with
it. The others are updated while the party waits for its partner. What is computed is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.models.rows import can_move_items, fetch_rows, take_rows

_LARGE = 1 << 22
"""Bytes of a table from which updates are split: smaller ones stay in the caches."""

_MARKS = 1 << 18
"""Different values of a row's last bits."""

Update = Callable[[Tensor, Tensor], None]
"""Takes the rows, int64 [touched], distinct and ascending, and their gradient [touched, width]."""


@dataclass(frozen=True, slots=True)
class _Split:
    """Which of a batch's rows the next one looks up, as places int64 in `rows`."""

    rows: Tensor
    soon: Tensor
    later: Tensor


class RowUpdates:
    """Knows of one table what of its last update is still to do.

    Something is only between an update before which the next batch's rows were fetched, and the
    next of: `fetch` of the batch after that, an update, `settle`.

    Args:
        table: [n, width].
    """

    def __init__(self, table: Tensor) -> None:
        self._table = table
        self.large = table.nbytes > _LARGE and can_move_items(table)
        """Whether updates may be split."""
        self._last: Tensor | None = None
        self._next: Tensor | None = None
        self._split: _Split | None = None
        self._due: Callable[[], None] | None = None

    def fetch(self, rows: Tensor) -> None:
        """Make ready for a batch that touches `rows`, int64 [touched], distinct and ascending."""
        self.settle()
        fetch_rows(self._table, rows)
        self._next = rows if self.large else None
        if self._next is not None and self._last is not None:
            self._split = _split(self._last, rows)

    def look_up(self, rows: Tensor) -> None:
        """Have `rows` up to date."""
        if rows is not self._next:
            self.settle()
        self._last, self._next = rows, None

    def apply(self, rows: Tensor, values: Tensor, update: Update) -> None:
        """Update the rows with these gradients: by the time they are needed."""
        self.settle()
        if self._next is None:
            update(rows, values)
            return
        split = self._split
        if split is None or not _same(split.rows, rows):
            split = _split(rows, self._next)
        soon, later = split.soon, split.later
        if len(soon):
            update(rows[soon], take_rows(values, soon))
        self._due = lambda: update(rows[later], take_rows(values, later))

    def settle(self) -> None:
        """Do what is still to do, before somebody else reads or writes the table."""
        due, self._due = self._due, None
        if due is not None:
            with torch.no_grad():
                due()


def _split(rows: Tensor, following: Tensor) -> _Split:
    """Rows that share the last bits with one of the next batch's count as its own: a few more are
    updated at once, and finding them takes half as long.
    """
    seen = np.zeros(_MARKS, dtype=bool)
    seen[following.numpy() & (_MARKS - 1)] = True
    soon = seen[rows.numpy() & (_MARKS - 1)]
    places = (np.flatnonzero(soon), np.flatnonzero(~soon))
    return _Split(rows, *map(torch.from_numpy, places))


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether both are views of the same memory: a sparse gradient's rows are of the plan's."""
    return one.data_ptr() == other.data_ptr() and len(one) == len(other)
