"""What a tree learns from by chance: rows, columns, and gradients' shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.trees.options import TreeOptions

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Draws:
    """The label party's draws, in an order that does not depend on who has which columns.

    Args:
        rng: its own.
        options: as agreed.
    """

    def __init__(self, rng: np.random.Generator, options: TreeOptions) -> None:
        self._rng, self._options = rng, options

    def state(self) -> Any:
        """Where the draws are, as JSON values."""
        return self._rng.bit_generator.state

    def load_state(self, state: Any) -> None:
        """Go on from where `state` was given. Raises ValueError where it is of another kind."""
        self._rng.bit_generator.state = state

    def rows(self, learnt: Bools) -> Bools:
        """The rows of the trees of a round, bool `[rows]`."""
        if self._options.subsample >= 1.0:
            return learnt
        candidates = np.flatnonzero(learnt)
        count = max(1, round(self._options.subsample * len(candidates)))
        found = np.zeros(len(learnt), dtype=np.bool_)
        found[self._rng.choice(candidates, count, replace=False)] = True
        return found

    def columns(self, counts: Sequence[int]) -> list[list[int]]:
        """Of each party with so many columns, those of a tree, rising."""
        total = sum(counts)
        chosen = np.ones(total, dtype=np.bool_)
        if self._options.columns < 1.0 and total:
            count = max(1, round(self._options.columns * total))
            chosen[:] = False
            chosen[self._rng.choice(total, count, replace=False)] = True
        parts = np.split(chosen, np.cumsum(counts)[:-1])
        return [np.flatnonzero(part).tolist() for part in parts]

    def factors(self, used: Bools, sizes: Floats) -> Floats:
        """What each row's derivatives count, float64 `[rows]`: gradient-based one-side sampling.

        The share `top` of rows of greatest gradient counts once, of the others a share `other` of
        all rows is drawn and counts (1 - top) / other times, and the rest nothing.

        Args:
            used: bool `[rows]`.
            sizes: of the gradients, float64 `[rows]`.
        """
        if self._options.goss is None:
            return np.ones(len(used))
        top, other = self._options.goss
        rows = np.flatnonzero(used)
        order = rows[np.argsort(-sizes[rows], kind="stable")]
        first = max(1, round(top * len(rows)))
        count = min(len(rows) - first, max(1, round(other * len(rows))))
        factors = np.zeros(len(used))
        factors[order[:first]] = 1.0
        if count > 0:
            drawn = self._rng.choice(order[first:], count, replace=False)
            factors[drawn] = (len(rows) - first) / count
        return factors
