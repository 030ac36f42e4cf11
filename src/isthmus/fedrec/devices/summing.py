"""Sums under masks between devices: each shard is one client of the secure sum.

A shard adds up what its own clients send, and the server sees the sum over shards alone; who is
lost in the middle of it is left out of the sum, and the round goes on. The protocol, and what it
withstands, is that of `privacy.secure_server`; a third of the shards may be lost, as they are few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import BadMessage, JobError, TrainError
from isthmus.fedrec.devices.wire import LARGEST, Answer, Array, Arrays, Ask, taken
from isthmus.fedrec.population import Longs, offsets
from isthmus.fedrec.privacy.secure_client import Client
from isthmus.fedrec.privacy.secure_server import Server
from isthmus.fedrec.privacy.secure_sum import decoded, encoded
from isthmus.fedrec.privacy.secure_terms import LEAST, Rules
from isthmus.fedrec.privacy.secure_wire import Seat
from isthmus.fedrec.uploads import Shared, Sums, Tables, Uploads

if TYPE_CHECKING:
    from isthmus.fedrec.devices.crew import Carrier, Request

RULES = Rules(lost=1 / 3)
_OWN, _ALIKE = "share own", "share alike"
"""The second step, and by which weights clients are added up."""
_MASKED, _ANSWER = "masked", "answer"


def packed(message: bytes) -> dict[str, Array]:
    """A message of the protocol as arrays of a link."""
    return {"message": np.frombuffer(message, np.uint8)}


def unpacked(arrays: Arrays) -> bytes:
    """Raises BadMessage."""
    found: Array = taken(arrays, "message", np.uint8, (-1,))
    return found.tobytes()


class Summand:
    """A shard's part of one round's sum.

    Args:
        tables: what its clients began from; only the shapes matter.
    """

    def __init__(self, tables: Tables) -> None:
        like = Shared(tables.items[0], tables.network[0])
        self._client = Client(RULES)
        self._sums = {_OWN: Sums.like(like), _ALIKE: Sums.like(like)}
        self._chosen: Sums | None = None
        self._parties = 0
        self.clients: list[Longs] = []

    def add(self, chunk: Uploads) -> None:
        """Take in some of the shard's clients, guards applied."""
        self._sums[_OWN].add(chunk, chunk.weight)
        self._sums[_ALIKE].add(chunk, np.ones(len(chunk.clients)))
        self.clients.append(chunk.clients)

    def join(self) -> bytes:
        """Our keys."""
        return self._client.join()

    def answer(self, step: str, message: bytes) -> bytes:
        """What we send in the next step.

        Raises:
            BadMessage: the step is none, or out of turn; or see `secure_client.Client`.
            JobError: numbers are too large for the words.
        """
        if step in self._sums:
            said = self._client.share(message)
            self._parties = Seat.unpack(message, RULES).terms.clients
            self._chosen = self._sums[step]
            self._sums = {}
            return said
        if step == _MASKED and self._chosen is not None:
            sums = self._chosen
            weight = np.array([sums.weight])
            vector = np.concatenate([sums.items.ravel(), sums.mass, sums.network, weight])
            return self._client.masked(message, encoded(vector, self._parties))
        if step == _ANSWER:
            return self._client.answer(message)
        raise BadMessage("the server asks for a step of the sum that is none, or out of turn")


@dataclass(eq=False)
class _Said:
    """Collects one message of the protocol."""

    largest: int
    message: bytes = b""

    def add(self, answer: Answer, arrays: Arrays) -> None:
        if answer.kind != "sum" or not answer.last:
            raise BadMessage(f"it answered {answer.kind} where a step of the sum was asked")
        found = unpacked(arrays)
        if len(found) > self.largest:
            raise BadMessage("a message of a secure sum is too long")
        self.message = found


@dataclass(eq=False)
class ShardSums:
    """A round's uploads that give the sum over shards, once (`uploads.Sealed`)."""

    carrier: Carrier
    request: Callable[[Ask, Mapping[str, Array], _Said], Request]
    number: int
    keys: dict[str, bytes]
    """What each shard that trained sent first."""
    settle: Callable[[set[str], dict[str, str]], None]
    """Told whose numbers are in the sum, and who was lost and why, before the sum is given."""
    used: bool = False
    up: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _survivors: list[int] = field(default_factory=list)

    def add(self, sums: Sums, weight: NDArray[np.float64]) -> None:
        """Add the sum over the shards that are left to `sums`.

        Raises:
            JobError: the weights are not the clients' own (which are not known here, NaN) nor 1,
                or it is the second time.
            TrainError: there are fewer than three shards, too many were lost, or the sum is
                impossible.
        """
        own = bool(np.isnan(weight).all())
        if self.used or not (own or bool((weight == 1).all())):
            raise JobError(
                "under a secure sum uploads are added up once, by the clients' own weights",
                mend="Pass `uploads.weight`, or ones.",
            )
        self.used = True
        if len(self.keys) < LEAST:
            raise TrainError(
                f"only {len(self.keys)} shards took part in round {self.number}: a secure sum of "
                "so few tells what a shard sent",
                mend="Three or more must be there; --resume goes on from a checkpoint, if any.",
            )
        words = sums.items.size + sums.mass.size + sums.network.size + 1
        try:
            found = decoded(self._total(_OWN if own else _ALIKE, words))
            at = offsets(np.array([sums.items.size, sums.mass.size, sums.network.size, 1]))
            items, mass, network, rest = (found[at[k] : at[k + 1]] for k in range(4))
            _check(items, mass, network, float(rest[0]))
        except TrainError as error:
            why = "; ".join(f"{name} {reason}" for name, reason in self.lost.items())
            raise TrainError(
                f"the secure sum of round {self.number} over {len(self.keys)} shards cannot be "
                f"had: {error.message}" + (f" ({why})" if why else ""),
                mend="See to those that are missing; --resume goes on from a checkpoint, if any.",
            ) from error
        sums.items += items.reshape(sums.items.shape)
        sums.mass += mass
        sums.network += network
        sums.weight += float(rest[0])
        self.settle({self._names[at] for at in self._survivors}, self.lost)

    def _total(self, share: str, words: int) -> NDArray[np.uint64]:
        names = self._names = sorted(self.keys)
        server = Server(RULES, words)
        self.up += sum(map(len, self.keys.values()))
        try:
            seats = server.seat({at: self.keys[name] for at, name in enumerate(names)})
            boxes = server.deal(self._asked(names, share, seats, words))
            for at, message in self._asked(names, _MASKED, boxes, words).items():
                server.take(at, message)
            lists = server.announce()
            self._survivors = server.survivors
            return server.total(self._asked(names, _ANSWER, lists, words))
        finally:
            for at, why in server.refused.items():
                self.lost.setdefault(names[at], f"was left out of the sum: {why}")

    def _asked(
        self, names: list[str], step: str, messages: Mapping[int, bytes], words: int
    ) -> dict[int, bytes]:
        """Send each shard its message; what they answer."""
        ask = Ask(kind="sum", number=self.number, what=step)
        largest = 8 * words + 64 * (len(names) + 2)
        said = {at: _Said(largest) for at in messages}
        requests = {
            names[at]: self.request(ask, packed(one), said[at]) for at, one in messages.items()
        }
        left_out = self.carrier.ask(requests)
        for name, why in left_out.items():
            self.lost.setdefault(name, f"{why}, in the middle of the secure sum")
        found = {at: one.message for at, one in said.items() if names[at] not in left_out}
        self.up += sum(map(len, found.values()))
        return found


def _check(
    items: NDArray[np.float64],
    mass: NDArray[np.float64],
    network: NDArray[np.float64],
    weight: float,
) -> None:
    """Refuse a sum that no clients could have: under masks nobody sees whose words are wrong."""
    slack = 1e-3
    most = 2 * LARGEST * weight + slack
    possible = (
        weight > 0
        and -slack <= float(mass.min(initial=0.0))
        and float(mass.max(initial=0.0)) <= weight + slack
        and float(np.abs(items).max(initial=0.0)) <= most
        and float(np.abs(network).max(initial=0.0)) <= most
    )
    if not possible:
        raise TrainError("it is impossible, so that a shard sent wrong words")
