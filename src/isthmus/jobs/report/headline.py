"""The top of the page: one sentence and a row of numbers that need no explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.jobs.report.looks_words import looks_verdict, only_looked, strongest
from isthmus.jobs.report.model import (
    Report,
)
from isthmus.jobs.report.parts import (
    Figures,
    Interval,
    Metrics,
    TargetFigures,
)
from isthmus.jobs.report.words import (
    as_bytes,
    as_count,
    as_difference,
    as_figure,
    as_list,
    as_percent,
    as_seconds,
)

FEW_SAMPLES = 100
FEW_OF_A_CLASS = 20
"""With fewer test samples, or fewer of a class, figures are rough."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with its name and a remark."""

    name: str
    value: str
    remark: str
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The headline's two rows."""

    models: tuple[Tile, ...]
    """From the label party alone to the pooled model; those that are known."""
    facts: tuple[Tile, ...]
    targets: tuple[Tile, ...] = ()
    """In place of `models` where the first target is not binary."""
    hint: str = ""
    """What the numbers of `targets` are."""


def verdict(report: Report) -> str:
    """What came out, in one or two sentences."""
    job, metrics = report.job, report.metrics
    if job.applies is not None:
        return _applied(report, job.applies)
    if only_looked(report):
        return looks_verdict(report)
    if job.role == "arbiter":
        return _decrypted(report)
    if job.role == "feature":
        return _took_part(report)
    if metrics.federation is None:
        return _of_targets(report) or _took_part(report)
    partners = as_list(job.feature_parties)
    together = (
        f"Together with {partners}, {job.label_party}'s model puts a positive sample above a "
        f"negative one in {as_percent(metrics.federation.auc, 2)} of pairs"
    )
    if metrics.label_party_alone is None:
        return together + "."
    alone = f"{job.label_party} alone reaches {as_percent(metrics.label_party_alone.auc, 2)}"
    rest = (
        _certainty(report.uplift.over_label_party_alone),
        _worse_probabilities(metrics.federation, metrics.label_party_alone),
    )
    return " ".join(filter(None, (f"{together}; {alone}.", *rest)))


def _of_targets(report: Report) -> str:
    """The same where the first target is not binary: in its own metric."""
    job, first = report.job, _first(report)
    if first is None:
        return ""
    if first.kind == "retrieval":
        return _of_retrieval(report, first)
    said = (
        f"Together with {as_list(job.feature_parties)}, {job.label_party}'s model predicts "
        f"{first.name} with {_METRICS.get(first.metric, first.metric)} of "
        f"{as_figure(first.federation)}"
    )
    if first.label_party_alone is None:
        return said + "."
    return f"{said}; {job.label_party} alone reaches {as_figure(first.label_party_alone)}."


def _first(report: Report) -> TargetFigures | None:
    """What stands for the first target where that is not binary."""
    known = [one for one in report.targets if one.federation is not None]
    if report.metrics.federation is not None or not known:
        return None
    # Of counts and costs a mean error is mostly noise: what counts is their order.
    return next((one for one in known if one.metric == "Gini"), known[0])


def _of_retrieval(report: Report, recall: TargetFigures) -> str:
    """The same where items are retrieved."""
    job, length = report.job, recall.metric.partition("@")[2]
    said = (
        f"Together with {as_list(job.feature_parties)}, {job.label_party}'s model has "
        f"{as_percent(recall.federation or 0.0, 2)} of what users took next among the first "
        f"{length} items that it finds for them"
    )
    if recall.label_party_alone is None:
        return said + "."
    return f"{said}; {job.label_party} alone has {as_percent(recall.label_party_alone, 2)}."


_METRICS = {"RMSE": "a root mean square error", "accuracy": "an accuracy", "Gini": "a Gini index"}


def cautions(metrics: Metrics) -> tuple[str, ...]:
    """Sentences about figures that rest on few test samples."""
    figures = metrics.federation
    if figures is None:
        return ()
    rows, positives = figures.rows, figures.positives
    few = []
    if rows < FEW_SAMPLES:
        few.append(f"{as_count(rows)} test samples")
    if positives is not None and min(positives, rows - positives) < FEW_OF_A_CLASS:
        few.append(
            f"{as_count(positives)} positive and {as_count(rows - positives)} negative test samples"
        )
    if not few:
        return ()
    return (f"Only {', '.join(few)}: all figures of accuracy are rough.",)


def tiles(report: Report) -> Tiles:
    """The numbers of the headline that this party knows."""
    first = _first(report)
    targets: tuple[Tile, ...] = ()
    hint = ""
    if first is not None:
        better = "less" if first.metric in ("RMSE", "MAE", "log loss") else "more"
        hint = f"{first.metric} of {first.name} on held-out test samples: {better} is better."
        values = (first.label_party_alone, first.federation, first.pooled)
        targets = tuple(_tiles_of(report, values))
    return Tiles(tuple(_models(report)), tuple(_facts(report)), targets, hint)


def _took_part(report: Report) -> str:
    job = report.job
    columns = len(report.data.features)
    word = "column" if columns == 1 else "columns"
    whose = "its own model" if job.role == "label" else f"{job.label_party}'s model"
    return (
        f"{job.party} trained {whose} with {columns} {word} of its own, which stayed here, on "
        f"{as_count(report.alignment.samples)} samples aligned with its partners."
    )


def _decrypted(report: Report) -> str:
    job = report.job
    opened = [one.sent_messages for one in report.traffic.topics if one.topic == "linear.sums"]
    if not sum(opened):
        return f"{job.party} was not asked to decrypt anything: what was to be trained was there."
    return (
        f"{job.party} held the key and decrypted {as_count(sum(opened))} messages of masked sums "
        f"for {as_list((job.label_party, *job.feature_parties))}: numbers as good as random to all "
        "but the party that masked them. It has seen no table, no id, no label and no prediction."
    )


def _applied(report: Report, earlier: str) -> str:
    job = report.job
    return (
        f"The model that {job.label_party} and {as_list(job.feature_parties)} trained in {earlier} "
        f"was applied to {as_count(report.alignment.samples)} common rows."
    )


def _certainty(uplift: Interval | None) -> str:
    if uplift is None:
        return ""
    if not uplift.excludes_zero:
        return "The difference may be chance: its interval holds zero."
    if uplift.low > 0:
        return "The gain is more than chance would explain."
    return "The federation does worse, by more than chance would explain."


def _worse_probabilities(federation: Figures, alone: Figures) -> str:
    """The log loss where it says the opposite of the AUC."""
    ours, theirs = as_figure(federation.log_loss), as_figure(alone.log_loss)
    if federation.auc <= alone.auc or float(ours) <= float(theirs):
        return ""
    return (
        f"But its probabilities are worse: a log loss of {ours} against {theirs}, where lower is "
        "better. It ranks better than it predicts."
    )


def _models(report: Report) -> list[Tile]:
    metrics = report.metrics
    models = (metrics.label_party_alone, metrics.federation, metrics.pooled)
    return _tiles_of(report, [None if figures is None else figures.auc for figures in models])


def _tiles_of(report: Report, values: Sequence[float | None]) -> list[Tile]:
    """From the label party alone to the pooled model; those that are known."""
    named = (
        (f"{report.job.label_party} alone", "its own columns only", "alone"),
        ("federation", "every column stays at its owner", "federation"),
        ("pooled", "all columns in one place, simulated", "pooled"),
    )
    return [
        Tile(name, as_figure(value), remark, colour)
        for (name, remark, colour), value in zip(named, values, strict=True)
        if value is not None
    ]


def _facts(report: Report) -> list[Tile]:
    traffic, found = report.traffic, report.alignment
    both_ways = f"{as_bytes(traffic.sent_bytes)} out, {as_bytes(traffic.received_bytes)} in"
    rows = f"from {as_count(found.own_rows)} rows here"
    facts = [
        *(
            []
            if report.job.role == "arbiter"
            else [Tile("rows aligned", as_count(found.samples), rows)]
        ),
        Tile("crossed the line", as_bytes(traffic.bytes), both_ways),
        Tile("time", as_seconds(report.seconds), _pace(report)),
    ]
    best = strongest(report.looks)
    if best is not None and report.uplift.over_label_party_alone is None:
        whose = "" if best.party == report.job.party else f" of {best.party}"
        facts.append(Tile("greatest IV", as_figure(best.iv, 3), f"{best.column}{whose}"))
    gain = report.uplift.over_label_party_alone
    if gain is not None:
        interval = f"{as_difference(gain.low)} to {as_difference(gain.high)}"
        remark = f"{interval} at {as_percent(gain.level, 0)}"
        facts.insert(0, Tile("AUC gained", as_difference(gain.mean), remark))
    return facts


def _pace(report: Report) -> str:
    if report.training is None:
        return "from the start to the report"
    return f"training at {as_count(report.training.samples_per_second)} samples/s"
