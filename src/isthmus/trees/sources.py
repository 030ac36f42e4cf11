"""Where the label party's histograms come from: its own columns, and each partner's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.crypto.blocks import Words
from isthmus.crypto.onehot import Dealer, Round
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.trees import wire
from isthmus.trees.binning import ColumnBins
from isthmus.trees.nodes import NodeRows
from isthmus.trees.noise import rho_of_tree
from isthmus.trees.options import TreeOptions
from isthmus.trees.shape import BinShape, Bools, Coded, Cut, Longs
from isthmus.trees.splitting import Histogram

NODES_BYTES = 1 << 26
"""Of sums in a message."""
NUMBERS_BYTES = 1 << 23
"""Of masked numbers in a message."""
_MOST_NOISY = 1 << 52


@dataclass(frozen=True)
class Numbers:
    """What a tree learns from."""

    tree: int
    """Its number; never the same twice."""
    used: Bools
    """bool `[rows]`, the rows that it learns from."""
    values: npt.NDArray[np.int64]
    """Derivatives in fixed point, int64 `[rows, 2]`; 0 for the other rows."""
    bits: int
    """No value is above two to this."""


class Source(ABC):
    """Columns of one party, as the label party sees them while it makes a tree.

    Attributes:
        party: 0 for the label party, then its partners.
        cuts: how many cuts of this party there are.
        shape: of the columns of this tree.
    """

    party: int
    cuts: int
    shape: BinShape

    @property
    @abstractmethod
    def all_columns(self) -> int:
        """Columns of the party."""

    @abstractmethod
    def begin(self, numbers: Numbers, columns: Sequence[int], nodes: NodeRows) -> None:
        """A tree of these of the columns begins; `nodes` are kept up to date by who makes it."""

    @abstractmethod
    def ask(self, nodes: Sequence[int], cuts: Sequence[Cut | None]) -> None:
        """Nodes are split, those with a cut by these columns; no nodes: the tree is ready."""

    @abstractmethod
    def sides(self, nodes: Sequence[int], cuts: Sequence[Cut]) -> list[Bools]:
        """Who goes left at these cuts."""

    @abstractmethod
    def tell(self, sides: Sequence[Bools]) -> None:
        """Who goes left where the cut is another party's."""

    @abstractmethod
    def root(self) -> Histogram:
        """The root's histogram."""

    @abstractmethod
    def children(self, pairs: Sequence[int], parents: Sequence[Histogram]) -> list[Histogram]:
        """Histograms of pairs of children, given by the left one: left and right in turn."""


class OwnColumns(Source):
    """The label party's columns, or those of a pooled table.

    Args:
        codes: int16 `[rows, columns]`.
        bins: of the columns.
        least: rows of a leaf.
    """

    party = 0

    def __init__(
        self, codes: npt.NDArray[np.int16], bins: Sequence[ColumnBins], least: int
    ) -> None:
        self._codes, self._least = codes, least
        self._all = shape_of(bins)
        self.made: list[Cut] = []
        """The cuts, in the columns' full numbering."""

    @property
    def cuts(self) -> int:  # type: ignore[override]
        """See `Source`."""
        return len(self.made)

    @property
    def all_columns(self) -> int:
        """See `Source`."""
        return len(self._all.values)

    def begin(self, numbers: Numbers, columns: Sequence[int], nodes: NodeRows) -> None:
        """See `Source`."""
        self._columns = list(columns)
        self.shape = self._all.picked(columns)
        everything = len(columns) == self.all_columns
        codes = self._codes if everything else self._codes[:, self._columns]
        self._coded = Coded(codes, self.shape)
        self._values = numbers.values.astype(np.float64)
        self._nodes = nodes

    def ask(self, nodes: Sequence[int], cuts: Sequence[Cut | None]) -> None:
        """See `Source`."""
        del nodes
        self.made += [
            Cut(self._columns[cut.column], cut.bin, cut.missing_left)
            for cut in cuts
            if cut is not None
        ]

    def sides(self, nodes: Sequence[int], cuts: Sequence[Cut]) -> list[Bools]:
        """See `Source`."""
        return [
            self._coded.goes_left(cut, self._nodes.rows(node))
            for node, cut in zip(nodes, cuts, strict=True)
        ]

    def tell(self, sides: Sequence[Bools]) -> None:
        """See `Source`."""

    def root(self) -> Histogram:
        """See `Source`."""
        return self._of(0)

    def children(self, pairs: Sequence[int], parents: Sequence[Histogram]) -> list[Histogram]:
        """See `Source`."""
        found = []
        for left, parent in zip(pairs, parents, strict=True):
            smaller, larger = self._nodes.smaller(left)
            small = self._of(smaller)
            large = self._of(larger, parent.sums - small.sums)
            found += [small, large] if smaller == left else [large, small]
        return found

    def _of(self, node: int, sums: Longs | None = None) -> Histogram:
        rows = self._nodes.learnt(node)
        if sums is None:
            sums = self._coded.sums(rows, self._values)
        return Histogram(sums, self.shape.allowed(self._coded.counts(rows), self._least))


@dataclass
class PartnerColumns(Source):
    """A partner's columns, known by shares of sums alone."""

    link: Link
    party: int
    dealer: Dealer
    """Of the rows that are learnt from."""
    places: Longs
    """Of all rows among these, int64 `[rows]`; for others of no meaning."""
    all_shape: BinShape
    options: TreeOptions
    cuts: int = 0
    rho: float = 0.0
    """See `TreeModel.rho`."""
    _nodes: NodeRows = field(init=False, repr=False)
    _numbers: Numbers = field(init=False, repr=False)
    _ours: dict[int, Words] = field(init=False, repr=False)
    """Our shares of the sums of nodes that may be split, uint64 `[total, 2]`."""

    @property
    def all_columns(self) -> int:
        """See `Source`."""
        return len(self.all_shape.values)

    def begin(self, numbers: Numbers, columns: Sequence[int], nodes: NodeRows) -> None:
        """See `Source`."""
        chosen = np.isin(np.arange(self.all_columns), columns)
        self.shape = self.all_shape.picked(columns)
        self._numbers, self._nodes = numbers, nodes
        self.rho += rho_of_tree(self.options, len(columns))
        everything = len(columns) == self.all_columns
        self._round = Round(numbers.tree, None if everything else tuple(columns))
        self.link.send(
            "trees.tree",
            {"used": wire.packed(numbers.used), "columns": wire.packed(chosen)},
            {"tree": numbers.tree},
        )
        rows = np.flatnonzero(numbers.used)
        size = rows_a_message(len(columns))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            values = numbers.values[some].view(np.uint64)
            masked = self.dealer.masked(self._round, self.places[some], values)
            self.link.send("trees.numbers", {"masked": masked})

    def ask(self, nodes: Sequence[int], cuts: Sequence[Cut | None]) -> None:
        """See `Source`."""
        asked = [
            (-1, -1, 0) if cut is None else (cut.column, cut.bin, int(cut.missing_left))
            for cut in cuts
        ]
        tensors = {
            "nodes": np.array(nodes, np.int64),
            "cuts": np.array(asked, np.int64).reshape(-1, 3),
        }
        self.link.send("trees.splits", tensors)
        self.cuts += sum(cut is not None for cut in cuts)

    def sides(self, nodes: Sequence[int], cuts: Sequence[Cut]) -> list[Bools]:
        """See `Source`. Raises BadMessage where a side has too few rows."""
        del cuts
        if not nodes:
            return []
        sizes = [len(self._nodes.rows(node)) for node in nodes]
        message = wire.hear(self.link, "trees.sides")
        bits = wire.take_bits(self.link, message, "left", sum(sizes))
        found = np.split(bits, np.cumsum(sizes)[:-1])
        for node, left in zip(nodes, found, strict=True):
            used = self._numbers.used[self._nodes.rows(node)]
            if min((left & used).sum(), (~left & used).sum()) < self.options.min_rows:
                raise BadMessage(f"{self.link.partner} split a node into too few rows")
        return found

    def tell(self, sides: Sequence[Bools]) -> None:
        """See `Source`."""
        if sides:
            self.link.send("trees.rows", {"left": wire.packed(np.concatenate(sides))})

    def root(self) -> Histogram:
        """See `Source`."""
        # Of all rows whose numbers were sent, added up on the way.
        self._ours = {0: self.dealer.dealt(self._round)}
        return self._heard([0])[0]

    def children(self, pairs: Sequence[int], parents: Sequence[Histogram]) -> list[Histogram]:
        """See `Source`."""
        del parents
        found = []
        size = pairs_a_message(self.shape.total)
        for start in range(0, len(pairs), size):
            some = pairs[start : start + size]
            for left in some:
                smaller, larger = self._nodes.smaller(left)
                rows = self.places[self._nodes.learnt(smaller)]
                share = self.dealer.sums(self._round, rows)
                whole = self._ours.pop(self._nodes.parent[left])
                self._ours |= {smaller: share, larger: whole - share}
            found += self._heard([left + side for left in some for side in range(2)])
        return found

    def _heard(self, nodes: Sequence[int]) -> list[Histogram]:
        """The nodes' histograms: the partner's shares less ours. Raises BadMessage."""
        message, total = wire.hear(self.link, "trees.sums"), self.shape.total
        bins = len(nodes) * total
        theirs, ends, allowed = wire.take(
            self.link,
            message,
            {
                "sums": (np.uint64, (len(nodes), total, 2)),
                "ends": (np.uint8, (wire.packed_bytes(bins),)),
                "allowed": (np.uint8, (wire.packed_bytes(2 * bins),)),
            },
        )
        groups = wire.unpacked(self.link, message, ends, bins).reshape(-1, total)
        cuts = wire.unpacked(self.link, message, allowed, 2 * bins).reshape(-1, 2, total)
        return [
            self._histogram(node, theirs[place], groups[place], cuts[place])
            for place, node in enumerate(nodes)
        ]

    def _histogram(self, node: int, theirs: Words, ends: Bools, allowed: Bools) -> Histogram:
        """Checked: each row is in one bin of every column, so that all columns add up alike."""
        shape = self.shape
        last = shape.starts + np.array(shape.widths) - 1
        if not ends[last].all() or (allowed & ~(shape.cuts & shape.between(ends))).any():
            raise BadMessage(f"{self.link.partner} allowed cuts that there are not")
        sums = (theirs - shape.grouped(self._ours[node], ends)).view(np.int64)
        rows = self._nodes.learnt(node)
        if self.options.noise:
            # Nothing adds up then; what is left is that nothing overflows.
            wrong = bool((sums > _MOST_NOISY).any() or (sums < -_MOST_NOISY).any())
        else:
            whole = self._numbers.values[rows].sum(axis=0)
            most = len(rows) << self._numbers.bits
            beyond = (sums > most) | (sums < [-most, 0])  # second derivatives are not below 0
            wrong = bool((np.add.reduceat(sums, shape.starts) != whole).any() or beyond.any())
        if wrong:
            raise BadMessage(f"{self.link.partner} sent sums that do not add up")
        return Histogram(sums, allowed)


def shape_of(bins: Sequence[ColumnBins]) -> BinShape:
    """What a partner is told of columns."""
    return BinShape(tuple(one.values for one in bins), tuple(one.has_missing for one in bins))


def rows_a_message(columns: int) -> int:
    """Rows of masked numbers in a message; the same at both parties."""
    return max(1, NUMBERS_BYTES // (16 * columns))


def pairs_a_message(bins: int) -> int:
    """Pairs of children in a message of sums; the same at both parties."""
    return max(1, NODES_BYTES // (32 * bins))
