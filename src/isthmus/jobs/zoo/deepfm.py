"""DeepFM in a job, see `isthmus.models.deepfm`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models import DeepFMBottom, DeepFMTop


def _bottom(build: Build, layout: Layout) -> DeepFMBottom:
    model = build.model
    return DeepFMBottom(
        layout,
        dim=model.dim,
        hidden=model.bottom,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=build.seed("bottom"),
    )


def _top(build: Build, parties: Sequence[str]) -> DeepFMTop:
    model = build.model
    return DeepFMTop(
        build.widths(parties),
        dim=model.dim,
        hidden=model.top,
        dropout=model.dropout,
        seed=build.seed("top"),
    )


FAMILY = Family(_bottom, _top, sums=("sum", "first"))
