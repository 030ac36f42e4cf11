"""Rounds in which the server sees the sum of all clients' uploads and nothing else.

Each client writes what it adds to the sums (its weighted changes of all M rows, zero where it
touched nothing; its weight for each item that it touched; its network's change; its weight) in
fixed point, steps of 2^-30 modulo 2^64, and adds pairwise masks that cancel in the sum over all.
After Bonawitz et al., CCS 2017, section 4 (X25519, HKDF, ChaCha20: see `isthmus.crypto.masks`), and
with the graph of Bell, Bonawitz, Gascón, Lepoint, Raykova: Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead, CCS 2020: clients stand on a ring in an order drawn anew for each
cohort, and each shares masks with the `neighbours` nearest on it only, not with all.

**What is hidden.** To a server that follows the protocol, and any set of clients in league with it,
of all other clients the sum alone, as long as the ring without the traitors is one piece. To cut it
takes two runs of neighbours/2 traitors in a row; with a share g of traitors placed at random the
chance is at most `n (n - 1) / 2 * g^neighbours` (`cut_chance`). Keys pass through the server: one
that forges them, or puts clients on the ring to its liking, is not withstood.

**Dropouts.** Without `SecureSum.dropouts` all clients of a round answer; one that has agreed on
keys and then sends nothing would stop it. With it the sums are those of `secure_server`, which
survive losses: double masks and shares of keys, at a greater cost.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto.masks import MaskKey, Masks, Roster
from isthmus.errors import JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.population import Longs, offsets
from isthmus.fedrec.privacy.secure_dropouts import Drops, bytes_up, masked_sum, rules_for
from isthmus.fedrec.privacy.secure_terms import Rules, cut_chance
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Sums, Uploads

STEP = 2.0**-30
"""What the last bit of a word stands for."""
LIMIT = 2.0**32
"""Sums stay below this, so that words modulo 2^64 hold their sign."""
COHORTS = 32
CHANCE = 2.0**-40
"""The neighbours are so many that a share of `secure_terms.TRAITORS`, in league with the server,
cuts the ring with this chance at most."""
_SHARES = 1 << 32
"""Noise added in shares has streams of its own."""

Matrix = NDArray[np.float64]
Words = NDArray[np.uint64]


def neighbours_of(clients: int) -> int:
    """How many neighbours each client has: even, or all others where there are few."""
    wanted = 2
    while cut_chance(clients, wanted) > CHANCE:
        wanted += 2
    return min(wanted, clients - 1)


def agreed(clients: int) -> list[Masks]:
    """Keys agreed around a ring of `clients`: each one's masks.

    Raises:
        JobError: there are fewer than three clients, so that a sum tells one what another sent.
    """
    if clients < 3:
        raise JobError(
            f"a secure sum of {clients} clients tells what a client sent",
            mend="Let three or more take part in a round.",
        )
    names = [str(place) for place in range(clients)]
    keys = [MaskKey() for _ in names]
    roster = Roster("fedrec", tuple(names), tuple(key.public for key in keys))
    order = list(range(clients))
    secrets.SystemRandom().shuffle(order)
    near: list[set[str]] = [set() for _ in names]
    half = -(-neighbours_of(clients) // 2)
    for at, one in enumerate(order):
        for away in range(1, half + 1):
            other = order[(at + away) % clients]
            if other != one:
                near[one].add(names[other])
                near[other].add(names[one])
    return [
        key.masks(name, roster, peers=near[place])
        for place, (name, key) in enumerate(zip(names, keys, strict=True))
    ]


def encoded(values: Matrix, clients: int) -> Words:
    """Numbers as words, float64 [k] to uint64 [k], of one of `clients`.

    Raises:
        JobError: a number is so large that the sum could leave the words' range.
    """
    most = float(np.abs(values).max(initial=0.0))
    if not most * clients < LIMIT:
        raise JobError(
            f"a client's upload has a number of {most:.3g}, beyond {LIMIT / clients:.3g}, what "
            f"the words of {clients} clients hold",
            mend="Lower the learning rates, or set --clip.",
        )
    return np.rint(values / STEP).astype(np.int64).view(np.uint64)


def decoded(words: Words) -> Matrix:
    """The inverse of `encoded`, of a sum: float64 [k]."""
    return words.view(np.int64).astype(np.float64) * STEP


@dataclass(eq=False)
class SecureSum:
    """The task's `sealing`: the server's aggregator can add up uploads, and not look at them."""

    task: Task
    noise: float = 0.0
    """Deviation of normal noise on each number of the sums; each client adds its share."""
    masked: bool = True
    """False leaves the masks out, which cancel modulo 2^64: the same sums bit for bit, sooner."""
    dropouts: float = 0.0
    """The share of a round's clients that is lost in the middle of its sum; drawn by seed."""
    _agreed: dict[bytes, list[Masks]] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """What sums withstand that survive dropouts."""
        return rules_for(self.dropouts)

    def drops(self, clients: int, number: int) -> Drops | None:
        """Who is lost of so many clients of round `number`; None where dropouts are not simulated.

        Raises:
            JobError: there are fewer than three clients.
        """
        if self.dropouts == 0:
            return None
        terms = self.rules.terms(clients)
        return Drops.drawn(self.task.seed, number, self.dropouts, terms)

    def seal(self, uploads: list[Uploads], number: int) -> Uploads:
        """All uploads of round `number` as one that has no rows, to be added up with `Sums`."""
        whole = joined(uploads)
        count = len(whole.clients)
        sealed = Sealed(self, whole, number, self.drops(count, number))
        return replace(
            whole,
            indptr=np.zeros(count + 1, np.int64),
            items=whole.items[:0],
            rows=whole.rows[:0],
            network=np.zeros((count, 0), np.float32),
            counts=whole.counts[:0],
            user=np.zeros((count, 0), np.float32),
            sealed=sealed,
        )

    def masks(self, clients: Longs) -> list[Masks]:
        """Masks for this cohort; while it is among the last `COHORTS`, of the same keys."""
        key = clients.tobytes()
        if key not in self._agreed:
            while len(self._agreed) >= COHORTS:
                self._agreed.pop(next(iter(self._agreed)))
            self._agreed[key] = agreed(len(clients))
        return self._agreed[key]

    def total(
        self, vectors: Iterator[Matrix], clients: Longs, drops: Drops | None = None
    ) -> Matrix:
        """The sum of a vector of each of `clients`, float64 [k], by masked words; with `drops` of
        those that survive.
        """
        words = (encoded(vector, len(clients)) for vector in vectors)
        if drops is not None:
            return decoded(self._survivors(words, drops))
        masks = self.masks(clients) if self.masked else [None] * len(clients)
        total: Words | None = None
        for mine, one in zip(masks, words, strict=True):
            # On the device.
            if mine is not None:
                mine.add_to(one, "round")
            # At the server.
            total = one if total is None else total + one
        assert total is not None
        return decoded(total)

    def _survivors(self, words: Iterator[Words], drops: Drops) -> Words:
        if self.masked:
            return masked_sum(words, drops, self.rules)
        pairs = zip(words, drops.survive, strict=True)
        return reduce(np.add, (one for one, there in pairs if there))


@dataclass(eq=False)
class Sealed:
    """A round's uploads that give their sum, once."""

    by: SecureSum
    uploads: Uploads
    number: int
    drops: Drops | None = None
    used: bool = False

    @property
    def up(self) -> int:
        """Bytes from all clients: the masked words, and a public key each; with dropouts all that
        the protocol has them send.
        """
        clients = len(self.uploads.clients)
        items, dim = self.uploads.starts.items.shape[1:]
        words = items * (dim + 1) + self.uploads.network.shape[1] + 1
        if self.drops is not None:
            return bytes_up(self.drops, words, self.by.rules.terms(clients))
        return int(clients * (8 * words + 32))

    def add(self, sums: Sums, weight: Matrix) -> None:
        """Add the clients' weighted changes to `sums`, by masked words.

        Raises:
            JobError: the weights are not the clients' own or all alike, or it is the second time:
                sums with different weights would tell clients apart.
        """
        uploads, count = self.uploads, len(self.uploads.clients)
        alike = bool((weight == weight[:1]).all())
        if self.used or not (alike or np.array_equal(weight, uploads.weight)):
            raise JobError(
                "under a secure sum uploads are added up once, by the clients' own weights",
                mend="Pass `uploads.weight`, or ones.",
            )
        self.used = True
        if self.by.noise > 0:
            # A weight would scale what the clip has bounded.
            weight = np.ones(count)
        parts = (self._contribution(place, float(weight[place])) for place in range(count))
        total = self.by.total(parts, uploads.clients, self.drops)
        at = offsets(np.array([sums.items.size, sums.mass.size, sums.network.size, 1]))
        found = [total[at[k] : at[k + 1]] for k in range(4)]
        sums.items += found[0].reshape(sums.items.shape)
        sums.mass += found[1]
        sums.network += found[2]
        sums.weight += float(found[3][0])
        sums.clients += count if self.drops is None else int(self.drops.survive.sum())

    @property
    def _least(self) -> int:
        """Clients of the sum, the fewest that it can have: their noise alone must be enough."""
        count = len(self.uploads.clients)
        return count if self.drops is None else count - self.by.rules.terms(count).lost

    def _contribution(self, place: int, weight: float) -> Matrix:
        """What a client adds to the sums: changes, masses, network, weight."""
        uploads = self.uploads
        own = slice(uploads.indptr[place], uploads.indptr[place + 1])
        touched, table = uploads.items[own], uploads.starts.of[uploads.clients[place]]
        start = uploads.starts.items[table]
        changes = np.zeros(start.shape)
        changes[touched] = weight * (uploads.rows[own].astype(np.float64) - start[touched])
        network = weight * (
            uploads.network[place].astype(np.float64) - uploads.starts.network[table]
        )
        mass = np.zeros(len(start))
        if self.by.noise > 0:
            # Which rows were touched would be told without noise.
            mass[:] = weight
            share = self.by.noise / math.sqrt(self._least)
            task = self.by.task
            client = int(task.shard.identity[uploads.clients[place]])
            _add_share(changes, network, task.seed, self.number + _SHARES, client, share)
        else:
            mass[touched] = weight
        return np.concatenate([changes.ravel(), mass, network, [weight]])


def joined(uploads: list[Uploads]) -> Uploads:
    """The chunks of a round as one."""
    if len(uploads) == 1:
        return uploads[0]
    counts = np.concatenate([np.diff(one.indptr) for one in uploads])

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in uploads])

    return Uploads(
        together("clients"), offsets(counts), together("items"), together("rows"),
        together("network"), together("weight"), uploads[0].starts, together("user"),
        together("counts"), together("loss"),
    )  # fmt: skip


@compiled
def _add_share(
    changes: np.ndarray, network: np.ndarray, seed: int, number: int, client: int, share: float
) -> None:
    state = randomness.stream(seed, randomness.NOISE, number, client)
    for i in range(changes.shape[0]):
        for j in range(changes.shape[1]):
            state, drawn = randomness.gaussian(state)
            changes[i, j] += share * drawn
    for j in range(len(network)):
        state, drawn = randomness.gaussian(state)
        network[j] += share * drawn
