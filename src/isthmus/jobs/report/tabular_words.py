"""What the page says of a model that is no network, under names that a reader understands."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.jobs.report.model import Report
from isthmus.jobs.report.parts import Scalar
from isthmus.jobs.report.words import as_count, as_figure, as_number, as_seconds

_NAMES = {
    "l1": "penalty (L1)",
    "l2": "penalty (L2)",
    "epochs": "epochs at most",
    "stop": "stops by",
    "loss_change": "change of the loss that stops",
    "batch_size": "samples a step",
    "power": "power of the variance",
    "tolerance": "tolerance, in standard errors",
    "rounds": "encrypted gradients at most",
    "standard_errors": "standard errors",
    "learning_rate": "learning rate",
    "trees": "trees at most",
    "leaves": "leaves at most",
    "bins": "bins at most",
    "min_rows": "rows of a leaf at least",
    "min_hessian": "second derivatives of a leaf at least",
    "min_gain": "gain of a split at least",
    "subsample": "share of rows a tree",
    "columns": "share of columns a tree",
    "goss": "GOSS, shares of rows",
    "patience": "trees of patience",
    "paths": "predicts along paths",
    "cell": "rows of a shown sum at least",
    "bits": "binary places of derivatives at most",
    "noise": "noise on partners' sums",
    "least_columns": "columns of a feature party at least",
    "rows_per_column": "rows for each column at least",
    "own_trees": "first trees of own columns alone",
}

_NEUTRAL = {
    "l1": 0.0,
    "decay": 0.0,
    "min_gain": 0.0,
    "subsample": 1.0,
    "columns": 1.0,
    "own_trees": 0,
    "noise": 0.0,
    "cell": 1,
    "bits": 40,
    "paths": False,
    "standard_errors": False,
    "least_columns": 2,
    "rows_per_column": 20,
}
"""What need not be said."""


def fitted_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and value of how the model was made and what came out; none without one."""
    return () if report.fitted is None else tuple(_facts(report))


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    fitted = report.fitted
    assert fitted is not None
    yield "learns", fitted.family
    for name, value in fitted.settings.items():
        if value is not None and _NEUTRAL.get(name) != value:
            yield _NAMES.get(name, name.replace("_", " ")), _text(value)
    if fitted.rounds is not None:
        yield "encrypted gradients", as_count(fitted.rounds)
    if fitted.trees is not None:
        yield "trees kept", as_count(fitted.trees)
    if fitted.rho is not None:
        yield "privacy of a row in the sums (zCDP)", as_number(fitted.rho)
    yield "training took", as_seconds(fitted.seconds)
    if fitted.loss is not None:
        yield "mean training loss", as_figure(fitted.loss)
    if fitted.dispersion is not None and fitted.family not in ("logistic", "poisson"):
        yield "dispersion", as_number(fitted.dispersion)
    if fitted.stability is not None:
        rows = "test" if report.job.applies is None else "these rows"
        yield f"PSI of scores, training to {rows}", as_figure(fitted.stability.psi)
        if (training := fitted.stability.training) is not None:
            yield "AUC on training samples", as_figure(training.auc)
            yield "KS on training samples", as_figure(training.ks)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
