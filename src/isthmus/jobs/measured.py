"""What models reach on the test samples: figures, uplift, and the scores they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from isthmus.errors import MetricError
from isthmus.files import write_bytes
from isthmus.jobs.rankings import Groups, ranking_of
from isthmus.jobs.report import (
    Curves,
    Figures,
    Interval,
    LorenzCurves,
    LorenzPoint,
    Metrics,
    Ranking,
    TargetFigures,
    Uplift,
    curves_of,
    figures_of,
    interval_of,
)
from isthmus.jobs.retrieval.figures import METRICS as RETRIEVAL_METRICS
from isthmus.jobs.retrieval.figures import retrieval_figures
from isthmus.jobs.spec import EvaluateSpec
from isthmus.metrics import (
    LorenzCurve,
    auc,
    binary_metrics,
    bootstrap_uplift,
    deviance,
    log_loss,
    lorenz_curve,
    multiclass_metrics,
    real_metrics,
)
from isthmus.split import Target, Targets
from isthmus.split.in_batch import InBatch
from isthmus.split.targets import PLAIN

Scores = NDArray[np.float64]

MODELS = ("label_party_alone", "federation", "pooled")
"""The models that are compared, by their names in the report."""

METRICS_OF = {
    "binary": ("AUC", "log loss"),
    "multiclass": ("accuracy", "log loss"),
    "real": ("RMSE", "MAE"),
    "retrieval": RETRIEVAL_METRICS,
}
"""Metrics of each kind of target, by their names in the report and in its order."""

METRICS_OF_AMOUNTS = ("deviance", "Gini")
"""Further ones of counts and costs."""


@dataclass(frozen=True)
class Amounts:
    """That a first target of numbers is of counts or costs, which are never negative."""

    power: float
    """Of the variance: 1 of counts (Poisson), 2 of costs (gamma), between of both (Tweedie)."""
    exposure: Scores | None = None
    """How much each test sample stands for, such as years insured, float64 [n]; once by default."""


@dataclass(frozen=True)
class Measured:
    """Labels and each model's scores of the same test samples. Only at the label party."""

    labels: NDArray[np.float32]
    """float32 [n] or [n, columns], as `targets` has them."""
    scores: Mapping[str, Scores]
    """float64 [n] or [n, outputs] of some of `MODELS`; of retrieval the rank of each sample's item,
    NaN for a sample that is not positive."""
    targets: Targets = PLAIN
    groups: Groups | None = None
    """int64 [n], which of them are ranked among each other; None where the job asks for none."""
    amounts: Amounts | None = None
    """Where the first target is of counts or costs."""

    def save(self, path: Path) -> None:
        """Write as safetensors, without the targets. Raises StorageError."""
        further: dict[str, NDArray[Any]] = {}
        if self.groups is not None:
            further["groups"] = self.groups
        if (amounts := self.amounts) is not None:
            further |= {"power": np.array([amounts.power])}
            further |= {} if amounts.exposure is None else {"exposure": amounts.exposure}
        write_bytes(path, save({"labels": self.labels, **self.scores, **further}))

    @classmethod
    def load(cls, path: Path, targets: Targets = PLAIN) -> Measured:
        """Read what `save` wrote."""
        arrays = load_file(path)
        labels = arrays.pop("labels")
        scores = {name: arrays[name] for name in MODELS if name in arrays}
        amounts = None
        if "power" in arrays:
            amounts = Amounts(float(arrays["power"][0]), arrays.get("exposure"))
        return cls(labels, scores, targets, arrays.get("groups"), amounts)

    def metrics(self, *, share_positives: bool = True) -> Metrics:
        """The figures of each model on the first target; none where it is not binary."""
        if not self._binary:
            return Metrics()
        return Metrics(**{name: self._figures(name, share_positives) for name in self.scores})

    def uplift(self, *, seed: int, resamples: int) -> Uplift:
        """What the federation gains over the other models on the first target, with bootstrap
        intervals; nothing where it is not binary.
        """

        def over(other: str) -> Interval | None:
            if not self._binary or other not in self.scores or "federation" not in self.scores:
                return None
            federation, rival = self._first("federation"), self._first(other)
            return interval_of(
                bootstrap_uplift(self._truth, federation, rival, seed=seed, resamples=resamples)
            )

        return Uplift(over_label_party_alone=over("label_party_alone"), over_pooled=over("pooled"))

    def curves(self) -> Curves:
        """ROC and calibration of each model on the first target; none where it is not binary."""
        if not self._binary:
            return Curves()
        return Curves(**{name: curves_of(self._truth, self._first(name)) for name in self.scores})

    def lorenz(self) -> LorenzCurves:
        """Of each model on a first target of counts or costs; else none."""
        curves = {name: self._lorenz(name) for name in self.scores}
        known = {name: curve for name, curve in curves.items() if curve is not None}
        return LorenzCurves(
            **{
                name: tuple(
                    LorenzPoint(rows=min(rows, 1.0), total=min(total, 1.0))
                    for rows, total in zip(curve.rows.tolist(), curve.values.tolist(), strict=True)
                )
                for name, curve in known.items()
            }
        )

    def target_figures(
        self, *, share_rows: bool = True, plain: bool = False
    ) -> tuple[TargetFigures, ...]:
        """Metrics of all targets; none where one binary label is all there is, unless `plain`."""
        if self.targets.plain and not plain:
            return ()
        if isinstance(self.targets, InBatch):
            about = self.targets, self.labels, self.scores
            return tuple(retrieval_figures(*about, share_rows=share_rows))
        found = []
        for number, target in enumerate(self.targets.all):
            column = self.targets.column(self.labels, number)
            known = ~np.isnan(column)
            truth = target.truth(column[known])
            models = {
                name: _metrics(target, truth, self.targets.scores_of(scores)[number][known])
                for name, scores in self.scores.items()
            }
            if self.amounts is not None and number == 0:
                for name in models:
                    models[name] |= self._of_amounts(name)
            rows = int(known.sum()) if share_rows else None
            found += list(_rows(target, rows, models))
        return tuple(found)

    def _of_amounts(self, name: str) -> dict[str, float | None]:
        """Deviance and Gini of a model on the first target; None where the rows do not allow it."""
        assert self.amounts is not None
        truth, scores, weights = self._amounts_of(name)
        curve, power = self._lorenz(name), self.amounts.power
        family: Literal["poisson", "gamma", "tweedie"] = "tweedie"
        if power in (1.0, 2.0):
            family = "poisson" if power == 1.0 else "gamma"
        try:
            found = deviance(truth, scores, family=family, power=power, weights=weights)
        except MetricError:
            found = None
        return dict(
            zip(METRICS_OF_AMOUNTS, (found, None if curve is None else curve.gini), strict=True)
        )

    def _lorenz(self, name: str) -> LorenzCurve | None:
        if self.amounts is None:
            return None
        truth, scores, weights = self._amounts_of(name)
        if (exposure := self.amounts.exposure) is not None:
            exposure = exposure[~np.isnan(self._truth)]
            truth, scores = truth / exposure, scores / exposure
            weights = exposure if weights is None else weights * exposure
        try:
            return lorenz_curve(truth, scores, weights=weights, points=101)
        except MetricError:
            return None

    def _amounts_of(self, name: str) -> tuple[Scores, Scores, Scores | None]:
        """Values, predictions and weights of the samples that have a value."""
        known = ~np.isnan(self._truth)
        # Standardised and back, a value of 0 has become a little more or less.
        truth = np.maximum(self.targets.first.truth(self._truth[known]), 0.0)
        weights = self.labels[known, -1].astype(np.float64) if self.targets.weighted else None
        return truth, self._first(name)[known], weights

    def ranking(self, evaluate: EvaluateSpec, *, share_groups: bool = True) -> Ranking | None:
        """The order within groups by the first target; None where the job asks for none."""
        if self.groups is None or not self._binary:
            return None
        scores = {name: self._first(name) for name in self.scores}
        return ranking_of(self._truth, scores, self.groups, evaluate, share_groups=share_groups)

    @property
    def _binary(self) -> bool:
        return self.targets.first.kind == "binary"

    @property
    def _truth(self) -> NDArray[np.float32]:
        return self.targets.column(self.labels, 0)

    def _first(self, name: str) -> Scores:
        return self.targets.scores_of(self.scores[name])[0]

    def _figures(self, name: str, share_positives: bool) -> Figures:
        measured = binary_metrics(self._truth, self._first(name))
        return figures_of(measured, share_positives=share_positives)


def _metrics(target: Target, truth: Scores, scores: Scores) -> dict[str, float | None]:
    """By name, in the order of the report; None where the rows do not allow it."""
    if not len(truth):
        return {}
    if target.kind == "real":
        real = real_metrics(truth, scores)
        return _named(target, real.rmse, real.mae)
    if target.kind == "multiclass":
        many = multiclass_metrics(truth, scores)
        return _named(target, many.accuracy, many.log_loss)
    try:
        ranking = auc(truth, scores)
    except MetricError:
        # Of one class only: a further target need not have both among the test samples.
        ranking = None
    return _named(target, ranking, log_loss(truth, scores))


def _named(target: Target, *values: float | None) -> dict[str, float | None]:
    return dict(zip(METRICS_OF[target.kind], values, strict=True))


def _rows(
    target: Target, rows: int | None, models: Mapping[str, Mapping[str, float | None]]
) -> Iterator[TargetFigures]:
    for metric in next(iter(models.values()), {}):
        values = {name: figures[metric] for name, figures in models.items()}
        yield TargetFigures(name=target.name, kind=target.kind, metric=metric, rows=rows, **values)
