"""MMoE in a job, see `isthmus.models.mmoe`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.spec import ExpertsSpec
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.mmoe import MmoeBottom, MmoeTop


def _bottom(build: Build, layout: Layout) -> MmoeBottom:
    model, experts = build.model, _experts(build)
    return MmoeBottom(
        layout,
        dim=model.dim,
        hidden=model.bottom,
        experts=experts.bottom,
        width=experts.width,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=build.seed("bottom"),
    )


def _top(build: Build, parties: Sequence[str]) -> MmoeTop:
    model, experts = build.model, _experts(build)
    return MmoeTop(
        dict.fromkeys(parties, model.bottom[-1]),
        tasks=build.tasks,
        dim=model.dim,
        hidden=model.top,
        experts=experts.bottom,
        shared=experts.shared,
        own=experts.own,
        width=experts.width,
        dropout=model.dropout,
        seed=build.seed("top"),
    )


def _experts(build: Build) -> ExpertsSpec:
    assert build.model.experts is not None
    return build.model.experts


FAMILY = Family(_bottom, _top, sums=("sum", "first", "experts"), many=True)
