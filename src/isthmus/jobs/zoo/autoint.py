"""AutoInt in a job, see `isthmus.models.autoint`."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.errors import JobError
from isthmus.jobs.spec import AttentionSpec
from isthmus.jobs.zoo.family import Build, Family
from isthmus.models.autoint import AutoIntBottom, AutoIntTop


def _bottom(build: Build, layout: Layout) -> AutoIntBottom:
    model, attention = build.model, _attention(build)
    return AutoIntBottom(
        layout,
        dim=model.dim,
        hidden=model.bottom,
        heads=attention.heads,
        layers=attention.layers,
        width=attention.width,
        tokens=attention.tokens,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=build.seed("bottom"),
    )


def _top(build: Build, parties: Sequence[str]) -> AutoIntTop:
    model, attention = build.model, _attention(build)
    return AutoIntTop(
        dict.fromkeys(parties, model.bottom[-1]),
        hidden=model.top,
        heads=attention.heads,
        layers=attention.layers,
        width=attention.width,
        tokens=attention.tokens,
        dropout=model.dropout,
        seed=build.seed("top"),
    )


def _attention(build: Build) -> AttentionSpec:
    """What the job says of attention.

    Raises:
        JobError: the heads cannot share the width out among them.
    """
    attention = build.model.attention
    assert attention is not None
    if attention.width % attention.heads:
        raise JobError(
            f"train.model.attention: a width of {attention.width} cannot be shared out to "
            f"{attention.heads} heads",
            mend="Take a width that is a multiple of heads.",
        )
    return attention


# A party's tokens are no sum, and which of them stand for what is learnt for each party.
FAMILY = Family(_bottom, _top, aggregates=False)
