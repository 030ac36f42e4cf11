"""Local differential privacy: a clipped upload of the whole table, with normal noise on all of it.

A client's upload is its change of the item table and the network, as one vector, shortened to the
2-norm `clip`. The item rows that it never touched are sent too: noise on touched rows alone would
leave in sight *which* rows they are, and no epsilon would hold. Its number of training items, by
which servers weigh clients, is replaced by 1. Any two data sets of a client then differ in what it
sends by `2 clip` at most, before normal noise of the deviation `noise * clip` on every number: a
Gaussian mechanism with the multiplier `noise / 2`.

The clip is on the whole upload, not on each row: rows of one client follow from the same items, so
that bounds on rows would have to be added up over all rows that its data can reach, the whole
table, and M rows clipped to c are no better than one upload clipped to sqrt(M) c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from isthmus.fedrec import randomness
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.population import Floats
from isthmus.fedrec.privacy.bound import NormBound
from isthmus.fedrec.privacy.keyed import normals
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads

_NOISE = randomness.NOISE


@dataclass(frozen=True, eq=False)
class LocalNoise:
    """The guard: clip, send all rows, add noise."""

    task: Task
    clip: float
    """The most that a client's change may measure, by its 2-norm."""
    noise: float
    """Deviation of the noise on each number, in clips."""

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """The whole tables of the chunk's clients, noised."""
        sent = NormBound(whole=self.clip)(uploads, number)
        count, items = len(sent.clients), self.task.population.items
        rows = whole_tables(sent)
        network = sent.network.astype(np.float32)
        identity = self.task.shard.identity[sent.clients]
        deviation, seed, key = self.noise * self.clip, self.task.seed, self.task.noise_key

        def work(first: int, last: int) -> None:
            if key is None:
                _add_noise(rows, network, identity, first, last, deviation, seed, number)
                return
            for place in range(first, last):
                whole = np.concatenate([rows[place].ravel(), network[place]])
                about = f"upload of {identity[place]} in {number}"
                whole += normals(key, about, whole, deviation, len(whole))
                rows[place] = whole[: rows[place].size].reshape(rows[place].shape)
                network[place] = whole[rows[place].size :]

        self.task.spread(work, np.full(count, items))
        return replace(
            sent,
            indptr=np.arange(count + 1) * items,
            items=np.tile(np.arange(items, dtype=np.int32), count),
            rows=rows.reshape(count * items, -1),
            network=network,
            weight=np.ones(count),
            counts=np.zeros(count * items, np.int32),
        )


def whole_tables(uploads: Uploads) -> Floats:
    """All rows of each client of the chunk, as it began with them or as it trained them,
    float32 [n, M, d].
    """
    count = len(uploads.clients)
    tables: Floats = uploads.starts.items[uploads.starts.of[uploads.clients]]
    owner = np.repeat(np.arange(count), np.diff(uploads.indptr))
    tables[owner, uploads.items] = uploads.rows
    return tables


@compiled
def _add_noise(
    rows: np.ndarray, network: np.ndarray, identity: np.ndarray, first: int, last: int,
    deviation: float, seed: int, number: int,
) -> None:  # fmt: skip
    for place in range(first, last):
        state = randomness.stream(seed, _NOISE, number, identity[place])
        for i in range(rows.shape[1]):
            for j in range(rows.shape[2]):
                state, drawn = randomness.gaussian(state)
                rows[place, i, j] += deviation * drawn
        for j in range(network.shape[1]):
            state, drawn = randomness.gaussian(state)
            network[place, j] += deviation * drawn
