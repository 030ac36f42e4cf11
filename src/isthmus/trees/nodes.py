"""Which rows are in each node of the tree that is being made; all parties hold the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isthmus.trees.options import TreeOptions

Bools = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


class NodeRows:
    """Nodes by number, the root 0, children in pairs as they are made.

    Args:
        used: bool `[rows]`, the rows that the tree learns from. The others go down it as well.
    """

    def __init__(self, used: Bools) -> None:
        self._used = used
        self._rows: list[Longs] = [np.arange(len(used))]
        self.depths = [0]
        self.parent: dict[int, int] = {}
        """Of each left child."""

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, node: int) -> Longs:
        """All rows in a node, rising, int64 `[n]`; of a node that is split none are kept."""
        return self._rows[node]

    def learnt(self, node: int) -> Longs:
        """Those that the tree learns from."""
        rows = self._rows[node]
        found: Longs = rows[self._used[rows]]
        return found

    def split(self, node: int, goes_left: Bools) -> tuple[int, int]:
        """Make a leaf's two children; `goes_left` is of its `rows`."""
        rows, left = self._rows[node], len(self._rows)
        self._rows += [rows[goes_left], rows[~goes_left]]
        self._rows[node] = rows[:0]
        self.depths += [self.depths[node] + 1] * 2
        self.parent[left] = node
        return left, left + 1

    def smaller(self, left: int) -> tuple[int, int]:
        """Of a pair of children, the one of fewer rows to learn from, and the other."""
        sizes = [len(self.learnt(node)) for node in (left, left + 1)]
        return (left, left + 1) if sizes[0] <= sizes[1] else (left + 1, left)

    def wanted(self, lefts: Sequence[int], options: TreeOptions) -> list[int]:
        """Of pairs of children, given by the left one, those of which one may be split."""
        if len(self) // 2 >= options.most_splits:
            return []
        return [
            left
            for left in lefts
            if self.depths[left] < options.depth
            and max(len(self.learnt(node)) for node in (left, left + 1)) >= 2 * options.min_rows
        ]
