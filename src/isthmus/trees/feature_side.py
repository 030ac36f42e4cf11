"""A feature party's side of boosted trees; the protocol is in `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from isthmus.crypto.blocks import Words
from isthmus.crypto.onehot import Holder, Layout, Round
from isthmus.errors import BadMessage, DataError
from isthmus.link import Message, checks
from isthmus.session import Session
from isthmus.trees import wire
from isthmus.trees.binning import ColumnBins, fit_bins
from isthmus.trees.checkpoint import FOLDER, Checkpoints, Point, fingerprint
from isthmus.trees.model import TreeModel
from isthmus.trees.nodes import NodeRows
from isthmus.trees.noise import Account, Noise, rho_of_tree
from isthmus.trees.options import TreeOptions
from isthmus.trees.setup import as_holder
from isthmus.trees.shape import Bools, Coded, Cut, Longs
from isthmus.trees.sources import pairs_a_message, rows_a_message, shape_of

_ACCOUNT = "noise.json"


def fit_as_feature(session: Session, table: pl.DataFrame, options: TreeOptions) -> TreeModel:
    """See `fit`."""
    link, rows = session.hub, table.height
    agreed = options.agreed() | {"rows": rows}
    link.send("trees.hello", header={"agreed": agreed})
    hello = wire.hear(link, "trees.hello")
    checks.same(link, hello, agreed)
    learnt = wire.take_bits(link, hello, "learnt", rows)
    if not learnt.any():
        raise BadMessage(f"{link.partner} learns from no row")
    bins = fit_bins(table, learnt, options.bins, options.min_rows)
    if not 0 < len(bins) <= wire.MOST_COLUMNS:
        raise DataError(
            f"{len(bins)} columns have two bins of {options.min_rows} rows or more",
            mend=f"Give from 1 to {wire.MOST_COLUMNS} such columns.",
        )
    codes = np.stack([one.codes(table) for one in bins], axis=1)
    kept = _kept(session, agreed, bins, [codes, learnt])
    side = _Side(session, bins, codes, learnt, options, kept)
    with session.progress.task("fit", options.trees * options.trees_a_round) as task:
        if side.point.rounds:
            session.progress.say(f"continuing after round {side.point.rounds}")
            task.advance(side.point.rounds * options.trees_a_round)
        while side.tree(wire.hear(link, "trees.tree")):
            task.advance()
    return side.model()


def _kept(
    session: Session,
    agreed: dict[str, object],
    bins: Sequence[ColumnBins],
    arrays: Sequence[npt.NDArray[Any]],
) -> Checkpoints:
    if session.folder is None:
        return Checkpoints(None, "")
    facts = {
        "agreed": agreed,
        "parties": [session.me, session.label_party],
        "bins": [asdict(one) for one in bins],
    }
    return Checkpoints(session.folder / FOLDER, fingerprint(facts, arrays))


@dataclass
class _Open:
    """A node that may be split."""

    counts: Longs
    """Rows by bin that the tree learns from, int64 `[total]`."""
    allowed: Bools
    """bool `[2, total]`."""
    ends: Bools
    """The last bins of the groups that are shown, bool `[total]`."""
    share: Words
    """Of its sums by bin, uint64 `[total, 2]`."""


class _Side:
    def __init__(
        self,
        session: Session,
        bins: tuple[ColumnBins, ...],
        codes: npt.NDArray[np.int16],
        learnt: Bools,
        options: TreeOptions,
        kept: Checkpoints,
    ) -> None:
        self._link, self._me, self._options = session.hub, session.me, options
        self._bins, self._codes, self._learnt, self._kept = bins, codes, learnt, kept
        self._all = shape_of(bins)
        points = kept.points()
        path = None if kept.folder is None else kept.folder / _ACCOUNT
        self._account = Account(path, kept.fingerprint)
        self._link.send(
            "trees.columns",
            {
                "values": np.array(self._all.values, np.int64),
                "missing": np.array(self._all.missing, np.bool_),
            },
            {"resumable": [point.told() for point in points], "rho": self._account.rho},
        )
        self._holder: Holder = as_holder(self._link, Layout(self._all.widths), codes[learnt])
        self._places = np.cumsum(learnt) - 1
        """Of the rows among those that are learnt from."""
        self._cuts: list[Cut] = []
        self._noise = Noise(options)
        self._made: list[tuple[int, int]] = []
        """The trees that we had a part in: their number, and our cuts after them."""
        self._last = -1
        self._end = 0
        self.point = self._begun_at(points)

    def model(self) -> TreeModel:
        """What is left of it all."""
        return TreeModel(
            options=self._options,
            parties=(self._me,),
            bins=self._bins,
            cuts=tuple(self._cuts[: self._end]),
            rho=self._account.rho,
        )

    def _begun_at(self, points: Sequence[Point]) -> Point:
        """Go back to where the label party begins. Raises BadMessage."""
        message = wire.hear(self._link, "trees.begin")
        point = Point.of(message.header.get("from"))
        later = [one for one in points if point and one.run == point.run and one >= point]
        if point is None or (point.rounds and not later):
            raise BadMessage(f"{self._link.partner} begins after a round that we do not have")
        if point.rounds:
            arrays = self._kept.load(later[0]).arrays
            self._last = point.rounds * self._options.trees_a_round - 1
            count = int(np.searchsorted(arrays["made"][:, 0], self._last, side="right"))
            self._made = [(tree, cuts) for tree, cuts in arrays["made"][:count].tolist()]
            cuts = arrays["cuts"][: self._made[-1][1] if count else 0].tolist()
            self._cuts = [Cut(column, last, bool(left)) for column, last, left in cuts]
        self._kept.clear(after=point)
        return point

    def _keep(self, rounds: int) -> None:
        """Write a checkpoint: what we would lack to go on."""
        cuts = [(cut.column, cut.bin, cut.missing_left) for cut in self._cuts]
        arrays = {
            "made": np.array(self._made, np.int64).reshape(-1, 2),
            "cuts": np.array(cuts, np.int64).reshape(-1, 3),
        }
        self._kept.save(Point(rounds, self.point.run), arrays, {})
        self._link.send("trees.kept")

    def tree(self, message: Message) -> bool:
        """Take part in a tree, or hear that there is none any more."""
        while "keep" in message.header:
            self._keep(checks.whole(self._link, message, "keep", 1, self._options.trees))
            message = wire.hear(self._link, "trees.tree")
        if message.header.get("done") is True:
            self._end = checks.whole(self._link, message, "cuts", 0, len(self._cuts))
            return False
        used, chosen = self._begun(message)
        columns = tuple(np.flatnonzero(chosen).tolist())
        self._account.spend(rho_of_tree(self._options, len(columns)))
        which = Round(self._last, None if chosen.all() else columns)
        rows = np.flatnonzero(used)
        self._holder.begin(which)
        size = rows_a_message(len(columns))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            numbers = wire.hear(self._link, "trees.numbers")
            shape = (len(some), len(columns), 2)
            (masked,) = wire.take(self._link, numbers, {"masked": (np.uint64, shape)})
            self._holder.take(which, self._places[some], masked)
        _Tree(self, which, columns, used).grow()
        self._made.append((self._last, len(self._cuts)))
        return True

    def _begun(self, message: Message) -> tuple[Bools, Bools]:
        """The rows and the columns of the tree."""
        most = self._options.trees * self._options.trees_a_round - 1
        self._last = checks.whole(self._link, message, "tree", self._last + 1, most)
        rows, columns = len(self._learnt), len(self._all.values)
        used, chosen = wire.take(
            self._link,
            message,
            {
                "used": (np.uint8, (wire.packed_bytes(rows),)),
                "columns": (np.uint8, (wire.packed_bytes(columns),)),
            },
        )
        found = wire.unpacked(self._link, message, used, rows)
        picked = wire.unpacked(self._link, message, chosen, columns)
        if not found.any() or (found & ~self._learnt).any() or not picked.any():
            raise BadMessage(f"{self._link.partner} sent a tree of no rows or columns, or others")
        return found, picked


class _Tree:
    """One tree, as the feature party follows it."""

    def __init__(self, side: _Side, which: Round, columns: Sequence[int], used: Bools) -> None:
        self._link, self._options = side._link, side._options
        self._holder, self._which, self._columns = side._holder, which, columns
        self._places = side._places
        self._cuts, self._noise = side._cuts, side._noise
        self._bits = self._options.bits_for(int(used.sum()))
        self._shape = side._all.picked(columns)
        codes = side._codes if which.columns is None else side._codes[:, list(columns)]
        self._coded = Coded(codes, self._shape)
        self._nodes = NodeRows(used)
        self._open: dict[int, _Open] = {}

    def grow(self) -> None:
        """Send sums and sides as long as nodes are split."""
        rows = self._nodes.learnt(0)
        bins = np.ones(self._shape.total, dtype=np.bool_)
        self._enter({0: (self._coded.counts(rows), self._holder.taken())}, bins)
        self._send([0])
        while self._step():
            pass

    def _step(self) -> bool:
        message = wire.hear(self._link, "trees.splits")
        nodes, cuts = self._asked(message)
        if not nodes:
            return False
        sides = self._sides(nodes, cuts)
        parents = {}
        for node in nodes:
            left, _ = self._nodes.split(node, sides[node])
            parents[left] = self._open.pop(node)
        self._send_children(self._nodes.wanted(list(parents), self._options), parents)
        return True

    def _asked(self, message: Message) -> tuple[list[int], list[Cut | None]]:
        """The nodes to split, and the own cuts among those to do it by. Raises BadMessage."""
        count = message.tensors["nodes"].size if "nodes" in message.tensors else 0
        nodes, cuts = wire.take(
            self._link, message, {"nodes": (np.int64, (count,)), "cuts": (np.int64, (count, 3))}
        )
        numbers: list[int] = nodes.tolist()
        room = self._options.most_splits - len(self._nodes) // 2
        if len(set(numbers)) < count or not set(numbers) <= set(self._open) or count > room:
            raise BadMessage(f"{self._link.partner} splits nodes that cannot be split")
        asked = zip(numbers, cuts.tolist(), strict=True)
        return numbers, [self._cut(node, cut) for node, cut in asked]

    def _cut(self, node: int, asked: list[int]) -> Cut | None:
        column, last, side = asked
        if column == last == -1 and side == 0:
            return None
        cut = Cut(column, last, bool(side))
        place = self._shape.place(cut) if side in (0, 1) else None
        if place is None or not self._open[node].allowed[place]:
            raise BadMessage(f"{self._link.partner} splits by a cut that is not allowed")
        return cut

    def _sides(self, nodes: list[int], cuts: list[Cut | None]) -> dict[int, Bools]:
        """Who goes left in each node: told by us for our cuts, heard for others."""
        sides: dict[int, Bools] = {}
        for node, cut in zip(nodes, cuts, strict=True):
            if cut is not None:
                sides[node] = self._coded.goes_left(cut, self._nodes.rows(node))
                column = self._columns[cut.column]
                self._cuts.append(Cut(column, cut.bin, cut.missing_left))
        if sides:
            told = wire.packed(np.concatenate(list(sides.values())))
            self._link.send("trees.sides", {"left": told})
        others = [node for node, cut in zip(nodes, cuts, strict=True) if cut is None]
        if others:
            sizes = [len(self._nodes.rows(node)) for node in others]
            message = wire.hear(self._link, "trees.rows")
            bits = wire.take_bits(self._link, message, "left", sum(sizes))
            sides |= zip(others, np.split(bits, np.cumsum(sizes)[:-1]), strict=True)
        return sides

    def _send_children(self, pairs: Sequence[int], parents: dict[int, _Open]) -> None:
        size = pairs_a_message(self._shape.total)
        for start in range(0, len(pairs), size):
            some = pairs[start : start + size]
            for left in some:
                smaller, larger = self._nodes.smaller(left)
                rows, parent = self._nodes.learnt(smaller), parents[left]
                counts = self._coded.counts(rows)
                share = self._holder.sums(self._which, self._places[rows])
                rest = (parent.counts - counts, parent.share - share)
                self._enter({smaller: (counts, share), larger: rest}, parent.ends)
            self._send([left + side for left in some for side in range(2)])

    def _enter(self, nodes: dict[int, tuple[Longs, Words]], before: Bools) -> None:
        """Open a pair of nodes, or the root, with counts and shares; groups are the same in both.

        Were they not, the sums of one and of their parent would give those of the other by bin.
        """
        ends = before
        if self._options.cell > 1:
            rows = [counts for counts, _ in nodes.values()]
            ends = self._shape.ends(rows, before, self._options.cell)
        for node, (counts, share) in nodes.items():
            allowed = self._shape.allowed(counts, self._options.min_rows, ends)
            self._open[node] = _Open(counts, allowed, ends, share)

    def _send(self, nodes: Sequence[int]) -> None:
        known = [self._open[node] for node in nodes]
        shares = np.stack([self._shape.grouped(one.share, one.ends) for one in known])
        ends = np.stack([one.ends for one in known])
        shown = self._noise.added(shares, self._bits)
        # Noise where there is no sum would only add up.
        shown[~ends] = 0
        self._link.send(
            "trees.sums",
            {
                "sums": shown,
                "ends": wire.packed(ends.reshape(-1)),
                "allowed": wire.packed(np.stack([one.allowed for one in known]).reshape(-1)),
            },
        )
