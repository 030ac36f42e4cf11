"""Two overlapping samples: how the demo and the made-up tables give each party rows of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def overlapping(
    n: int, missing: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Two samples of 0..n-1 in random orders, and the size of what they share.

    `missing` is the share of each sample that is not in the other.
    """
    # With e rows of its own a sample has n - e rows: e / (n - e) = missing.
    own = round(n * missing / (1 + missing))
    order = rng.permutation(n)
    first, second = order[: n - own], order[own:]
    return rng.permutation(first), rng.permutation(second), n - 2 * own
