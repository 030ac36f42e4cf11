"""What holds in a secure sum that survives dropouts: ring, neighbours, threshold, tolerated losses.

Clients stand on a ring in random order, as in Bell, Bonawitz, Gascón, Lepoint, Raykova: Secure
Single-Server Aggregation with (Poly)Logarithmic Overhead, CCS 2020, section 3; each shares masks,
and shares of its secrets, with the `neighbours` nearest on it. The numbers are the least ones for
which, with traitors and losses that do not depend on the order,

- some client has `threshold` or more traitors among its neighbours with a chance of 2^-40 at most;
- traitors and lost clients together cut the ring with a chance of 2^-40 at most;
- some client keeps fewer than `threshold` neighbours that answer with a chance of 2^-30 at most:
  then there is no sum, and nothing is told.

The tails are those of the hypergeometric distribution, added up over all clients. Up to `EVERYBODY`
clients, and where no ring does it, everybody is everybody's neighbour: as many as may be lost leave
just the threshold, and all three hold for certain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import JobError

TRAITORS, LOST = 0.2, 0.1
SECURE, OPENS = 2.0**-40, 2.0**-30
EVERYBODY = 40
LEAST = 3
"""Survivors of a sum: of two, each would know what the other sent."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Terms:
    """The numbers of one sum; server and clients work them out alike."""

    clients: int
    neighbours: int
    """Of each client: even, or all others."""
    threshold: int
    """Shares that rebuild a secret; one fewer tells nothing about it."""
    lost: int
    """So many clients may be lost between the seats and the end of the sum."""
    traitors: int
    """So many clients may be in league with the server."""

    def near(self, place: int) -> list[int]:
        """The neighbours of the client at a place on the ring, nearest first."""
        if self.neighbours == self.clients - 1:
            return [one for one in range(self.clients) if one != place]
        away = (step for one in range(1, self.neighbours // 2 + 1) for step in (one, -one))
        return [(place + step) % self.clients for step in away]

    def index(self, owner: int, holder: int) -> int:
        """Which of the owner's shares the holder has, from 1."""
        if self.neighbours == self.clients - 1:
            return holder + (holder < owner)
        away = (holder - owner) % self.clients
        return 2 * away - 1 if away <= self.neighbours // 2 else 2 * (self.clients - away)

    def in_one_piece(self, survivors: Flags) -> bool:
        """Whether the ring of these, bool [clients], holds together.

        To cut it takes two runs of lost clients as long as half the neighbours.
        """
        if self.neighbours == self.clients - 1:
            return True
        here = np.flatnonzero(survivors)
        gaps = np.diff(np.append(here, here[0] + self.clients)) - 1 if len(here) else here
        return len(here) > 0 and int((gaps >= self.neighbours // 2).sum()) < 2

    @property
    def two_faced(self) -> int:
        """Fewer traitors than this among a client's neighbours, and a server that tells different
        clients of different survivors still never gets both of its secrets.
        """
        return max(0, 2 * self.threshold - self.neighbours)


@dataclass(frozen=True)
class Rules:
    """What a sum must withstand, as shares of its clients; all parties hold them alike.

    Raises:
        JobError: a share is out of range.
    """

    traitors: float = TRAITORS
    """In league with the server; at least one."""
    lost: float = LOST
    """Dropped out; unless 0, at least one, as far as three clients are left."""

    def __post_init__(self) -> None:
        for name in ("traitors", "lost"):
            if not 0 <= getattr(self, name) <= 1 / 3:
                raise JobError(f"the share of {name} clients must be between 0 and 1/3")

    def terms(self, clients: int) -> Terms:
        """The numbers for so many clients.

        Raises:
            JobError: there are fewer than three.
        """
        if clients < LEAST:
            raise JobError(
                f"a secure sum of {clients} clients tells what a client sent",
                mend="Let three or more take part in a round.",
            )
        return _terms(clients, self.traitors, self.lost)


SHARDS = Rules(lost=1 / 3)
"""Between shards, which are few, so that each is a large share."""


def cut_chance(clients: int, neighbours: int, gone: float = TRAITORS) -> float:
    """At most the chance that a share `gone` of the clients cuts their ring in two."""
    return min(1.0, clients * (clients - 1) / 2 * gone**neighbours)


@lru_cache(maxsize=256)
def _terms(clients: int, traitors: float, lost: float) -> Terms:
    bad = max(1, math.floor(traitors * clients))
    gone = min(max(math.floor(lost * clients + 1e-9), int(lost > 0)), clients - LEAST)
    for neighbours in range(2, clients - 1 if clients > EVERYBODY else 2, 2):
        if cut_chance(clients, neighbours, (bad + gone) / clients) > SECURE:
            continue
        most = _most(clients, bad, neighbours, SECURE)
        threshold = neighbours - _most(clients, gone, neighbours, OPENS)
        if most < threshold:
            return Terms(clients, neighbours, threshold, gone, bad)
    return Terms(clients, clients - 1, clients - 1 - gone, gone, bad)


def _most(clients: int, marked: int, neighbours: int, chance: float) -> int:
    """The most marked neighbours that any client has, but for this chance."""
    others, tail = clients - 1, 0.0
    for count in range(min(marked, neighbours), -1, -1):
        tail += math.exp(
            _choices(marked, count)
            + _choices(others - marked, neighbours - count)
            - _choices(others, neighbours)
        )
        if clients * tail > chance:
            return count
    return 0


def _choices(n: int, k: int) -> float:
    """The logarithm of n over k."""
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
