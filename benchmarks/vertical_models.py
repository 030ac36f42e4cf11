"""Linear models and trees of two parties on seven public tables, beside the pooled ones.

make bench NAME=vertical_models
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    TweedieRegressor,
)

from benchmarks import vertical_tables
from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from benchmarks.vertical_tables import LABEL, PARTNER, Task
from isthmus import linear, trees
from isthmus.linear import LinearOptions
from isthmus.metrics import auc, deviance, ks, lorenz_curve, real_metrics
from isthmus.session import Session, run_parties
from isthmus.trees import TreeOptions

Floats = NDArray[np.float64]

TITLE = "Linear models and trees of two parties beside the pooled ones, on seven public tables"
SUMMARY = """\
FATE's tables as FATE splits them between guest and host, the raw credit-card table, and 100,000
French motor policies, whose insurer has car and contract and whose partner has driver and place.
Learnt from 70 % of the rows, the figures are of the others; of tables below 10,000 rows the means
over ten cuts. Linear models: numeric columns standardised, categories as 0/1 columns; two parties
as threads, protocol `vectors`, at its usual tolerance of a hundredth of a standard error, beside
scikit-learn's exact fit of all columns in one table with the same penalty. Claims are modelled as
insurers do: how many (Poisson, exposure as the offset), how dear (gamma, of policies with a
claim), and cost by exposure (Tweedie). Trees: 30 of depth 4, rate 0.1, 32 bins, beside LightGBM's
with the same settings. `alone` is the guest's columns only, without the partner. AUC / KS where
the label is binary, RMSE / R2 where it is real, and of counts and costs deviance / normalised
Gini. The bars: at most 0.001 of AUC, RMSE or deviance (0.1 %) worse than pooled with linear
models, and 2 % with trees, whose bins differ from LightGBM's."""
NEAR_LINEAR, NEAR_TREES = 0.001, 0.02
CUTS, SMALL = 10, 10_000
"""Tables of fewer rows are cut so often; of few test rows chance decides."""


@dataclass(frozen=True)
class Found:
    """Figures of one model on one table, of held-out rows."""

    task: Task
    model: str
    ours: tuple[float, float]
    pooled: tuple[float, float]
    alone: tuple[float, float]
    seconds: float
    cuts: int = 1
    """Of which these are the means."""

    @property
    def worse(self) -> float:
        """How much worse ours is than pooled, in the first figure, as a part of the pooled one."""
        lost = self.pooled[0] - self.ours[0]
        return (lost if self.task.kind == "binary" else -lost) / self.pooled[0]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISTHMUS_DATA", "data")))
    parser.add_argument("--tables", nargs="+", help="of these names alone; nothing is published")
    args = parser.parse_args()
    machine, found = machine_facts(), []
    for task in vertical_tables.tasks(args.data):
        if args.tables and not any(name in task.name for name in args.tables):
            continue
        for fit in (_linear, _trees) if task.trees else (_linear,):
            cuts = range(task.cut, task.cut + (CUTS if len(task.labels) < SMALL else 1))
            found.append(_mean([fit(replace(task, cut=cut)) for cut in cuts]))
            print(*_row(found[-1]), sep=" | ", flush=True)
    if not args.tables:
        publish(_result(found, machine))


def _mean(found: list[Found]) -> Found:
    def mean(name: str) -> tuple[float, float]:
        first, second = np.mean([getattr(one, name) for one in found], axis=0).tolist()
        return first, second

    seconds = float(np.mean([one.seconds for one in found]))
    first = found[0]
    means = mean("ours"), mean("pooled"), mean("alone")
    return Found(first.task, first.model, *means, seconds, len(found))


def _linear(task: Task) -> Found:
    designs = {party: vertical_tables.design(task, party) for party in task.tables}
    wide = np.hstack(list(designs.values()))
    begin = time.perf_counter()
    ours = _fit_linear(task, designs)
    seconds = time.perf_counter() - begin
    return Found(
        task,
        f"{task.family}, linear",
        _figures(task, ours),
        _figures(task, _reference(task, wide)),
        _figures(task, _reference(task, designs[LABEL])),
        seconds,
    )


def _fit_linear(task: Task, designs: Mapping[str, Floats]) -> Floats:
    # The tables are public: what few rows of breast would tell is no one's secret.
    options = LinearOptions(family=task.family, l2=task.l2, most_leverage=1.0, rows_per_column=10)

    def program(session: Session) -> Floats | None:
        mine, data = session.is_label_party, designs[session.me]
        exposure = task.exposure if mine else None
        weights = task.weights if mine else None
        result = linear.fit(
            session,
            data[task.train],
            task.labels[task.train] if mine else None,
            options,
            weights=None if weights is None else weights[task.train],
            offset=None if exposure is None else np.log(exposure[task.train]),
        )
        offset = None if exposure is None else np.log(exposure[task.test])
        return linear.predict(session, result, data[task.test], offset=offset)

    found: Floats = run_parties(dict.fromkeys((LABEL, PARTNER), program), label_party=LABEL)[LABEL]
    return found


def _reference(task: Task, data: Floats) -> Floats:
    """Scikit-learn's predictions for the test rows."""
    train, y = task.train, task.labels[task.train]
    if task.family == "logistic":
        c = 1 / (task.l2 * len(train))
        model = LogisticRegression(C=c, tol=1e-10, max_iter=1000, solver="newton-cholesky")
        found: Floats = model.fit(data[train], y).predict_proba(data[task.test])[:, 1]
        return found
    if task.family == "linear":
        return np.asarray(LinearRegression().fit(data[train], y).predict(data[task.test]))
    settings: dict[str, Any] = {"alpha": task.l2, "tol": 1e-10, "max_iter": 1000}
    settings["solver"] = "newton-cholesky"
    kinds = {"poisson": PoissonRegressor, "gamma": GammaRegressor}
    glm = (
        TweedieRegressor(power=1.5, link="log", **settings)
        if task.family == "tweedie"
        else kinds[task.family](**settings)
    )
    weights = task.weights
    if task.exposure is not None:  # Counts by exposure, weighted by it, have the same likelihood.
        y, weights = y / task.exposure[train], task.exposure
    glm.fit(data[train], y, sample_weight=None if weights is None else weights[train])
    guess = np.asarray(glm.predict(data[task.test]))
    return guess if task.exposure is None else guess * task.exposure[task.test]


def _trees(task: Task) -> Found:
    options = TreeOptions(
        objective={"binary": "binary", "real": "real"}.get(task.kind, "poisson"),
        trees=30,
        depth=4,
    )

    def program(session: Session) -> Floats | None:
        table = task.tables[session.me]
        labels = task.labels[task.train] if session.is_label_party else None
        model = trees.fit(session, table[task.train], labels, options)
        return trees.predict(session, model, table[task.test])

    begin = time.perf_counter()
    ours = run_parties(dict.fromkeys((LABEL, PARTNER), program), label_party=LABEL)[LABEL]
    seconds = time.perf_counter() - begin
    return Found(
        task,
        "trees",
        _figures(task, np.asarray(ours)),
        _figures(task, _lightgbm(task, list(task.tables.values()), options)),
        _figures(task, _lightgbm(task, [task.tables[LABEL]], options)),
        seconds,
    )


def _lightgbm(task: Task, tables: list[pl.DataFrame], options: TreeOptions) -> Floats:
    columns = [column for table in tables for column in table.iter_columns()]
    text = [n for n, column in enumerate(columns) if not column.dtype.is_numeric()]
    x = np.column_stack(
        [
            column.cast(pl.Categorical).to_physical() if n in text else column
            for n, column in enumerate(columns)
        ]
    ).astype(np.float64)
    settings = {
        "objective": {"real": "regression"}.get(options.objective, options.objective),
        "learning_rate": options.learning_rate,
        "max_depth": options.depth,
        "num_leaves": 2**options.depth,
        "max_bin": options.bins,
        "min_data_in_leaf": options.min_rows,
        "lambda_l2": options.l2,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(x[task.train], task.labels[task.train], categorical_feature=text)
    return np.asarray(lightgbm.train(settings, data, options.trees).predict(x[task.test]))


def _figures(task: Task, guess: Floats) -> tuple[float, float]:
    y = task.labels[task.test]
    if task.kind == "binary":
        return auc(y, guess), ks(y, guess)
    if task.kind == "real":
        measured = real_metrics(y, guess)
        return measured.rmse, measured.r2 or 0.0
    weights = None if task.weights is None else task.weights[task.test]
    if task.exposure is not None:
        weights = task.exposure[task.test]
        y, guess = y / weights, guess / weights
    family: Any = task.family
    curve = lorenz_curve(y, guess, weights=weights)
    return deviance(y, guess, family=family, weights=weights), curve.normalised or 0.0


def _result(found: list[Found], machine: dict[str, Any]) -> Result:
    by_trees = {kind: [one for one in found if (one.model == "trees") == kind] for kind in (0, 1)}
    least = {kind: max(one.worse for one in ones) for kind, ones in by_trees.items()}
    gains = [
        (one.ours[0] - one.alone[0]) * (1 if one.task.kind == "binary" else -1) for one in found
    ]
    return Result(
        name="vertical_models",
        title=TITLE,
        summary=SUMMARY,
        bars=[
            Bar("linear models: 0.001 over what the worst loses", _over(NEAR_LINEAR, least[0]), 1),
            Bar("trees: 0.02 over what the worst loses", _over(NEAR_TREES, least[1]), 1),
            Bar(
                "part of the models that are better than the guest's alone",
                float(np.mean(np.array(gains) > 0)),
                0.8,
            ),
        ],
        columns=["table", "model", "figures", "ours", "pooled", "guest alone", "fit and predict s"],
        rows=[_row(one) for one in found],
        raw={
            "runs": [
                {
                    "table": one.task.name,
                    "model": one.model,
                    "rows": len(one.task.labels),
                    "cuts": one.cuts,
                    "ours": one.ours,
                    "pooled": one.pooled,
                    "alone": one.alone,
                    "worse": one.worse,
                    "seconds": one.seconds,
                }
                for one in found
            ]
        },
        machine=machine,
        versions=versions("lightgbm", "numpy", "polars", "scikit-learn", "tenseal"),
    )


def _over(bound: float, lost: float) -> float:
    return bound / max(lost, bound / 1000)


def _row(one: Found) -> list[str]:
    names = {"binary": "AUC / KS", "real": "RMSE / R2"}
    return [
        f"{one.task.name} ({len(one.task.labels):,} rows)",
        one.model,
        names.get(one.task.kind, "deviance / Gini"),
        *(f"{a:.4f} / {b:.4f}" for a, b in (one.ours, one.pooled, one.alone)),
        f"{one.seconds:.1f}",
    ]


if __name__ == "__main__":
    main()
