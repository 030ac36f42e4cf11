"""AutoInt in a job, see `isthmus.models.autoint`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.autoint import AutoIntBottom, AutoIntTop


def _bottom(build: Build, layout: Layout) -> AutoIntBottom:
    attention = build.attention
    return AutoIntBottom(
        layout,
        build.bottom,
        heads=attention.heads,
        layers=attention.layers,
        width=attention.width,
        tokens=attention.tokens,
    )


def _top(build: Build, parties: Sequence[str]) -> AutoIntTop:
    attention = build.attention
    return AutoIntTop(
        build.widths(parties),
        build.top,
        heads=attention.heads,
        layers=attention.layers,
        width=attention.width,
        tokens=attention.tokens,
    )


# A party's tokens are no sum, and which of them stand for what is learnt for each party.
FAMILY = Family(_bottom, _top, aggregates=False, heads_share="attention.width")
