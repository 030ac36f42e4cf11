"""DCN-V2 in a job, see `isthmus.models.dcn`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.spec import CrossSpec
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.dcn import DcnBottom, DcnTop


def _bottom(build: Build, layout: Layout) -> DcnBottom:
    cross = _cross(build)
    return DcnBottom(layout, build.bottom, layers=cross.layers, rank=cross.rank)


def _top(build: Build, parties: Sequence[str]) -> DcnTop:
    cross = _cross(build)
    return DcnTop(build.widths(parties), build.top, layers=cross.layers, rank=cross.rank)


def _cross(build: Build) -> CrossSpec:
    assert build.model.cross is not None
    return build.model.cross


FAMILY = Family(_bottom, _top, sums=("cross", "first"))
