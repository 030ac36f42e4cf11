"""From what a job measured to the parts of its report."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Protocol

import numpy as np
import numpy.typing as npt

import isthmus
from isthmus import metrics
from isthmus.jobs.report.model import (
    Versions,
)
from isthmus.jobs.report.parts import (
    CalibrationBin,
    CutOff,
    Figures,
    Interval,
    LiftGroup,
    ModelCurves,
    RocPoint,
    TopicTraffic,
    Traffic,
)
from isthmus.metrics.thresholds import average_precision, confusion, ks_curve


class TopicCounts(Protocol):
    """What a link's meter counts under one topic."""

    @property
    def sent_bytes(self) -> int: ...  # noqa: D102
    @property
    def received_bytes(self) -> int: ...  # noqa: D102
    @property
    def sent_messages(self) -> int: ...  # noqa: D102
    @property
    def received_messages(self) -> int: ...  # noqa: D102
    @property
    def waited_seconds(self) -> float: ...  # noqa: D102


def versions_here() -> Versions:
    """The versions of this process."""
    return Versions(
        isthmus=isthmus.__version__,
        python=platform.python_version(),
        torch=version("torch"),
        numpy=version("numpy"),
    )


def figures_of(measured: metrics.BinaryMetrics, *, share_positives: bool = True) -> Figures:
    """Metrics as the report holds them; `share_positives=False` for a feature party's report."""
    return Figures(
        auc=measured.auc,
        ks=measured.ks,
        log_loss=measured.log_loss,
        brier=measured.brier,
        rows=measured.rows,
        positives=measured.positives if share_positives else None,
    )


def interval_of(uplift: metrics.Uplift) -> Interval:
    """A bootstrap uplift as the report holds it."""
    return Interval(mean=uplift.mean, low=uplift.low, high=uplift.high, level=uplift.level)


def curves_of(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> ModelCurves:
    """The ROC curve, calibration and cut-offs of one model on the test samples, both `[n]`.

    Raises:
        MetricError: one class only, NaN, values outside [0, 1], wrong shapes or labels.
    """
    roc = metrics.roc_curve(labels, probabilities)
    bins = metrics.calibration(labels, probabilities)
    ks = ks_curve(labels, probabilities)
    return ModelCurves(
        cutoffs=_cutoffs(labels, np.asarray(probabilities, np.float64), ks.at),
        ks_at=ks.at,
        average_precision=average_precision(labels, probabilities),
        lift=_lift(labels, probabilities),
        roc=tuple(
            RocPoint(false_positive_rate=false, true_positive_rate=true)
            for false, true in zip(
                roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist(), strict=True
            )
        ),
        calibration=tuple(
            CalibrationBin(predicted=predicted, observed=observed, count=count, low=low, high=high)
            for predicted, observed, count, low, high in zip(
                bins.predicted.tolist(),
                bins.observed.tolist(),
                bins.count.tolist(),
                bins.low.tolist(),
                bins.high.tolist(),
                strict=True,
            )
        ),
    )


def _cutoffs(
    labels: npt.ArrayLike, scores: npt.NDArray[np.float64], also: float
) -> tuple[CutOff, ...]:
    shares = np.concatenate([[0.005, 0.01, 0.02, 0.03, 0.04], np.arange(1, 21) / 20])
    asked = np.quantile(scores, 1.0 - shares, method="inverted_cdf")
    table = confusion(labels, scores, np.unique([*asked, also])[::-1])
    columns = (
        table.thresholds, table.called, table.recall, table.false_positive_rate, table.precision
    )  # fmt: skip
    return tuple(
        CutOff(
            threshold=threshold, called=called, recall=recall, false_positive_rate=false,
            precision=precision,
        )
        for threshold, called, recall, false, precision in zip(
            *(column.tolist() for column in columns), strict=True
        )
    )  # fmt: skip


def _lift(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[LiftGroup, ...]:
    table = metrics.lift_table(labels, scores)
    columns = (table.rows, table.positives, table.lift)
    return tuple(
        LiftGroup(rows=rows, positives=positives, lift=lift)
        for rows, positives, lift in zip(*(column.tolist() for column in columns), strict=True)
    )


def traffic_of(meters: Mapping[str, Mapping[str, TopicCounts]]) -> Traffic:
    """What crossed: for each partner, the snapshot of its link's meter (topic to counts)."""
    topics = tuple(
        TopicTraffic(
            partner=partner,
            topic=topic,
            sent_bytes=counts.sent_bytes,
            received_bytes=counts.received_bytes,
            sent_messages=counts.sent_messages,
            received_messages=counts.received_messages,
            waited_seconds=counts.waited_seconds,
        )
        for partner, snapshot in meters.items()
        for topic, counts in sorted(snapshot.items())
    )
    return Traffic(
        topics=topics,
        sent_bytes=sum(topic.sent_bytes for topic in topics),
        received_bytes=sum(topic.received_bytes for topic in topics),
        sent_messages=sum(topic.sent_messages for topic in topics),
        received_messages=sum(topic.received_messages for topic in topics),
        waited_seconds=sum(topic.waited_seconds for topic in topics),
    )
