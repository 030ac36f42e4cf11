"""A bound on how far an upload may be from what its client began with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.uploads import Uploads


@dataclass(frozen=True)
class NormBound:
    """A guard that shortens changes longer than a bound, by their 2-norms.

    On the devices it is the clipping before noise. At the server, as the last guard, it bounds what
    a hostile client can do: that one would not clip.
    """

    whole: float = math.inf
    """Of a client's whole change: all rows and the network as one vector."""
    row: float = math.inf
    """Of each row's change; applied first."""

    def __post_init__(self) -> None:
        if not (self.whole > 0 and self.row > 0):
            raise JobError("a norm bound must be above 0")

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """The uploads within the bounds; what is within them already keeps every bit."""
        count = len(uploads.clients)
        owner = np.repeat(np.arange(count), np.diff(uploads.indptr))
        of = uploads.starts.of[uploads.clients]
        starts = uploads.starts.items[of[owner], uploads.items].astype(np.float64)
        change = uploads.rows - starts
        squares = np.einsum("ij,ij->i", change, change)
        by_row = _factor(np.sqrt(squares), self.row)
        moved = uploads.network - uploads.starts.network[of].astype(np.float64)
        # Added up client by client: the same wherever chunks are cut.
        size = np.bincount(owner, weights=squares * by_row**2, minlength=count)
        size = size + np.einsum("ij,ij->i", moved, moved)
        by_client = _factor(np.sqrt(size), self.whole)
        factor = (by_row * by_client[owner])[:, None]
        rows = np.where(factor < 1, starts + factor * change, uploads.rows)
        shorter = by_client[:, None]
        base = uploads.starts.network[of].astype(np.float64)
        network = np.where(shorter < 1, base + shorter * moved, uploads.network)
        return replace(uploads, rows=rows.astype(np.float32), network=network.astype(np.float32))


def _factor(size: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """What brings each size down to the bound; 1 where it is below."""
    if math.isinf(bound):
        return np.ones_like(size)
    return np.asarray(np.minimum(1.0, bound / np.maximum(size, 1e-300)))
