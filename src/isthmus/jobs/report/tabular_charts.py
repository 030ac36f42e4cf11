"""Charts of what cut-offs on a score do, of how values are told apart, and of growing trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from isthmus.jobs.report.charts import Chart, Grid, Series, Values, look_of, models_of
from isthmus.jobs.report.model import Report
from isthmus.jobs.report.parts import CutOff, LorenzPoint
from isthmus.jobs.report.words import as_count, as_figure, as_percent

_CALLED = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the samples that the table of cut-offs shows."""


@dataclass(frozen=True, slots=True)
class CutOffRow:
    """One row of the table of cut-offs, as texts."""

    threshold: str
    called: str
    found: str
    wrong: str
    missed: str
    left: str
    precision: str
    recall: str
    f1: str
    is_ks: bool


def cutoff_charts(report: Report) -> tuple[Chart, ...]:
    """KS, gains, precision by recall, and lift; none where this party does not know them."""
    federation = report.curves.federation
    if federation is None or not federation.cutoffs:
        return ()
    return _ks(report), _gains(report), _precision(report), _lift(report)


def cutoff_rows(report: Report) -> tuple[CutOffRow, ...]:
    """The federation's confusion of classes at a few cut-offs."""
    curves, figures = report.curves.federation, report.metrics.federation
    if curves is None or figures is None or figures.positives is None or not curves.cutoffs:
        return ()
    cuts = curves.cutoffs
    picked = {min(range(len(cuts)), key=lambda n: abs(cuts[n].called - at)) for at in _CALLED}
    picked |= {n for n, cut in enumerate(cuts) if cut.threshold == curves.ks_at}
    positives, negatives = figures.positives, figures.rows - figures.positives
    return tuple(_row(cuts[n], positives, negatives, curves.ks_at) for n in sorted(picked))


def lorenz_charts(report: Report) -> tuple[Chart, ...]:
    """How far predictions tell low from high values, model by model."""
    curves = report.lorenz
    named = (
        (f"{report.job.label_party} alone", "alone", curves.label_party_alone),
        ("federation", "federation", curves.federation),
        ("pooled model", "pooled", curves.pooled),
    )
    known = [(label, colour, points) for label, colour, points in named if points is not None]
    if not known:
        return ()
    grid = np.linspace(0, 1, 51)
    series = tuple(
        Series(
            label,
            colour,
            _on(grid, points),
            dashed=colour == "pooled",
            wide=colour == "federation" and curves.pooled is not None,
        )
        for label, colour, points in known
    )
    chart = Chart(
        name="lorenz",
        title="Lorenz curve",
        caption=(
            "The test samples from the lowest prediction up: the share of all that came true that "
            "is theirs. The further below the diagonal, the better; Gini's index is twice the "
            "area between."
        ),
        x_label="share of samples, lowest predictions first",
        y_label="share of the total",
        x=tuple(grid.tolist()),
        series=series,
        table=_grid("share of samples", grid.tolist(), series, every=5),
        unit_square=True,
        points=False,
    )
    return (chart,)


def loss_charts(report: Report) -> tuple[Chart, ...]:
    """Loss by epoch, of a linear model that the loss has stopped."""
    fitted = report.fitted
    if fitted is None or not fitted.losses:
        return ()
    epochs = [float(number) for number in range(len(fitted.losses))]
    series = (Series("training", "federation", fitted.losses),)
    chart = Chart(
        name="losses",
        title="Loss by epochs",
        caption="The mean loss of the training samples, penalties included, after so many epochs.",
        x_label="epochs",
        y_label="loss",
        x=tuple(epochs),
        series=series,
        table=Grid(
            head=("epochs", "training"),
            rows=tuple((as_count(at), as_figure(fitted.losses[int(at)], 6)) for at in epochs),
        ),
        points=len(epochs) <= 30,
    )
    return (chart,)


def tree_charts(report: Report) -> tuple[Chart, ...]:
    """Loss by number of trees."""
    fitted = report.fitted
    if fitted is None or not fitted.curve:
        return ()
    train = tuple(point.training for point in fitted.curve)
    valid = tuple(point.validation for point in fitted.curve)
    lines = (
        Series("training", "plain", train, dashed=True),
        Series("validation", "federation", valid),
    )
    series = tuple(line for line in lines if any(v is not None for v in line.values))
    trees = [float(point.trees) for point in fitted.curve]
    chart = Chart(
        name="trees",
        title="Loss by trees",
        caption="Lower is better. Where the validation loss rises, further trees do harm.",
        x_label="trees",
        y_label="loss",
        x=tuple(trees),
        series=series,
        table=_grid("trees", trees, series, digits=0),
        mark=float(fitted.trees) if fitted.trees and any(v is not None for v in valid) else None,
        mark_label="kept",
        points=len(trees) <= 30,
    )
    return (chart,)


def _row(cut: CutOff, positives: int, negatives: int, ks_at: float | None) -> CutOffRow:
    found, wrong = round(cut.recall * positives), round(cut.false_positive_rate * negatives)
    both = 2 * found + wrong + positives - found
    return CutOffRow(
        threshold=as_figure(cut.threshold),
        called=as_percent(cut.called),
        found=as_count(found),
        wrong=as_count(wrong),
        missed=as_count(positives - found),
        left=as_count(negatives - wrong),
        precision=as_percent(cut.precision),
        recall=as_percent(cut.recall),
        f1=as_figure(2 * found / both if both else 0.0, 3),
        is_ks=cut.threshold == ks_at,
    )


def _ks(report: Report) -> Chart:
    curves, figures = report.curves.federation, report.metrics.federation
    assert curves is not None
    cuts = curves.cutoffs
    x = [0.0, *(cut.called for cut in cuts)]
    series = (
        Series("positives", "federation", (0.0, *(cut.recall for cut in cuts))),
        Series("negatives", "plain", (0.0, *(cut.false_positive_rate for cut in cuts))),
    )
    mark = next((cut.called for cut in cuts if cut.threshold == curves.ks_at), None)
    ks = "" if figures is None else f" KS is {as_figure(figures.ks)}."
    return Chart(
        name="ks",
        title="KS curve",
        caption=(
            "The share of positives and of negatives among the best scores, of the federation. "
            f"Where the two are furthest apart is marked.{ks}"
        ),
        x_label="share of samples, best scores first",
        y_label="share of the class",
        x=tuple(x),
        series=series,
        table=_grid("share of samples", x, series),
        from_zero=True,
        points=False,
        mark=mark,
        mark_label="KS",
    )


def _gains(report: Report) -> Chart:
    x, series = _over(report, lambda cut: (cut.called, cut.recall))
    return Chart(
        name="gains",
        title="Gains",
        caption=(
            "The share of all positives that is found among the best scores: on the diagonal, no "
            "more than by chance."
        ),
        x_label="share of samples, best scores first",
        y_label="share of positives found",
        x=x,
        series=series,
        table=_grid("share of samples", list(x), series, every=5),
        unit_square=True,
        points=False,
    )


def _precision(report: Report) -> Chart:
    x, series = _over(report, lambda cut: (cut.recall, cut.precision), start=None)
    found = [
        f"{label} {as_figure(curves.average_precision)}"
        for label, _, curves in models_of(report)
        if curves.average_precision is not None
    ]
    return Chart(
        name="precision",
        title="Precision by recall",
        caption=(
            "Of the samples called positive the share that is, by the share of positives found. "
            f"Average precision: {', '.join(found)}."
        ),
        x_label="share of positives found (recall)",
        y_label="share that is positive (precision)",
        x=x,
        series=series,
        table=_grid("recall", list(x), series, every=5),
        from_zero=True,
        points=False,
    )


def _lift(report: Report) -> Chart:
    groups = tuple(float(n) for n in range(1, 11))
    models = tuple(models_of(report))
    series = tuple(
        Series(label, colour, tuple(group.lift for group in curves.lift), **look_of(colour, models))
        for label, colour, curves in models
        if len(curves.lift) == len(groups)
    )
    return Chart(
        name="lift",
        title="Lift by tenth",
        caption=(
            "The test samples in ten groups by score, the best first: how many times more often "
            "a sample is positive there than in all."
        ),
        x_label="group, best scores first",
        y_label="lift",
        x=groups,
        series=series,
        table=_grid("group", list(groups), series, digits=0),
        from_zero=True,
    )


def _over(
    report: Report,
    pair: Callable[[CutOff], tuple[float, float]],
    start: tuple[float, float] | None = (0.0, 0.0),
) -> tuple[tuple[float, ...], tuple[Series, ...]]:
    """A line for each model over a common x, from what each cut-off gives as x and y."""
    grid = np.linspace(0, 1, 51)
    models, series = tuple(models_of(report)), []
    for label, colour, curves in models:
        points = [*([start] if start else []), *(pair(cut) for cut in curves.cutoffs)]
        x, y = zip(*points, strict=True)
        values = np.interp(grid, x, y).tolist()
        series.append(Series(label, colour, tuple(values), **look_of(colour, models)))
    return tuple(grid.tolist()), tuple(series)


def _on(
    grid: np.ndarray[tuple[int], np.dtype[np.float64]], points: tuple[LorenzPoint, ...]
) -> Values:
    found = np.interp(grid, [p.rows for p in points], [p.total for p in points])
    return tuple(found.tolist())


def _grid(
    first: str, x: list[float], series: tuple[Series, ...], *, every: int = 1, digits: int = 3
) -> Grid:
    return Grid(
        head=(first, *(line.label for line in series)),
        rows=tuple(_rows(x, series, every, digits)),
    )


def _rows(
    x: list[float], series: tuple[Series, ...], every: int, digits: int
) -> Iterator[tuple[str, ...]]:
    for at in range(0, len(x), every):
        yield as_figure(x[at], digits), *(as_figure(line.values[at], 3) for line in series)
