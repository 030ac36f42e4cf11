"""Predictions that ask a partner for the side of a row at those of its cuts alone that it comes to.

For a piece of rows L walks all trees at once as far as its own columns take it, and asks each
partner B about the rows that wait at B's cuts; B's answers take them on. At most `depth` times::

    L -> B   trees.ask    cuts of B's, each once, and for each the rows, a bit for each of the piece
    B -> L   trees.told   for these rows, cut by cut, whether they go left
    at last
    L -> B   trees.ask    no cuts

L so learns the sides that a row's paths take, and B which rows come to each of its cuts, as both
did in fitting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.trees import wire
from isthmus.trees.model import TreeModel

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Waiting:
    """Rows of the piece at one node."""

    tree: int
    node: int
    rows: npt.NDArray[np.int64]


def walked(model: TreeModel, links: Sequence[Link], own: Bools, count: int) -> Floats:
    """What each tree adds to each row's score, float64 `[trees, count]`, at the label party.

    Args:
        model: the label party's part.
        links: to its partners, in the model's order.
        own: sides at the own cuts, bool `[cuts, count]`.
        count: rows of the piece.

    Raises:
        BadMessage: a partner did not keep to the protocol.
    """
    values = np.empty((len(model.trees), count), dtype=np.float64)
    here = [_Waiting(tree, 0, np.arange(count)) for tree in range(len(model.trees))]
    while any(asked := _moved(model, here, own, values)):
        for link, some in zip(links, asked, strict=True):
            if some:
                _ask(model, link, some, count)
        here = [
            one
            for link, some in zip(links, asked, strict=True)
            if some
            for one in _told(model, link, some)
        ]
    for link in links:
        _ask(model, link, [], count)
    return values


def answer(link: Link, sides: Bools) -> None:
    """A feature party's side of one piece.

    Args:
        link: to the label party.
        sides: of its own cuts, bool `[cuts, rows of the piece]`.

    Raises:
        BadMessage: the label party did not keep to the protocol.
    """
    while True:
        message = wire.hear(link, "trees.ask")
        count = message.tensors["cuts"].size if "cuts" in message.tensors else 0
        width = wire.packed_bytes(sides.shape[1])
        cuts, packed = wire.take(
            link, message, {"cuts": (np.int64, (count,)), "rows": (np.uint8, (count, width))}
        )
        if not count:
            return
        if cuts.min() < 0 or cuts.max() >= len(sides) or len(np.unique(cuts)) < count:
            raise BadMessage(f"{link.partner} asked for cuts that there are not, or twice")
        rows = wire.unpacked_rows(link, message, packed, sides.shape[1])
        link.send("trees.told", {"left": wire.packed(sides[cuts][rows])})


def _moved(
    model: TreeModel, here: list[_Waiting], own: Bools, values: Floats
) -> list[list[_Waiting]]:
    """Take rows on as far as it goes without partners; those that wait at a cut of each."""
    asked: list[list[_Waiting]] = [[] for _ in model.parties[1:]]
    while here:
        one = here.pop()
        node = model.trees[one.tree][one.node]
        if node.party < 0:
            values[one.tree, one.rows] = node.value
        elif not len(one.rows):
            continue
        elif node.party:
            asked[node.party - 1].append(one)
        else:
            here += _children(model, one, own[node.cut, one.rows])
    return asked


def _children(model: TreeModel, one: _Waiting, left: Bools) -> list[_Waiting]:
    child = model.trees[one.tree][one.node].left
    return [
        _Waiting(one.tree, child, one.rows[left]),
        _Waiting(one.tree, child + 1, one.rows[~left]),
    ]


def _ask(model: TreeModel, link: Link, some: list[_Waiting], count: int) -> None:
    rows = np.zeros((len(some), count), dtype=np.bool_)
    for place, one in enumerate(some):
        rows[place, one.rows] = True
    cuts = [model.trees[one.tree][one.node].cut for one in some]
    packed = np.packbits(rows, axis=1, bitorder="little")
    link.send("trees.ask", {"cuts": np.array(cuts, np.int64), "rows": packed})


def _told(model: TreeModel, link: Link, some: list[_Waiting]) -> list[_Waiting]:
    sizes = [len(one.rows) for one in some]
    message = wire.hear(link, "trees.told")
    left = np.split(wire.take_bits(link, message, "left", sum(sizes)), np.cumsum(sizes)[:-1])
    return [
        child for one, side in zip(some, left, strict=True) for child in _children(model, one, side)
    ]
