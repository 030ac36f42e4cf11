"""DIN in a job, see `isthmus.models.din`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.zoo.family import Build, Family
from isthmus.jobs.zoo.histories import history_bottom, history_top
from isthmus.models.din import Din
from isthmus.models.histories import HistoryBottom, HistoryTop


def _style(build: Build) -> Din:
    about = build.attention
    sent = about.history == "sent"
    return Din(dim=build.model.dim, tokens=about.tokens, sent=sent, hidden=about.width)


def _bottom(build: Build, layout: Layout) -> HistoryBottom:
    return history_bottom(build, layout, _style(build))


def _top(build: Build, parties: Sequence[str]) -> HistoryTop:
    return history_top(build, parties, _style(build))


FAMILY = Family(_bottom, _top, aggregates=False, positions=True, score_batch=1024)
