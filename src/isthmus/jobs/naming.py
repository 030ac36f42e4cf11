"""By which names partners see a party's columns: their own where the job names them, else numbers.

A party that leaves out its `features` agrees to no names, so none of them crosses: its columns are
called `column 1`, `column 2` ..., in the order of `isthmus.jobs.tabular.load`. Its own files have
their names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from isthmus.jobs import tabular
from isthmus.jobs.context import Context
from isthmus.stats import ColumnWoe, Correlation, SplitPca, WoeFit


@dataclass(frozen=True)
class Naming:
    """The own columns by the names that partners see; nothing where these are their own."""

    me: str
    names: dict[str, str]

    @classmethod
    def of(cls, context: Context) -> Naming:
        """What the job agrees on. Raises StorageError."""
        if context.spec.parties[context.me].features is not None:
            return cls(context.me, {})
        columns = tabular.load(context).columns
        return cls(context.me, {f"column {n}": name for n, name in enumerate(columns, 1)})

    def shown(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table as partners see its columns called."""
        return table.rename({name: seen for seen, name in self.names.items()}, strict=False)

    def seen(self, own: str) -> str:
        """What partners see the column `own` called."""
        return next((seen for seen, name in self.names.items() if name == own), own)

    def own_bins(self, found: WoeFit) -> WoeFit:
        """What was found, with the own names again."""
        return replace(found, columns=tuple(map(self._own_column, found.columns)))

    def own_matrix(self, found: Correlation | None) -> Correlation | None:
        """The same of correlations, if there are any."""
        if found is None:
            return None
        known = zip(found.parties, found.columns, strict=True)
        columns = (self._own(name) if party == self.me else name for party, name in known)
        return replace(found, columns=tuple(columns))

    def own_axes(self, found: SplitPca) -> SplitPca:
        """The same of principal components."""
        columns = tuple(map(self._own, found.columns))
        return replace(found, columns=columns, correlation=self.own_matrix(found.correlation))

    def _own(self, seen: str) -> str:
        return self.names.get(seen, seen)

    def _own_column(self, column: ColumnWoe) -> ColumnWoe:
        if column.party != self.me or column.bins is None:
            return column
        name = self._own(column.column)
        return replace(column, column=name, bins=replace(column.bins, column=name))
