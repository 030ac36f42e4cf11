"""Made-up tables of two organisations whose label needs both: for tests, examples and notebooks.

People and items have hidden vectors, and every column of a table shows a part of one. A click
depends on the product of the two, which neither table tells alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.data.overlap import overlapping
from isthmus.data.tables import write_table

TAGS = np.array(["calm", "dark", "fast", "funny", "long", "loud", "old", "sad"])


@dataclass(frozen=True)
class SyntheticOptions:
    """The size of the made-up world."""

    rows: int = 2000
    """Events."""
    users: int = 200
    items: int = 100
    user_fields: int = 3
    """Categorical columns of alice beside UserID, Age and Income."""
    item_fields: int = 2
    """Categorical columns of bob beside ItemID, Tags and Price."""
    values: int = 6
    """Distinct values of a categorical column."""
    interaction: float = 3.0
    """Weight of the product of person and item; 0 leaves nothing to a federation."""
    missing: float = 0.1
    """Share of each table's keys that the other table lacks."""
    empty: float = 0.02
    """Share of empty cells in Income and Tags."""
    keys: Literal["row", "entity"] = "row"


@dataclass(frozen=True, eq=False)
class SyntheticTables:
    """alice holds people's columns, bob items' columns and the label `Clicked` (0 or 1)."""

    alice: pl.DataFrame
    bob: pl.DataFrame
    key: str
    common: int
    """Keys that both tables hold."""

    def write(self, out: Path) -> tuple[Path, Path]:
        """Write `alice/people.csv` and `bob/events.csv` under `out`.

        Raises:
            StorageError: a file cannot be written.
        """
        paths = out / "alice" / "people.csv", out / "bob" / "events.csv"
        write_table(self.alice, paths[0])
        write_table(self.bob, paths[1])
        return paths


def synthetic_tables(seed: int, options: SyntheticOptions | None = None) -> SyntheticTables:
    """Draw a world from `seed`; the same seed and options give the same tables."""
    options = options or SyntheticOptions()
    rng = np.random.default_rng(seed)
    people, liking = _people(rng, options)
    items, appeal = _items(rng, options)
    user = rng.integers(options.users, size=options.rows)
    item = rng.integers(options.items, size=options.rows)
    product = (liking[user] * appeal[item]).sum(axis=1) / np.sqrt(liking.shape[1])
    score = options.interaction * product + appeal[item, 0]
    clicked = rng.random(options.rows) < 1 / (1 + np.exp(-score))
    events = items[item].with_columns(Clicked=pl.Series(clicked.astype(np.int8)))
    if options.keys == "entity":
        return _by_user(people, events, user, rng, options.missing)
    ids = pl.Series("ID", rng.permutation(options.rows) + 1)
    first, second, common = overlapping(options.rows, options.missing, rng)
    alice = people[user].insert_column(0, ids)[first]
    return SyntheticTables(alice, events.insert_column(0, ids)[second], "ID", common)


def _people(
    rng: np.random.Generator, options: SyntheticOptions
) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """One row per person and their vectors [users, 2]."""
    liking = rng.normal(size=(options.users, 2))
    income = 30_000 + 8_000 * liking[:, 0] + rng.normal(scale=2_000, size=options.users)
    income[rng.random(options.users) < options.empty] = np.nan
    columns = {
        "UserID": np.arange(1, options.users + 1),
        "Age": np.clip(40 + 12 * liking[:, 1], 16, 90).astype(np.int64),
        "Income": income.round(2),
        **_categories("Trait", liking, options.user_fields, options.values, rng),
    }
    return pl.DataFrame(columns).with_columns(pl.col("Income").fill_nan(None)), liking


def _items(
    rng: np.random.Generator, options: SyntheticOptions
) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """One row per item and their vectors [items, 2]."""
    appeal = rng.normal(size=(options.items, 2))
    pull = appeal @ rng.normal(size=(2, len(TAGS))) + rng.normal(size=(options.items, len(TAGS)))
    tags = ["|".join(TAGS[row > 0.5]) for row in pull]
    empty = rng.random(options.items) < options.empty
    columns = {
        "ItemID": np.arange(1, options.items + 1),
        "Price": np.exp(2 + 0.5 * appeal[:, 0]).round(2),
        **_categories("Sort", appeal, options.item_fields, options.values, rng),
    }
    frame = pl.DataFrame(columns).with_columns(Tags=pl.Series(tags).set(pl.Series(empty), None))
    return frame, appeal


def _categories(
    name: str, vectors: NDArray[np.float64], fields: int, values: int, rng: np.random.Generator
) -> dict[str, list[str]]:
    """Columns that show a direction of the vectors each, cut into `values` bins."""
    columns = {}
    for number in range(fields):
        direction = rng.normal(size=vectors.shape[1])
        shown = vectors @ (direction / np.linalg.norm(direction))
        cuts = np.quantile(shown, np.linspace(0, 1, values + 1)[1:-1])
        columns[f"{name}{number + 1}"] = [f"v{bin}" for bin in np.searchsorted(cuts, shown)]
    return columns


def _by_user(
    people: pl.DataFrame,
    events: pl.DataFrame,
    user: NDArray[np.int64],
    rng: np.random.Generator,
    missing: float,
) -> SyntheticTables:
    first, second, common = overlapping(len(people), missing, rng)
    events = events.insert_column(0, people["UserID"][user])
    return SyntheticTables(people[first], events.filter(np.isin(user, second)), "UserID", common)
