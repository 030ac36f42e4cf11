"""DCN-V2 in a job, see `isthmus.models.dcn`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.spec import CrossSpec
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.dcn import DcnBottom, DcnTop


def _bottom(build: Build, layout: Layout) -> DcnBottom:
    model, cross = build.model, _cross(build)
    return DcnBottom(
        layout,
        dim=model.dim,
        hidden=model.bottom,
        layers=cross.layers,
        rank=cross.rank,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=build.seed("bottom"),
    )


def _top(build: Build, parties: Sequence[str]) -> DcnTop:
    model, cross = build.model, _cross(build)
    return DcnTop(
        dict.fromkeys(parties, model.bottom[-1]),
        hidden=model.top,
        layers=cross.layers,
        rank=cross.rank,
        dropout=model.dropout,
        seed=build.seed("top"),
    )


def _cross(build: Build) -> CrossSpec:
    assert build.model.cross is not None
    return build.model.cross


FAMILY = Family(_bottom, _top, sums=("cross", "first"))
