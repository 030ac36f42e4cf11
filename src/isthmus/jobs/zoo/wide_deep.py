"""Wide & Deep in a job, see `isthmus.models.wide_deep`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.wide_deep import WideDeepBottom, WideDeepTop


def _bottom(build: Build, layout: Layout) -> WideDeepBottom:
    model = build.model
    return WideDeepBottom(
        layout,
        dim=model.dim,
        hidden=model.bottom,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=build.seed("bottom"),
    )


def _top(build: Build, parties: Sequence[str]) -> WideDeepTop:
    model = build.model
    return WideDeepTop(
        dict.fromkeys(parties, model.bottom[-1]),
        hidden=model.top,
        dropout=model.dropout,
        seed=build.seed("top"),
    )


FAMILY = Family(_bottom, _top, sums=("first",))
