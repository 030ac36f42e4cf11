"""One tree, made at the label party out of all parties' histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isthmus.trees.model import Node
from isthmus.trees.nodes import NodeRows
from isthmus.trees.options import TreeOptions
from isthmus.trees.shape import Bools, Longs
from isthmus.trees.sources import Numbers, Source
from isthmus.trees.splitting import Histogram, Scale, Split, best_split, leaf_value


@dataclass
class Growth:
    """A tree as it grows: level by level, or where `leaves` are given, by the most gain."""

    sources: Sequence[Source]
    columns: Sequence[Sequence[int]]
    """Of each source, the columns that the tree may use, by its full numbering."""
    numbers: Numbers
    scale: Scale
    options: TreeOptions
    nodes: NodeRows = field(init=False)
    made: list[Node] = field(default_factory=list)
    _open: dict[int, tuple[Split, list[Histogram]]] = field(default_factory=dict)
    """Leaves that are worth splitting."""

    def __post_init__(self) -> None:
        self.nodes = NodeRows(self.numbers.used)

    def grow(self) -> tuple[Node, ...]:
        """Make the tree."""
        for source, columns in zip(self.sources, self.columns, strict=True):
            source.begin(self.numbers, columns, self.nodes)
        self.made = [self._leaf(0)]
        if self.sources:
            self._look(0, [source.root() for source in self.sources])
        while self._open:
            self._step()
        for source in self.sources:
            source.ask([], [])
        return tuple(self.made)

    def _step(self) -> None:
        picks = self._picks()
        splits = [self._open[node][0] for node in picks]
        first_cuts = [source.cuts for source in self.sources]
        for number, source in enumerate(self.sources):
            source.ask(picks, [split.cut if split.source == number else None for split in splits])
        sides = self._sides(picks, splits)
        lefts = []
        for node, split in zip(picks, splits, strict=True):
            left, right = self.nodes.split(node, sides[node])
            self.made[node] = self._inner(split, first_cuts[split.source], left)
            first_cuts[split.source] += 1
            self.made += [self._leaf(left), self._leaf(right)]
            lefts.append(left)
        self._look_at_children(dict(zip(lefts, picks, strict=True)))

    def _picks(self) -> list[int]:
        if self.options.leaves is None:
            return sorted(self._open)
        return [max(self._open, key=lambda node: (self._open[node][0].gain, -node))]

    def _sides(self, picks: Sequence[int], splits: Sequence[Split]) -> dict[int, Bools]:
        """Who goes left in each node, asked of the cut's owner and told to all others."""
        sides: dict[int, Bools] = {}
        for number, source in enumerate(self.sources):
            mine = [
                (node, split.cut)
                for node, split in zip(picks, splits, strict=True)
                if split.source == number
            ]
            nodes = [node for node, _ in mine]
            found = source.sides(nodes, [cut for _, cut in mine])
            sides |= zip(nodes, found, strict=True)
        for number, source in enumerate(self.sources):
            others = zip(picks, splits, strict=True)
            source.tell([sides[node] for node, split in others if split.source != number])
        return sides

    def _look_at_children(self, parents: dict[int, int]) -> None:
        """Histograms of pairs of children, given by the left one with the parent."""
        pairs = self.nodes.wanted(list(parents), self.options)
        before = [self._open[parents[left]][1] for left in pairs]
        for parent in parents.values():
            del self._open[parent]
        if not pairs:
            if len(self.nodes) // 2 >= self.options.most_splits:
                self._open.clear()
            return
        found = [
            source.children(pairs, [histograms[number] for histograms in before])
            for number, source in enumerate(self.sources)
        ]
        for place, left in enumerate(pairs):
            for side in range(2):
                self._look(left + side, [each[2 * place + side] for each in found])

    def _look(self, node: int, histograms: list[Histogram]) -> None:
        if self.nodes.depths[node] >= self.options.depth:
            return
        shapes = [source.shape for source in self.sources]
        split = best_split(shapes, histograms, self._total(node), self.scale, self.options)
        if split is not None:
            self._open[node] = (split, histograms)

    def _total(self, node: int) -> Longs:
        found: Longs = self.numbers.values[self.nodes.learnt(node)].sum(axis=0)
        return found

    def _leaf(self, node: int) -> Node:
        value = leaf_value(self._total(node), self.scale, self.options)
        return Node(party=-1, cut=0, column=0, left=0, gain=0.0, value=value)

    def _inner(self, split: Split, cut: int, left: int) -> Node:
        source = self.sources[split.source]
        column = self.columns[split.source][split.cut.column]
        return Node(source.party, cut, column, left, split.gain, 0.0)


def scores_of(
    nodes: NodeRows, tree: Sequence[Node]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What a tree that has just been made adds to each row's score, float64 `[rows]`."""
    leaves = [number for number, node in enumerate(tree) if node.party < 0]
    out = np.empty(sum(len(nodes.rows(leaf)) for leaf in leaves), dtype=np.float64)
    for leaf in leaves:
        out[nodes.rows(leaf)] = tree[leaf].value
    return out
