"""The small table that a run ends with in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from isthmus.jobs.report.model import Figures, Report
from isthmus.jobs.report.words import (
    as_bytes,
    as_count,
    as_difference,
    as_figure,
    as_percent,
    as_seconds,
)


def summary_table(report: Report) -> Table:
    """The models' AUC and log loss, then what the job took."""
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
    for name, value, remark in _facts(report):
        table.add_row(Text(name), value, *([remark] if models else []))
    return table


def _models(report: Report) -> list[tuple[str, Figures | None]]:
    return [
        (f"{report.job.label_party} alone", report.metrics.label_party_alone),
        ("federation", report.metrics.federation),
        ("pooled model", report.metrics.pooled),
    ]


def _facts(report: Report) -> list[tuple[str, str, str]]:
    facts = [
        ("rows aligned", as_count(report.alignment.samples), ""),
        ("bytes that crossed", as_bytes(report.traffic.bytes), ""),
        ("time", as_seconds(report.seconds), ""),
    ]
    gain = report.uplift.over_label_party_alone
    if gain is not None:
        interval = f"{as_difference(gain.low)} to {as_difference(gain.high)}"
        remark = f"{interval} ({as_percent(gain.level, 0)})"
        facts.insert(0, ("AUC gained", as_difference(gain.mean), remark))
    return facts
