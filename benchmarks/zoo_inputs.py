"""MovieLens with histories for the benchmarks of the zoo: a random cut, encoded for two parties."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.movielens_split import FEATURE_PARTY, FILM_FEATURES, LABEL_PARTY, USER_FEATURES
from isthmus.data import Features, Split, fit_encoder, parse_features, split_samples
from isthmus.data.build_history import build_history
from isthmus.data.encoder import shared_values
from isthmus.data.event_tables import read_events

FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}


@dataclass(frozen=True, eq=False)
class Inputs:
    """Both parties' encoded columns, fitted on the seed's training rows."""

    features: Mapping[str, Features]
    ratings: pl.DataFrame
    """What the labels are made of, by sample."""
    split: Split


@functools.lru_cache(maxsize=1)
def inputs_of(source: Path, histories: tuple[tuple[str, str, int, bool], ...], seed: int) -> Inputs:
    """Read, cut and encode; `histories` are name, condition, length and whether it shares."""
    users, films, ratings = (
        pl.read_parquet(source / f"{name}.parquet") for name in ("users", "movies", "ratings")
    )
    # Half of ML-1M has no timestamp, but everybody's ratings are in their order.
    order = "Position" if "Position" in ratings.columns else "Timestamp"
    events = ratings.join(films, on="MovieID", how="left", maintain_order="left")
    events = events.rename({order: "Time"})
    numbered = users.select("UserID").with_row_index("row")
    joined = events.join(numbered, on="UserID", how="left", maintain_order="left")
    rows = joined["row"].to_numpy().astype(np.int64)
    split = split_samples(len(events), seed, tuple(FRACTIONS.values()))
    user_encoder = fit_encoder(users, USER_FEATURES, np.unique(rows[split.train]))
    return Inputs(
        {
            FEATURE_PARTY: user_encoder.encode(users).with_rows(rows),
            LABEL_PARTY: _film_features(events, split, histories),
        },
        events.select("Rating"),
        split,
    )


def _film_features(
    events: pl.DataFrame, split: Split, histories: Sequence[tuple[str, str, int, bool]]
) -> Features:
    encoder = fit_encoder(events, parse_features(FILM_FEATURES), split.train)
    # A held-out rating may be in no history, nor what it was.
    allowed = np.zeros(len(events), dtype=np.bool_)
    allowed[split.train] = True
    at = events["Time"].to_numpy().astype(np.float64)
    fields = {one.name: one for one in encoder.fields}
    built = []
    for name, where, length, shares in histories:
        earlier, owner = read_events(
            events,
            events["UserID"],
            of="MovieID",
            by="UserID",
            time="Time",
            where=where,
            allowed=allowed,
        )
        shared = ("MovieID", shared_values(fields, "MovieID")) if shares else None
        built.append(
            build_history(name, earlier, owner, at, split.train, length=length, shared=shared)
        )
    layout = replace(encoder, histories=tuple(one.field for one in built)).layout
    placed = tuple(one.placed(layout.field(one.field.name).first_row) for one in built)
    return replace(encoder.encode(events), layout=layout, histories=placed)
