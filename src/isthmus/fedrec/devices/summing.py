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
from isthmus.fedrec.devices.masking import RULES, SHARE, Adding, Masker
from isthmus.fedrec.devices.wire import LARGEST
from isthmus.fedrec.population import Longs, offsets
from isthmus.fedrec.privacy.discrete import Share, share
from isthmus.fedrec.privacy.secure_sum import STEP, decoded, encoded
from isthmus.fedrec.privacy.secure_wire import Words
from isthmus.fedrec.uploads import Shared, Sums, Tables, Uploads

_OWN, _ALIKE = f"{SHARE} own", f"{SHARE} alike"
"""By which weights clients are added up."""


class Summand(Masker):
    """A shard's part of one round's sum.

    Args:
        tables: what its clients began from; only the shapes matter.
        clip: the most that a client's change measures; of use with `noise`.
        noise: deviation of the noise on the sum over shards, in clips, of which it adds its share.
    """

    def __init__(self, tables: Tables, clip: float = 0.0, noise: float = 0.0) -> None:
        like = Shared(tables.items[0], tables.network[0])
        self._sums = {_OWN: Sums.like(like), _ALIKE: Sums.like(like)}
        super().__init__({name: _words_of(one, clip, noise) for name, one in self._sums.items()})
        self.clients: list[Longs] = []

    def add(self, chunk: Uploads) -> None:
        """Take in some of the shard's clients, guards applied."""
        self._sums[_OWN].add(chunk, chunk.weight)
        self._sums[_ALIKE].add(chunk, np.ones(len(chunk.clients)))
        self.clients.append(chunk.clients)


def _words_of(sums: Sums, clip: float, noise: float) -> Callable[[int], Words]:
    def words(parties: int) -> Words:
        weight = np.array([sums.weight])
        # Which rows were touched would be told without noise.
        mass = np.full(len(sums.mass), sums.weight) if noise else sums.mass
        vector = np.concatenate([sums.items.ravel(), mass, sums.network, weight])
        out = encoded(vector, parties)
        if noise:
            _add_noise(out, vector, sums, share(
                # Two data sets of a client move the sum by two clips at most.
                2 * clip / STEP, noise / 2, sums.items.size + sums.network.size,
                RULES.terms(parties),
            ))  # fmt: skip
        return out

    return words


def _add_noise(out: Words, vector: NDArray[np.float64], sums: Sums, own: Share) -> None:
    items, end = sums.items.size, sums.items.size + sums.mass.size
    for part in (slice(0, items), slice(end, end + sums.network.size)):
        out[part] = own.added(vector[part] / STEP).view(np.uint64)


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
