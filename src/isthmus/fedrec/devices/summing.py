"""Sums of item rows under masks between devices.

A shard adds up what its own clients send, and the server sees the sum over shards alone; who is
lost in the middle of it is left out of the sum, and the round goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError
from isthmus.fedrec.devices.masking import SHARE, Adding, Masker
from isthmus.fedrec.devices.wire import LARGEST
from isthmus.fedrec.population import Longs, offsets
from isthmus.fedrec.privacy.secure_sum import decoded, encoded
from isthmus.fedrec.privacy.secure_wire import Words
from isthmus.fedrec.uploads import Shared, Sums, Tables, Uploads

_OWN, _ALIKE = f"{SHARE} own", f"{SHARE} alike"
"""By which weights clients are added up."""


class Summand(Masker):
    """A shard's part of one round's sum.

    Args:
        tables: what its clients began from; only the shapes matter.
    """

    def __init__(self, tables: Tables) -> None:
        like = Shared(tables.items[0], tables.network[0])
        self._sums = {_OWN: Sums.like(like), _ALIKE: Sums.like(like)}
        super().__init__({name: _words_of(sums) for name, sums in self._sums.items()})
        self.clients: list[Longs] = []

    def add(self, chunk: Uploads) -> None:
        """Take in some of the shard's clients, guards applied."""
        self._sums[_OWN].add(chunk, chunk.weight)
        self._sums[_ALIKE].add(chunk, np.ones(len(chunk.clients)))
        self.clients.append(chunk.clients)


def _words_of(sums: Sums) -> Callable[[int], Words]:
    def words(parties: int) -> Words:
        weight = np.array([sums.weight])
        vector = np.concatenate([sums.items.ravel(), sums.mass, sums.network, weight])
        return encoded(vector, parties)

    return words


@dataclass(eq=False)
class ShardSums:
    """A round's uploads that give the sum over shards, once (`uploads.Sealed`)."""

    adding: Adding
    settle: Callable[[set[str], dict[str, str]], None]
    """Told whose numbers are in the sum, and who was lost and why, before the sum is given."""
    used: bool = False

    @property
    def up(self) -> int:
        """Bytes from all shards."""
        return self.adding.up

    def add(self, sums: Sums, weight: NDArray[np.float64]) -> None:
        """Add the sum over the shards that are left to `sums`.

        Raises:
            JobError: the weights are not the clients' own (which are not known here, NaN) nor 1,
                or it is the second time.
            TrainError: see `Adding.total`.
        """
        own = bool(np.isnan(weight).all())
        if self.used or not (own or bool((weight == 1).all())):
            raise JobError(
                "under a secure sum uploads are added up once, by the clients' own weights",
                mend="Pass `uploads.weight`, or ones.",
            )
        self.used = True
        at = offsets(np.array([sums.items.size, sums.mass.size, sums.network.size, 1]))

        def parts(words: Words) -> list[NDArray[np.float64]]:
            found = decoded(words)
            return [found[at[k] : at[k + 1]] for k in range(4)]

        share = _OWN if own else _ALIKE
        total = self.adding.total(share, int(at[-1]), lambda words: _possible(*parts(words)))
        items, mass, network, rest = parts(total)
        sums.items += items.reshape(sums.items.shape)
        sums.mass += mass
        sums.network += network
        sums.weight += float(rest[0])
        self.settle(self.adding.survivors, self.adding.lost)


def _possible(
    items: NDArray[np.float64],
    mass: NDArray[np.float64],
    network: NDArray[np.float64],
    rest: NDArray[np.float64],
) -> bool:
    """Whether clients could have this sum: under masks nobody sees whose words are wrong."""
    weight, slack = float(rest[0]), 1e-3
    most = 2 * LARGEST * weight + slack
    return (
        weight > 0
        and -slack <= float(mass.min(initial=0.0))
        and float(mass.max(initial=0.0)) <= weight + slack
        and float(np.abs(items).max(initial=0.0)) <= most
        and float(np.abs(network).max(initial=0.0)) <= most
    )
