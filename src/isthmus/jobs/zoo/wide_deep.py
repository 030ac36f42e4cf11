"""Wide & Deep in a job, see `isthmus.models.wide_deep`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.wide_deep import WideDeepBottom, WideDeepTop


def _bottom(build: Build, layout: Layout) -> WideDeepBottom:
    return WideDeepBottom(layout, build.bottom)


def _top(build: Build, parties: Sequence[str]) -> WideDeepTop:
    return WideDeepTop(build.widths(parties), build.top)


FAMILY = Family(_bottom, _top, sums=("first",))
