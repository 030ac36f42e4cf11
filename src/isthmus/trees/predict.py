"""Predictions of a model of trees, for the label party alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.errors import DataError, JobError
from isthmus.link import checks
from isthmus.session import Session
from isthmus.trees import wire
from isthmus.trees.losses import loss_of
from isthmus.trees.model import Node, TreeModel
from isthmus.trees.paths import answer, walked

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_MOST_PIECE = 1 << 14
"""Rows at a time."""
_BITS = 1 << 25
"""Rows times cuts at a time."""
_MOST_ROWS = (1 << 31) - 1


def predict(
    session: Session, model: TreeModel, table: pl.DataFrame | None, *, paths: bool = False
) -> Floats | None:
    """The expected labels; every party calls it at the same time with the same rows.

    Each feature party sends a bit for each row and each of its cuts: the side of the row. So the
    label party learns the side of every row at every cut, also at those that the row never comes
    to, which with many cuts is about the bin of each of its values; feature parties learn nothing.
    With `paths` (`isthmus.trees.paths`) the label party learns the sides on a row's paths alone,
    and feature parties which rows come to each of their cuts, as both do in fitting.

    Args:
        session: as for `fit`.
        model: the own part.
        table: the own columns; None at a label party of whose columns there are no cuts.
        paths: ask for the sides on each row's paths alone, in up to `depth` rounds; the same at
            every party.

    Returns:
        At the label party the probabilities of label 1, means, or with `multiclass` the classes'
        probabilities, float64 `[rows]` or `[rows, classes]`; None at the others.

    Raises:
        DataError: the own table cannot be used, or the parties have different rows.
        JobError: the model is of other parties.
        BadMessage: a partner did not keep to the protocol.
    """
    if not session.is_label_party:
        if model.trees:
            raise JobError(f"{session.me} came with the label party's part of the model")
        _answer(session, model, table, paths)
        return None
    table = None if table is None or not table.width else table
    partners = model.parties[1:]
    if not model.trees or partners != session.feature_parties:
        raise JobError(
            f"the model is of {', '.join(model.parties)}, not of the session's parties",
            mend="Predict with the parties that fitted it, and each with its own part.",
        )
    rows = _agreed_rows(session, model, table, paths)
    parts: list[Floats] = []
    piece = _piece(session, model)
    links = [session.link(name) for name in partners]
    for start in range(0, rows, piece):
        count = min(piece, rows - start)
        own = model.sides(None if table is None else table.slice(start, count))
        if paths:
            values = walked(model, links, own, count)
        else:
            heard = [_heard(session, model, number + 1, count) for number in range(len(partners))]
            values = np.stack([_walk(tree, [own, *heard], count) for tree in model.trees])
        # As they come: how many there are may be a partner's word alone.
        out = np.tile(np.array(model.start), (count, 1))
        for number, each in enumerate(values):
            out[:, number % out.shape[1]] += each
        parts.append(loss_of(model.options).mean(out))
    return np.concatenate(parts) if parts else loss_of(model.options).mean(_none(model))


def _none(model: TreeModel) -> Floats:
    return np.empty((0, len(model.start)), dtype=np.float64)


def _answer(session: Session, model: TreeModel, table: pl.DataFrame | None, paths: bool) -> None:
    if table is None:
        raise DataError(f"{session.me} came without columns")
    header = {"rows": table.height, "cuts": len(model.cuts), "paths": paths}
    session.hub.send("trees.predict", header=header)
    message = wire.hear(session.hub, "trees.pieces")
    piece = checks.whole(session.hub, message, "rows", 1, _MOST_PIECE)
    for start in range(0, table.height, piece):
        sides = model.sides(table.slice(start, piece))
        if paths:
            answer(session.hub, sides)
            continue
        session.hub.send("trees.bits", {"left": np.packbits(sides, axis=1, bitorder="little")})


def _agreed_rows(
    session: Session, model: TreeModel, table: pl.DataFrame | None, paths: bool
) -> int:
    rows = None if table is None else table.height
    if table is None and model.cuts:
        raise DataError(f"{session.me} came without columns, and the model has some")
    for number, name in enumerate(model.parties[1:]):
        link = session.link(name)
        message = wire.hear(link, "trees.predict")
        theirs = checks.whole(link, message, "rows", 0, _MOST_ROWS)
        cuts = checks.whole(link, message, "cuts", 0, _MOST_ROWS)
        if rows is not None and theirs != rows:
            raise DataError(f"{name} comes with {theirs} rows, others with {rows}")
        if cuts != _cuts(model, number + 1):
            raise JobError(f"{name} holds its part of another model")
        if message.header.get("paths") is not paths:
            raise JobError(f"{name} and {session.me} differ in paths")
        rows = theirs
    if rows is None:
        raise DataError("there is no table to predict")
    return rows


def _piece(session: Session, model: TreeModel) -> int:
    """Rows at a time, as told to the partners: fewer where there are very many cuts."""
    cuts = sum(_cuts(model, party) for party in range(len(model.parties)))
    piece = max(1, min(_MOST_PIECE, _BITS // max(1, cuts)))
    for link in session.links.values():
        link.send("trees.pieces", header={"rows": piece})
    return piece


def _heard(session: Session, model: TreeModel, party: int, count: int) -> Bools:
    link, cuts = session.link(model.parties[party]), _cuts(model, party)
    message = wire.hear(link, "trees.bits")
    (left,) = wire.take(link, message, {"left": (np.uint8, (cuts, wire.packed_bytes(count)))})
    return wire.unpacked_rows(link, message, left, count)


def _cuts(model: TreeModel, party: int) -> int:
    """How many cuts a party has."""
    return sum(node.party == party for tree in model.trees for node in tree)


def _walk(tree: Sequence[Node], sides: Sequence[Bools], count: int) -> Floats:
    """The value of the leaf that each row comes to, float64 `[count]`."""
    out = np.empty(count, dtype=np.float64)
    rows = {0: np.arange(count)}
    for number, node in enumerate(tree):
        here = rows.pop(number)
        if node.party < 0:
            out[here] = node.value
        else:
            left = sides[node.party][node.cut, here]
            rows[node.left], rows[node.left + 1] = here[left], here[~left]
    return out
