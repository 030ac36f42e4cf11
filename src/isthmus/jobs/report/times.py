"""Where the time went, as a table whose numbers add up as they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.jobs.report.model import Phase, Report

POOLED = "pooled"
"""The phase that comes after the job and is no part of it: only a rehearsal has it."""


@dataclass(frozen=True, slots=True)
class TimeRow:
    """One phase as it is shown."""

    name: str
    seconds: str
    share: str
    fraction: float
    """The same as a number, for the bar."""


@dataclass(frozen=True, slots=True)
class TimeTable:
    """The phases of the job, their sum, and what came after it."""

    rows: tuple[TimeRow, ...]
    total: str
    apart: str
    """Seconds of the pooled model; empty where there is none."""


def time_table(report: Report) -> TimeTable:
    """The phases of `report`; what lies between them is a row of its own."""
    phases = [phase for phase in report.phases if phase.name != POOLED]
    rest = report.seconds - sum(phase.seconds for phase in phases)
    digits = 2 if report.seconds < 100 else 1
    if round(rest, digits) > 0:
        phases.append(Phase(name="between the phases", seconds=rest))
    # The total is of the numbers as they stand, so that a reader's own sum agrees.
    shown = [round(phase.seconds, digits) for phase in phases]
    total = sum(shown)
    percents = shares(shown)
    return TimeTable(
        rows=tuple(
            TimeRow(phase.name, f"{seconds:,.{digits}f}", f"{percent}%", seconds / (total or 1.0))
            for phase, seconds, percent in zip(phases, shown, percents, strict=True)
        ),
        total=f"{total:,.{digits}f}",
        apart=", ".join(f"{p.seconds:,.{digits}f}" for p in report.phases if p.name == POOLED),
    )


def shares(amounts: Sequence[float]) -> list[int]:
    """Whole per cents that add up to 100 (largest remainders); all 0 where there is nothing."""
    total = sum(amounts)
    if not total:
        return [0] * len(amounts)
    exact = [100 * amount / total for amount in amounts]
    whole = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda at: whole[at] - exact[at])
    for at in order[: 100 - sum(whole)]:
        whole[at] += 1
    return whole
