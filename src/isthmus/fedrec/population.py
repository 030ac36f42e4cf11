"""The population: every client's interactions as one ragged array, split by leaving out.

A client is one user. `Interactions` is what a data set holds; `leave_out` makes a `Population` of
it: training items, one validation item and one test item a client.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError
from isthmus.fedrec import randomness

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

Order = Literal["time", "none"]
Split = Literal["last", "random"]

NONE = -1
"""Stands for a held-out item that a client does not have."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Lists of items, one a client: those of client u are `items[indptr[u]:indptr[u + 1]]`."""

    indptr: Longs
    """int64 [U + 1]"""
    items: Ints
    """int32, ascending within a client unless said otherwise."""

    @property
    def counts(self) -> Longs:
        """How many items each client has, int64 [U]."""
        return np.diff(self.indptr)

    def of(self, client: int) -> Ints:
        """The items of one client."""
        return self.items[self.indptr[client] : self.indptr[client + 1]]

    def take(self, clients: Longs) -> Ragged:
        """The lists of `clients`, in their order."""
        counts = self.counts[clients]
        indptr = offsets(counts)
        place = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - self.indptr[clients], counts)
        return Ragged(indptr, self.items[place])


def offsets(counts: Longs) -> Longs:
    """int64 [n + 1]: where each of n lists of these lengths begins, and the end."""
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr


def ragged(users: Longs, items: Longs, count: int) -> Ragged:
    """The pairs as lists, items ascending within a user; `count` users."""
    order = np.lexsort((items, users))
    return Ragged(
        offsets(np.bincount(users, minlength=count).astype(np.int64)),
        items[order].astype(np.int32),
    )


@dataclass(frozen=True, eq=False)
class Interactions:
    """What users did: user and item numbers from 0, each pair once.

    Rows stand user by user; within a user oldest first where `order` is "time", else by the
    item's first appearance in the table (which is what the FedCA code takes for time).
    """

    name: str
    users: int
    items: int
    user: Longs
    """int64 [rows], ascending."""
    item: Longs
    """int64 [rows]"""
    order: Order
    notes: tuple[str, ...] = ()
    """What a user should know of how the table was read, in sentences."""

    @property
    def mark(self) -> str:
        """A digest of what users did and in which order."""
        digest = hashlib.sha256(self.order.encode())
        for one in (self.user, self.item):
            digest.update(one.tobytes())
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        if len(self.user) == 0:
            raise DataError(
                f"{self.name} holds no client with enough interactions",
                mend="Lower --min-interactions, or look at the table.",
            )


@dataclass(frozen=True, eq=False)
class Population:
    """All clients of a federated recommender.

    U clients, M items. Training items may be empty for a client, held-out ones `NONE`.
    """

    name: str
    items: int
    train: Ragged
    valid: Ints
    """int32 [U], each client's validation item or `NONE`."""
    test: Ints
    """int32 [U], each client's test item or `NONE`."""
    turn: Ints | None = None
    """int32 beside `train.items`: when each came, 0 the client's oldest; None without order."""

    @property
    def clients(self) -> int:
        """U."""
        return len(self.valid)

    @property
    def weights(self) -> NDArray[np.float64]:
        """n_u, the number of training items of each client, float64 [U]."""
        return self.train.counts.astype(np.float64)

    @property
    def seen(self) -> Ragged:
        """Training and held-out items of each client."""
        users = np.arange(self.clients)
        held = [(users[one != NONE], one[one != NONE]) for one in (self.valid, self.test)]
        owner = np.repeat(users, self.train.counts)
        return ragged(
            np.concatenate([owner, *(who for who, _ in held)]),
            np.concatenate([self.train.items, *(what for _, what in held)]).astype(np.int64),
            self.clients,
        )

    def part(self, clients: Longs) -> Population:
        """The population of these clients alone, numbered from 0 in this order: a shard."""
        train = self.train.take(clients)
        valid, test = self.valid[clients], self.test[clients]
        turn = None
        if self.turn is not None:
            turn = Ragged(self.train.indptr, self.turn).take(clients).items
        return Population(self.name, self.items, train, valid, test, turn)

    @property
    def ordered(self) -> bool:
        """Whether it is known in which order items came."""
        return self.turn is not None

    @property
    def by_turn(self) -> Ragged:
        """The training items of each client, its oldest first; by number without order."""
        if self.turn is None:
            return self.train
        owner = np.repeat(np.arange(self.clients), self.train.counts)
        return Ragged(self.train.indptr, self.train.items[np.lexsort((self.turn, owner))])


def leave_out(data: Interactions, split: Split, seed: int) -> Population:
    """Each client's last interaction to test, the last but one to validation, the rest to training.

    With `split` "random" the two are drawn by `seed` instead, for data without times. A client
    with two interactions has no validation item, one with a single interaction is never tested.
    """
    counts = np.bincount(data.user, minlength=data.users).astype(np.int64)
    begin = offsets(counts)[:-1]
    rank = came = np.arange(len(data.user)) - np.repeat(begin, counts)
    if split == "random":
        draw = randomness.generator(seed, randomness.SPLIT).random(len(data.user))
        by_draw = np.lexsort((draw, data.user))
        shuffled = np.empty_like(rank)
        shuffled[by_draw] = rank
        rank = shuffled
    left = np.repeat(counts, counts) - rank
    total = np.repeat(counts, counts)
    is_test = (left == 1) & (total >= 2)
    is_valid = (left == 2) & (total >= 3)
    train = ~(is_test | is_valid)
    valid, test = (np.full(data.users, NONE, np.int32) for _ in range(2))
    valid[data.user[is_valid]] = data.item[is_valid]
    test[data.user[is_test]] = data.item[is_test]
    kept = ragged(data.user[train], data.item[train], data.users)
    turn = None
    if data.order == "time":
        turn = came[train][np.lexsort((data.item[train], data.user[train]))].astype(np.int32)
    return Population(data.name, data.items, kept, valid, test, turn)
