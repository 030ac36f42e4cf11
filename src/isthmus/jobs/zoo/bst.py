"""BST in a job, see `isthmus.models.bst`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.jobs.zoo.family import Build, Family
from isthmus.jobs.zoo.histories import history_bottom, history_top
from isthmus.models.bst import Bst
from isthmus.models.histories import HistoryBottom, HistoryTop


def _style(build: Build) -> Bst:
    model, about = build.model, build.attention
    return Bst(
        dim=model.dim,
        heads=about.heads,
        layers=about.layers,
        dropout=model.dropout,
        encoder=about.encoder,
        std=model.embedding_std,
        tokens=about.tokens,
        sent=about.history == "sent",
        hidden=about.width,
    )


def _bottom(build: Build, layout: Layout) -> HistoryBottom:
    return history_bottom(build, layout, _style(build))


def _top(build: Build, parties: Sequence[str]) -> HistoryTop:
    return history_top(build, parties, _style(build))


FAMILY = Family(_bottom, _top, aggregates=False, positions=True, heads_share="dim", score_batch=512)
