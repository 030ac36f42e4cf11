"""Which party has which histories, and who has their candidates: from the job file alone.

Bottom and top are built at different parties and must agree; what both know is the spec.
"""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.data.features import Layout
from isthmus.errors import JobError
from isthmus.jobs.zoo.family import Build
from isthmus.models.histories import History, HistoryBottom, HistoryTop, Side, Style


def side_of(build: Build, party: str) -> Side:
    """What `party`'s bottom gives in this session.

    Raises:
        JobError: a history has no candidate that it could be compared with.
    """
    label = build.spec.label.party
    histories = _histories(build, party)
    apart = [h for other in build.parties for h in _histories(build, other) if not h.candidate]
    candidate = _candidate(build) if apart else None
    return Side(histories, candidate if party == label else None)


def history_bottom(build: Build, layout: Layout, style: Style) -> HistoryBottom:
    """This party's bottom.

    Raises:
        JobError: see `side_of`.
    """
    model = build.model
    return HistoryBottom(
        layout,
        side_of(build, build.session.me),
        style,
        hidden=model.bottom,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=build.seed("bottom"),
    )


def history_top(build: Build, parties: Sequence[str], style: Style) -> HistoryTop:
    """The top over `parties`.

    Raises:
        JobError: see `side_of`.
    """
    model = build.model
    return HistoryTop(
        build.widths(parties),
        {party: side_of(build, party) for party in parties},
        style,
        hidden=model.top,
        dropout=model.dropout,
        seed=build.seed("top"),
    )


def _histories(build: Build, party: str) -> tuple[History, ...]:
    given = build.spec.parties[party].features or {}
    at_label = party == build.spec.label.party
    return tuple(
        History(name, feature.length, feature.share or (_candidate(build) if at_label else None))
        for name, feature in given.items()
        if feature.kind == "sequence"
    )


def _candidate(build: Build) -> str:
    """The label party's column of items.

    Raises:
        JobError: the job names none, or one that is not a categorical feature there.
    """
    label, name = build.spec.label.party, build.attention.candidate
    if name is None:
        raise JobError(
            "train.model.attention.candidate is missing: a history is compared with an item, and "
            "there is a history that shares no field of its own party",
            mend=f"Name {label}'s column of items there, or give the sequence a `share`.",
        )
    feature = (build.spec.parties[label].features or {}).get(name)
    if feature is None or feature.kind != "categorical":
        raise JobError(
            f"train.model.attention.candidate: {name!r} is not a categorical feature of {label}",
            mend=f"Name {label}'s column of items.",
        )
    return name
