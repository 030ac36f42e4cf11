"""The small table that a run ends with in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from isthmus.jobs.report.looks_words import looks_facts
from isthmus.jobs.report.model import Report, TrainingFacts
from isthmus.jobs.report.parts import (
    Figures,
    RankingFigures,
    TargetFigures,
)
from isthmus.jobs.report.words import (
    as_bytes,
    as_count,
    as_difference,
    as_figure,
    as_percent,
    as_seconds,
    as_times,
)


def summary_table(report: Report) -> Table:
    """The models' AUC and log loss, then what the federation gains and what the job took."""
    models = [(name, figures) for name, figures in _models(report) if figures is not None]
    table = Table(
        title=Text(f"{report.job.name} at {report.job.party}"),
        title_justify="left",
        show_header=bool(models),
    )
    for head in ("", "AUC", "log loss") if models else ("", ""):
        table.add_column(head, justify="right" if table.columns else "left")
    for name, figures in models:
        table.add_row(Text(name), as_figure(figures.auc), as_figure(figures.log_loss))
    table.add_section()
    targets = _targets(report)
    for name, value in targets:
        table.add_row(Text(name), Text(value))
    if targets:
        table.add_section()
    for name, value in _facts(report):
        table.add_row(Text(name), value)
    return table


def _models(report: Report) -> list[tuple[str, Figures | None]]:
    return [
        (f"{report.job.label_party} alone", report.metrics.label_party_alone),
        ("federation", report.metrics.federation),
        ("pooled model", report.metrics.pooled),
    ]


def _targets(report: Report) -> list[tuple[str, str]]:
    """What the federation reaches on each target, and the label party alone."""
    rows = [
        (f"{one.name}: {one.metric}", _compared(one))
        for one in report.targets
        if not _stands_above(report, one)
    ]
    return [*rows, *_ranking(report)]


def _stands_above(report: Report, one: TargetFigures) -> bool:
    """Whether it is a figure of the only target that the models' lines have already."""
    figures = report.metrics.federation
    if figures is None or len({target.name for target in report.targets}) > 1:
        return False
    known = {"AUC": figures.auc, "log loss": figures.log_loss}
    return one.federation is not None and known.get(one.metric) == one.federation


def _compared(one: TargetFigures | RankingFigures) -> str:
    value = as_figure(one.federation)
    if one.label_party_alone is not None:
        value += f" ({as_figure(one.label_party_alone)} alone)"
    return value


def _ranking(report: Report) -> list[tuple[str, str]]:
    """The order within groups: the AUC there, and NDCG of the shortest list."""
    if report.ranking is None:
        return []
    shown = [one for one in report.ranking.figures if one.metric == "GAUC"]
    shown += [one for one in report.ranking.figures if one.metric.startswith("NDCG@")][:1]
    return [(f"{one.metric} per {report.ranking.per}", _compared(one)) for one in shown]


def _facts(report: Report) -> list[tuple[str, str]]:
    pooled = sum(phase.seconds for phase in report.phases if phase.name == "pooled")
    facts = [
        *looks_facts(report),
        *_aligned(report),
        ("bytes that crossed", as_bytes(report.traffic.bytes)),
        ("time, waiting included", as_seconds(report.seconds)),
        *((("and for the pooled model", as_seconds(pooled)),) if pooled else ()),
        *(
            (f"items in {one.name}", f"{one.mean_items:.1f} (none: {as_percent(one.empty)})")
            for one in report.data.sequences
        ),
    ]
    if report.training is not None:
        _add_training(facts, report.training, report.job.feature_parties)
    gain = report.uplift.over_label_party_alone
    if gain is not None:
        level = as_percent(gain.level, 0)
        facts[:0] = [
            ("AUC gained", as_difference(gain.mean)),
            (f"  low end ({level})", as_difference(gain.low)),
            (f"  high end ({level})", as_difference(gain.high)),
        ]
    return facts


def _aligned(report: Report) -> list[tuple[str, str]]:
    if report.job.role == "arbiter":
        return []
    return [("rows aligned", as_count(report.alignment.samples))]


def _add_training(
    facts: list[tuple[str, str]], training: TrainingFacts, feature_parties: tuple[str, ...]
) -> None:
    if training.schedule != "exact":
        facts.append(("schedule", training.chosen_schedule or training.schedule))
    secure = str(training.hyper_parameters.get("secure_sum", "none"))
    if secure != "none" and len(feature_parties) > 1:
        facts.append(("secure sum of", ", ".join(feature_parties)))
    if (ratio := training.guarded_ratio) is not None:
        facts.insert(2, ("  times fewer by guards", as_times(ratio)))
