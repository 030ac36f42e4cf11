"""The label party's side of boosted trees, with or without partners; the protocol is in `fit`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from isthmus.crypto.onehot import Layout
from isthmus.errors import BadMessage, DataError
from isthmus.link import Link, Message, checks
from isthmus.session import Session
from isthmus.trees import wire
from isthmus.trees.binning import fit_bins
from isthmus.trees.boosting import Boosting, Target
from isthmus.trees.checkpoint import FOLDER, Checkpoints, Point, fingerprint
from isthmus.trees.model import TreeModel
from isthmus.trees.options import TreeOptions
from isthmus.trees.setup import as_dealer
from isthmus.trees.shape import BinShape
from isthmus.trees.sources import OwnColumns, PartnerColumns

_MOST_POINTS = 100
_MOST_RHO = 1e300


@dataclass(frozen=True)
class Keeping:
    """When checkpoints are written."""

    seconds: float = 30.0
    """At least between two; 0: after every round."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; only differences are used."""


def fit_as_label(
    session: Session,
    table: pl.DataFrame | None,
    target: Target,
    options: TreeOptions,
    keeping: Keeping,
) -> TreeModel:
    """See `fit`."""
    rows, learnt = len(target.labels), ~target.valid
    agreed = options.agreed() | {"rows": rows}
    for link in session.links.values():
        link.send("trees.hello", {"learnt": wire.packed(learnt)}, {"agreed": agreed})
    given = pl.DataFrame() if table is None else table
    bins = fit_bins(given, learnt, options.bins, options.min_rows)
    codes = np.empty((rows, len(bins)), dtype=np.int16)
    for place, one in enumerate(bins):
        codes[:, place] = one.codes(given)
    own = OwnColumns(codes, bins, options.min_rows)
    columns = _columns(session, agreed, options)
    if not bins and not columns:
        raise DataError(f"no column has two bins of {options.min_rows} rows or more")
    facts = {
        "agreed": agreed,
        "seed": session.seed,
        "parties": session.parties,
        "bins": [asdict(one) for one in bins],
        "columns": [asdict(one.shape) for one in columns],
    }
    kept = _kept(session, facts, [codes, target.labels, target.weights, target.valid])
    point = _begin(session, kept, columns)
    partners, places = [], np.cumsum(learnt) - 1
    for number, told in enumerate(columns, start=1):
        link, shape = session.link(told.party), told.shape
        dealer = as_dealer(link, Layout(shape.widths), int(learnt.sum()))
        partners.append(PartnerColumns(link, number, dealer, places, shape, options, rho=told.rho))
    boosting = Boosting(session, own, partners, target, options)
    _boost(session, boosting, kept, point, keeping, options)
    cuts = boosting.end()
    return TreeModel(
        options=options,
        parties=(session.me, *(partner.link.partner for partner in partners)),
        bins=bins,
        cuts=tuple(own.made[: cuts[0]]),
        trees=tuple(boosting.trees),
        start=tuple(boosting.start.tolist()),
        losses=tuple(boosting.losses),
        valid_losses=tuple(boosting.valid_losses),
        rho=max((partner.rho for partner in partners), default=0.0),
    )


@dataclass(frozen=True)
class _Told:
    """What a partner said before the set-up."""

    party: str
    shape: BinShape
    points: tuple[Point, ...]
    rho: float
    """What its noisy sums have cost before, in a run of this fit that was stopped."""


def _columns(session: Session, agreed: dict[str, object], options: TreeOptions) -> list[_Told]:
    for link in session.links.values():
        hello = wire.hear(link, "trees.hello")
        checks.same(link, hello, agreed)
        wire.take(link, hello, {})
    told = []
    for name in session.feature_parties:
        link = session.link(name)
        message = wire.hear(link, "trees.columns")
        shape, points = _shape(link, message, options), _points(link, message)
        told.append(_Told(name, shape, points, _rho(link, message)))
    return told


def _points(link: Link, message: Message) -> tuple[Point, ...]:
    given = message.header.get("resumable")
    points = [Point.of(one) for one in given] if isinstance(given, list) else [None]
    if None in points or len(points) > _MOST_POINTS:
        raise BadMessage(f"{link.partner} did not say which checkpoints it has")
    return tuple(point for point in points if point is not None)


def _rho(link: Link, message: Message) -> float:
    given = message.header.get("rho")
    if type(given) is not float or not 0.0 <= given < _MOST_RHO:
        raise BadMessage(f"{link.partner} did not say what its noise has cost")
    return given


def _kept(
    session: Session, facts: dict[str, object], arrays: Sequence[np.ndarray[Any, Any]]
) -> Checkpoints:
    if session.folder is None:
        return Checkpoints(None, "")
    return Checkpoints(session.folder / FOLDER, fingerprint(facts, arrays))


def _begin(session: Session, kept: Checkpoints, columns: Sequence[_Told]) -> Point:
    """Agree on where to go on from: our last checkpoint of which no partner has less.

    A partner can go back from any later round to it, since its cuts have the numbers of trees.
    """
    fitting = [
        point
        for point in kept.points()
        if all(any(p.run == point.run and p >= point for p in one.points) for one in columns)
    ]
    point = fitting[-1] if fitting else Point(0, secrets.token_hex(8))
    for link in session.links.values():
        link.send("trees.begin", header={"from": point.told()})
    return point


def _boost(
    session: Session,
    boosting: Boosting,
    kept: Checkpoints,
    point: Point,
    keeping: Keeping,
    options: TreeOptions,
) -> None:
    """Make the rounds that there are not yet."""
    if point.rounds:
        found = kept.load(point)
        boosting.load_state(found.arrays, found.facts)
    kept.clear(after=point)
    saved = keeping.clock()
    each = options.trees_a_round
    with session.progress.task("fit", options.trees * each) as task:
        if point.rounds:
            session.progress.say(f"continuing after round {point.rounds}")
            task.advance(point.rounds * each)
        while not boosting.settled():
            boosting.round(boosting.rounds)
            task.advance(each)
            if boosting.noteworthy():
                task.note(boosting.note())
            due = keeping.clock() - saved >= keeping.seconds
            if kept.folder is not None and due and not boosting.settled():
                _keep(session, boosting, kept, Point(boosting.rounds, point.run))
                saved = keeping.clock()


def _keep(session: Session, boosting: Boosting, kept: Checkpoints, point: Point) -> None:
    """First the partners, then we: so none has less than we."""
    for link in session.links.values():
        link.send("trees.tree", header={"keep": point.rounds})
    for link in session.links.values():
        wire.take(link, wire.hear(link, "trees.kept"), {})
    kept.save(point, *boosting.state())


def _shape(link: Link, message: Message, options: TreeOptions) -> BinShape:
    """A partner's columns. Raises BadMessage."""
    count = message.tensors["values"].size if "values" in message.tensors else 0
    if not 0 < count <= wire.MOST_COLUMNS:
        raise BadMessage(f"{link.partner} sent {message.topic} with {count} columns")
    values, missing = wire.take(
        link, message, {"values": (np.int64, (count,)), "missing": (np.bool_, (count,))}
    )
    if (values + missing < 2).any() or (values < 1).any() or (values > options.bins).any():
        raise BadMessage(f"{link.partner} sent {message.topic} with bins that cannot be")
    return BinShape(tuple(values.tolist()), tuple(missing.tolist()))
