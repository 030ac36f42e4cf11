"""MovieLens for the zoo's benchmarks: read, cut, encoded for two parties, with histories."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.movielens_split import FEATURE_PARTY, FILM_FEATURES, LABEL_PARTY, USER_FEATURES
from isthmus.data import Encoder, Features, Split, fit_encoder, split_samples
from isthmus.data.build_history import build_history
from isthmus.data.encoder import shared_values
from isthmus.data.event_tables import read_events

CUT = (0.8, 0.1, 0.1)
FRACTIONS = dict(zip(("train", "valid", "test"), CUT, strict=True))
CANDIDATE, OWNER = "MovieID", "UserID"

Wanted = tuple[str, str, int, bool]
"""Of a history: name, condition, length, and whether it shares the candidate's rows."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a MovieLens data set; a sample is a rating."""

    users: pl.DataFrame
    events: pl.DataFrame
    """The ratings, each with its film's columns."""
    rows: np.ndarray
    """int64 [ratings], the row of `users` that each rating belongs to."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A party's columns, and what encoded them."""

    encoder: Encoder
    features: Features


@dataclass(frozen=True, eq=False)
class Inputs:
    """Both parties' encoded columns, fitted on the seed's training rows."""

    features: Mapping[str, Features]
    ratings: pl.DataFrame
    """What the labels are made of, by sample."""
    split: Split


@functools.lru_cache(maxsize=1)
def inputs_of(source: Path, histories: tuple[Wanted, ...], seed: int) -> Inputs:
    """Read, cut at random and encode, with `histories` at the label party."""
    tables = read_tables(source)
    events = tables.events
    split = split_samples(len(events), seed, CUT)
    encoded = encode(tables, split)
    # A held-out rating may be in no history, nor what it was.
    allowed = np.zeros(len(events), dtype=np.bool_)
    allowed[split.train] = True
    features = {party: one.features for party, one in encoded.items()}
    features[LABEL_PARTY] = with_histories(
        encoded[LABEL_PARTY], events, histories, split, time=time_of(events), allowed=allowed
    )
    return Inputs(features, events.select("Rating"), split)


def read_tables(source: Path) -> Tables:
    """Read the canonical tables in the folder `source`."""
    users, films, ratings = (
        pl.read_parquet(source / f"{name}.parquet") for name in ("users", "movies", "ratings")
    )
    events = ratings.join(films, on=CANDIDATE, how="left", maintain_order="left")
    numbered = users.select(OWNER).with_row_index("row")
    joined = events.join(numbered, on=OWNER, how="left", maintain_order="left")
    return Tables(users, events, joined["row"].to_numpy().astype(np.int64))


def time_of(ratings: pl.DataFrame) -> str:
    """The column that says which of somebody's ratings was earlier."""
    # Half of ML-1M has no timestamp, but everybody's ratings are in their order.
    return "Position" if "Position" in ratings.columns else "Timestamp"


def encode(tables: Tables, split: Split) -> dict[str, Encoded]:
    """Both parties' columns but for histories, fitted on the training rows."""
    users = fit_encoder(tables.users, USER_FEATURES, np.unique(tables.rows[split.train]))
    films = fit_encoder(tables.events, FILM_FEATURES, split.train)
    return {
        FEATURE_PARTY: Encoded(users, users.encode(tables.users).with_rows(tables.rows)),
        LABEL_PARTY: Encoded(films, films.encode(tables.events)),
    }


def with_histories(
    encoded: Encoded,
    events: pl.DataFrame,
    histories: Sequence[Wanted],
    split: Split,
    *,
    time: str,
    allowed: np.ndarray | None = None,
) -> Features:
    """A party's features with the films that the rater rated before each rating.

    Args:
        encoded: of the party.
        events: the ratings.
        histories: which of them to take.
        split: a vocabulary holds what stands in histories of training rows.
        time: the column of `events` that orders them.
        allowed: bool [ratings], which of them may stand in a history; None for all.
    """
    encoder = encoded.encoder
    at = events[time].to_numpy().astype(np.float64)
    fields = {field.name: field for field in encoder.fields}
    built = []
    for name, where, length, shares in histories:
        earlier, owner = read_events(
            events, events[OWNER], of=CANDIDATE, by=OWNER, time=time, where=where, allowed=allowed
        )
        shared = (CANDIDATE, shared_values(fields, CANDIDATE)) if shares else None
        built.append(
            build_history(name, earlier, owner, at, split.train, length=length, shared=shared)
        )
    layout = replace(encoder, histories=tuple(one.field for one in built)).layout
    placed = tuple(one.placed(layout.field(one.field.name).first_row) for one in built)
    return replace(encoded.features, layout=layout, histories=placed)
