"""The public vertically split tables of `vertical_models`, as tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

LABEL, PARTNER = "guest", "host"


@dataclass(frozen=True, eq=False)
class Task:
    """What is predicted on one pair of tables, whose rows belong together."""

    name: str
    kind: str
    """`binary`, `real` or `count`: by what it is judged."""
    family: str
    labels: Floats
    tables: dict[str, pl.DataFrame]
    exposure: Floats | None = None
    weights: Floats | None = None
    l2: float = 0.0
    trees: bool = True
    """Whether trees are fitted too: they take no exposure and no weights."""
    cut: int = 2024
    """The seed by which rows are held out."""

    @property
    def train(self) -> Rows:
        """70 % of the rows, drawn evenly."""
        return np.flatnonzero(np.random.default_rng(self.cut).random(len(self.labels)) < 0.7)

    @property
    def test(self) -> Rows:
        """The others."""
        return np.setdiff1d(np.arange(len(self.labels)), self.train)


def tasks(data: Path) -> Iterator[Task]:
    """All of them, one after the other."""
    for name in ("breast", "default_credit"):
        yield _of_fate(data, name, "y", "binary", "logistic", l2=True)
    yield _raw_credit(data)
    yield _of_fate(data, "student", "y", "real", "linear")
    yield _of_fate(data, "motor", "motor_speed", "real", "linear", key="idx")
    yield _of_fate(data, "dvisits", "doctorco", "count", "poisson")
    yield from _insurance(data)


def design(task: Task, party: str) -> Floats:
    """A party's columns as numbers, float64 [rows, columns]: standardised, levels as 0/1.

    The most frequent level of the training rows has no column; levels of fewer than 50 training
    rows share one, and columns that do not vary are left out.
    """
    out = []
    for column in task.tables[party].iter_columns():
        if column.dtype.is_numeric():
            values = column.cast(pl.Float64).to_numpy()
            learnt = values[task.train]
            if learnt.std() > 0:
                out.append((values - learnt.mean()) / learnt.std())
            continue
        counts = column[task.train].value_counts(sort=True)
        common = counts.filter(pl.col("count") >= 50)[column.name].to_list()
        out += [(column == level).to_numpy().astype(np.float64) for level in common[1:]]
        if len(common) < len(counts):
            out.append((~column.is_in(common)).to_numpy().astype(np.float64))
    return np.column_stack(out)


def _of_fate(
    data: Path, name: str, label: str, kind: str, family: str, *, key: str = "id", l2: bool = False
) -> Task:
    guest, host = (
        pl.read_csv(data / f"vfl_{name}" / f"{party}.csv").sort(key).drop(key)
        for party in (LABEL, PARTNER)
    )
    labels = guest[label].to_numpy().astype(np.float64)
    task = Task(name, kind, family, labels, {LABEL: guest.drop(label), PARTNER: host})
    return _penalised(task) if l2 else task


def _penalised(task: Task) -> Task:
    """With the penalty of scikit-learn's C = 1."""
    return replace(task, l2=1 / len(task.train))


def _raw_credit(data: Path) -> Task:
    whole = pl.read_csv(
        data / "vfl_uci_credit_card" / "UCI_Credit_Card.csv", infer_schema_length=None
    )
    labels = whole["default.payment.next.month"].to_numpy().astype(np.float64)
    # The bank knows who it lends to, its partner how bills were paid.
    groups = pl.col("SEX", "EDUCATION", "MARRIAGE").cast(pl.String)
    mine = whole.select("LIMIT_BAL", "AGE", groups)
    theirs = whole.drop("ID", "default.payment.next.month", *mine.columns)
    tables = {LABEL: mine, PARTNER: theirs}
    return _penalised(Task("credit card, raw", "binary", "logistic", labels, tables))


def _insurance(data: Path) -> Iterator[Task]:
    folder = data / "vfl_motor_insurance_fr"
    guest, host = (pl.read_csv(folder / f"{p}.csv.gz").sort("id") for p in (LABEL, PARTNER))
    mine = guest.select("Type", "Category", "Bonus", "Poldur", "Value", "Adind", "Group1")
    tables = {LABEL: mine, PARTNER: host.drop("id", "SubGroup2")}
    exposure = guest["exposure"].to_numpy().astype(np.float64)
    claim, count, cost = (
        guest[name].to_numpy().astype(np.float64) for name in ("claim", "Numtppd", "Indtppd")
    )
    name = "French motor"
    yield _penalised(Task(f"{name}: a claim", "binary", "logistic", claim, tables))
    yield Task(f"{name}: claims", "count", "poisson", count, tables, exposure=exposure, trees=False)
    yield Task(
        f"{name}: cost by exposure",
        "count",
        "tweedie",
        cost / exposure,
        tables,
        weights=exposure,
        trees=False,
    )
    dear = (count > 0) & (cost > 0)
    yield Task(
        f"{name}: cost of a claim",
        "count",
        "gamma",
        (cost / np.maximum(count, 1))[dear],
        {party: table.filter(pl.Series(dear)) for party, table in tables.items()},
        weights=count[dear],
        trees=False,
    )
