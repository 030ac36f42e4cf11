"""What clients begin a round from, and what a chunk of them hands up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.kernels import sums
from isthmus.fedrec.population import Floats, Ints, Longs


@dataclass(frozen=True, eq=False)
class Shared:
    """What the server holds for all clients alike."""

    items: Floats
    """float32 [M, d], the item table."""
    network: Floats
    """float32 [t], the network's parameters, [0] where the backbone has none."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What each client begins a round from: one of K tables.

    K is 1 for a shared table, U for personal ones, the number of clusters between.
    """

    items: Floats
    """float32 [K, M, d]"""
    network: Floats
    """float32 [K, t]"""
    of: Longs
    """int64 [U], the table of each client."""

    @staticmethod
    def shared(one: Shared, clients: int) -> Tables:
        """The same table for all of `clients`."""
        return Tables(one.items[None], one.network[None], np.zeros(clients, np.int64))

    @staticmethod
    def personal(items: Floats, network: Floats) -> Tables:
        """Table u for client u; `items` [U, M, d], `network` [U, t]."""
        return Tables(items, network, np.arange(len(items)))


@dataclass(frozen=True, eq=False)
class Reference:
    """What clients are pulled to while they train.

    `keep_u * row - to_u * reference row` is added to the gradient of each row that the client
    touches in the round, and likewise to the network's. FedProx with weight mu: keep = to = mu.
    """

    tables: Tables
    keep: Floats
    """float32 [U]"""
    to: Floats
    """float32 [U]"""


@dataclass(frozen=True, eq=False)
class Uploads:
    """The results of a chunk of n clients, ragged: the rows of client number i of the chunk are
    `rows[indptr[i]:indptr[i + 1]]`, of the items `items[...]`, ascending.

    `clients`, `indptr`, `items`, `rows`, `network` and `weight` are what goes up. `user`, `counts`
    and `loss` stay on the device: only a step that stands for the client may read them.
    """

    clients: Longs
    """int64 [n], ascending."""
    indptr: Longs
    """int64 [n + 1]"""
    items: Ints
    """int32 [rows], items touched."""
    rows: Floats
    """float32 [rows, d], as trained."""
    network: Floats
    """float32 [n, t]"""
    weight: NDArray[np.float64]
    """float64 [n], n_u, the number of training items."""
    starts: Tables
    """What the clients began from (the server knows it)."""
    user: Floats
    """float32 [n, p]"""
    counts: Ints
    """int32 [rows], how often the item was among the client's samples of the round."""
    loss: Floats
    """float32 [n], the client's mean training loss."""
    sealed: Sealed | None = None
    """Under a secure sum: what adds these up. There are no rows then; `Sums.add` is all that a
    server can do with them."""

    def row_table(self, place: int) -> Floats:
        """The whole table that client number `place` of the chunk sent, float32 [M, d]."""
        own = slice(self.indptr[place], self.indptr[place + 1])
        table: Floats = self.starts.items[self.starts.of[self.clients[place]]].copy()
        table[self.items[own]] = self.rows[own]
        return table


class Sealed(Protocol):
    """Uploads of which only the sum can be seen."""

    used: bool
    """Whether they were added up."""

    @property
    def up(self) -> int:
        """Bytes from all clients."""
        ...

    def add(self, sums: Sums, weight: NDArray[np.float64]) -> None:
        """Add the clients' weighted changes to `sums`."""
        ...


class Sealing(Protocol):
    """How a round's uploads are hidden from the server but for their sum."""

    def seal(self, uploads: list[Uploads], number: int) -> Uploads:
        """All uploads of round `number` as one with `sealed`."""
        ...

    def total(self, vectors: Iterator[NDArray[np.float64]], clients: Longs) -> NDArray[np.float64]:
        """The sum of a vector of each of `clients`, float64 [k], for sums of another kind."""
        ...


class Aggregator(Protocol):
    """The server's side of a round: the next shared parameters from all clients' uploads.

    `uploads` gives chunks of clients, ascending, as they are trained, once. A result must not
    depend on where the chunks are cut: add up in float64 or client by client.
    """

    def aggregate(self, shared: Shared, uploads: Iterator[Uploads]) -> Shared:
        """The next shared parameters."""
        ...


class Guard(Protocol):
    """What is done to uploads on the devices, before the server sees them: clip, noise, fill up.

    Gets and returns a chunk; may change rows and networks, and add rows (items ascending within a
    client). Draws follow (seed, purpose, number, client), so that chunks do not matter. A hostile
    client is a guard as well.
    """

    def __call__(self, uploads: Uploads, number: int) -> Uploads:
        """What the server is to see of `uploads`, of round `number`."""
        ...


@dataclass(eq=False)
class Sums:
    """Weighted sums of clients' changes: all that secure aggregation would let the server see."""

    items: NDArray[np.float64]
    """float64 [M, d], sum of weight times (row - start row)."""
    mass: NDArray[np.float64]
    """float64 [M], the weight of the clients that touched each item."""
    network: NDArray[np.float64]
    """float64 [t], sum of weight times (network - start)."""
    weight: float = 0.0
    """The weight of all clients added."""
    clients: int = 0

    @staticmethod
    def like(shared: Shared) -> Sums:
        """Zero sums for parameters of these shapes."""
        return Sums(
            np.zeros(shared.items.shape),
            np.zeros(len(shared.items)),
            np.zeros(shared.network.shape),
        )

    def add(self, uploads: Uploads, weight: NDArray[np.float64]) -> None:
        """Add a chunk; `weight` float64 [n], often `uploads.weight`."""
        if uploads.sealed is not None:
            uploads.sealed.add(self, weight)
            return
        of = uploads.starts.of[uploads.clients]
        sums.add_changes(
            self.items,
            self.mass,
            uploads.indptr,
            uploads.items,
            uploads.rows,
            uploads.starts.items,
            of,
            weight,
        )
        starts = uploads.starts.network
        # Client by client, so that the sum is the same however the chunks are cut.
        for place in range(len(weight)) if self.network.size else ():
            change = uploads.network[place].astype(np.float64) - starts[of[place]]
            self.network += weight[place] * change
        for one in weight:
            self.weight += float(one)
        self.clients += len(weight)
