"""The page's charts as plain data: what the script draws and what the tables beside them say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from isthmus.jobs.report.model import (
    EpochFacts,
    Report,
)
from isthmus.jobs.report.parts import (
    ModelCurves,
)
from isthmus.jobs.report.words import as_count, as_figure

Values = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    label: str
    colour: str
    """Name of a colour in the style sheet: federation, alone, pooled or plain."""
    values: Values
    """One a point of the chart's x; None where the line has no point."""
    dashed: bool = False
    wide: bool = False
    """Drawn so wide that a line on top of it leaves it visible."""
    low: Values = ()
    """Lower ends of the points' intervals, where they have any."""
    high: Values = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: lines over a common x, and the same numbers as a table."""

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    table: Grid
    unit_square: bool = False
    """Both axes run from 0 to 1 and the diagonal is drawn."""
    from_zero: bool = False
    """The y axis starts at 0."""
    points: bool = True
    """Whether each point gets a dot."""
    mark: float | None = None
    """An x to mark with a vertical line."""
    mark_label: str = ""


Models = Sequence[tuple[str, str, ModelCurves]]
"""Name, colour and curves of each."""


class Look(TypedDict):
    """How a model's line is drawn."""

    dashed: bool
    wide: bool


def learning_charts(report: Report) -> tuple[Chart, ...]:
    """Loss and AUC by epoch, of a party's own targets too; where nothing is known, the time."""
    if report.training is None or not report.training.curve:
        return ()
    makers = (_loss, _auc, _tower_loss, _tower_auc)
    charts = tuple(chart for maker in makers if (chart := maker(report)) is not None)
    return charts or (_seconds(report),)


def accuracy_charts(report: Report) -> tuple[Chart, ...]:
    """ROC and calibration of every model that has them."""
    models = tuple(models_of(report))
    if not models:
        return ()
    charts = _roc(models), _calibration(models)
    same = _same(report)
    return tuple(replace(chart, caption=f"{chart.caption}{same}") for chart in charts)


def _same(report: Report) -> str:
    federation, pooled = report.metrics.federation, report.metrics.pooled
    if federation is None or pooled is None:
        return ""
    if as_figure(federation.auc) != as_figure(pooled.auc):
        return " The pooled model is dashed."
    return " The pooled model, dashed, lies on the federation: their AUCs are the same to 4 digits."


def models_of(report: Report) -> Iterator[tuple[str, str, ModelCurves]]:
    """Name, colour and curves of every model that has them."""
    curves = report.curves
    named = (
        (f"{report.job.label_party} alone", "alone", curves.label_party_alone),
        ("federation", "federation", curves.federation),
        ("pooled model", "pooled", curves.pooled),
    )
    for label, colour, found in named:
        if found is not None:
            yield label, colour, found


def _loss(report: Report) -> Chart | None:
    curve = report.network.curve
    train = tuple(epoch.train_loss for epoch in curve)
    whole = tuple(epoch.validation_loss for epoch in curve)
    log_loss = tuple(epoch.validation_log_loss for epoch in curve)
    label = "loss" if _any(whole) else "log loss (nats)"
    return _losses(
        report, "loss", "Loss by epoch", label, train, whole if _any(whole) else log_loss
    )


def _tower_loss(report: Report) -> Chart | None:
    curve = report.network.curve
    train = tuple(epoch.tower_train_loss for epoch in curve)
    validation = tuple(epoch.tower_validation_loss for epoch in curve)
    title = f"Loss by epoch of {report.job.party}'s own targets"
    return _losses(report, "tower-loss", title, "loss", train, validation)


def _losses(
    report: Report, name: str, title: str, y_label: str, train: Values, validation: Values
) -> Chart | None:
    if not _any(train) and not _any(validation):
        return None
    curve = report.network.curve
    return Chart(
        name=name,
        title=title,
        caption=(
            "Lower is better. Where the validation loss rises while the training loss falls, "
            "the model has begun to learn its training samples by heart."
        ),
        x_label="epoch",
        y_label=y_label,
        x=_epochs(curve),
        series=tuple(
            series
            for series in (
                Series("training", "plain", train, dashed=True),
                Series("validation", "federation", validation),
            )
            if _any(series.values)
        ),
        table=_by_epoch(curve, ("training", train), ("validation", validation)),
        mark=report.network.best_epoch,
        mark_label="kept",
    )


def _auc(report: Report) -> Chart | None:
    values = tuple(epoch.validation_auc for epoch in report.network.curve)
    return _aucs(report, "auc", "Validation AUC by epoch", values)


def _tower_auc(report: Report) -> Chart | None:
    values = tuple(epoch.tower_validation_auc for epoch in report.network.curve)
    title = f"Validation AUC by epoch of {report.job.party}'s first own target"
    return _aucs(report, "tower-auc", title, values)


def _aucs(report: Report, name: str, title: str, validation: Values) -> Chart | None:
    if not _any(validation):
        return None
    curve = report.network.curve
    return Chart(
        name=name,
        title=title,
        caption="Higher is better. The marked epoch's parameters were kept.",
        x_label="epoch",
        y_label="AUC",
        x=_epochs(curve),
        series=(Series("validation", "federation", validation),),
        table=_by_epoch(curve, ("validation AUC", validation)),
        mark=report.network.best_epoch,
        mark_label="kept",
    )


def _seconds(report: Report) -> Chart:
    curve = report.network.curve
    seconds = tuple(epoch.seconds for epoch in curve)
    return Chart(
        name="seconds",
        title="Time by epoch",
        caption="Losses and AUC stay at the label party, so this page shows the pace alone.",
        x_label="epoch",
        y_label="seconds",
        x=_epochs(curve),
        series=(Series("seconds", "federation", seconds),),
        table=_by_epoch(curve),
        from_zero=True,
    )


def _by_epoch(curve: Sequence[EpochFacts], *columns: tuple[str, Values]) -> Grid:
    return Grid(
        head=("epoch", *(name for name, _ in columns), "seconds"),
        rows=tuple(
            (
                str(epoch.epoch),
                *(as_figure(values[place]) for _, values in columns),
                as_figure(epoch.seconds, 2),
            )
            for place, epoch in enumerate(curve)
        ),
    )


def _roc(models: Models) -> Chart:
    grid = np.linspace(0, 1, 101)
    series = tuple(
        Series(label, colour, _roc_on(grid, curves), **look_of(colour, models))
        for label, colour, curves in models
    )
    shown = range(0, 101, 5)
    return Chart(
        name="roc",
        title="ROC curve",
        caption=(
            "For every cut-off on the score: the share of positives found against the share of "
            "negatives let in. The further above the diagonal, the better; the area under the "
            "curve is the AUC."
        ),
        x_label="negatives let in (false positive rate)",
        y_label="positives found (true positive rate)",
        x=tuple(grid.tolist()),
        series=series,
        table=Grid(
            head=("false positive rate", *(line.label for line in series)),
            rows=tuple(
                (as_figure(float(grid[at]), 2), *(as_figure(s.values[at], 3) for s in series))
                for at in shown
            ),
        ),
        unit_square=True,
        points=False,
    )


def look_of(colour: str, models: Models) -> Look:
    """The pooled model lies on the federation where splitting costs nothing: both must be seen."""
    return {
        "dashed": colour == "pooled",
        "wide": colour == "federation" and any(other == "pooled" for _, other, _ in models),
    }


def _roc_on(grid: np.ndarray[tuple[int], np.dtype[np.float64]], curves: ModelCurves) -> Values:
    false = [point.false_positive_rate for point in curves.roc]
    true = [point.true_positive_rate for point in curves.roc]
    return tuple(np.interp(grid, false, true).tolist())


def _calibration(models: Models) -> Chart:
    x = sorted({bin.predicted for _, _, curves in models for bin in curves.calibration})
    series = []
    for label, colour, curves in models:
        bins = {bin.predicted: bin for bin in curves.calibration}
        found = [bins.get(at) for at in x]
        series.append(
            Series(
                label,
                colour,
                tuple(bin.observed if bin else None for bin in found),
                **look_of(colour, models),
                low=tuple(bin.low if bin else None for bin in found),
                high=tuple(bin.high if bin else None for bin in found),
            )
        )
    return Chart(
        name="calibration",
        title="Calibration",
        caption=(
            "The test samples in ten groups by predicted probability: on the diagonal, what was "
            "predicted came true as often as predicted. Bars are 95% intervals."
        ),
        x_label="mean predicted probability",
        y_label="observed share of positives",
        x=tuple(x),
        series=tuple(series),
        table=Grid(
            head=("model", "predicted", "observed", "95% interval", "samples"),
            rows=tuple(
                (
                    label,
                    as_figure(bin.predicted, 3),
                    as_figure(bin.observed, 3),
                    f"{as_figure(bin.low, 3)} to {as_figure(bin.high, 3)}",
                    as_count(bin.count),
                )
                for label, _, curves in models
                for bin in curves.calibration
            ),
        ),
        unit_square=True,
    )


def _epochs(curve: Sequence[EpochFacts]) -> tuple[float, ...]:
    return tuple(float(epoch.epoch) for epoch in curve)


def _any(values: Values) -> bool:
    return any(value is not None for value in values)
