"""One secure sum between devices, of any words: each shard is one client of the protocol.

The protocol, and what it withstands, is that of `privacy.secure_server`; a third of the shards may
be lost, as they are few. What the words are of stands in `summing` and `one_round`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from isthmus.errors import BadMessage, TrainError
from isthmus.fedrec.devices.carrier import Carrier, Request
from isthmus.fedrec.devices.wire import Answer, Array, Arrays, Ask, taken
from isthmus.fedrec.privacy.secure_client import Client
from isthmus.fedrec.privacy.secure_server import Server
from isthmus.fedrec.privacy.secure_terms import LEAST, SHARDS
from isthmus.fedrec.privacy.secure_wire import Seat, Words

RULES = SHARDS
SHARE, MASKED, ANSWER = "share", "masked", "answer"
"""The steps after the keys; the first also names the words, where there is a choice."""


def packed(message: bytes) -> dict[str, Array]:
    """A message of the protocol as arrays of a link."""
    return {"message": np.frombuffer(message, np.uint8)}


def unpacked(arrays: Arrays) -> bytes:
    """Raises BadMessage."""
    found: Array = taken(arrays, "message", np.uint8, (-1,))
    return found.tobytes()


class Masker:
    """A shard's part of one sum.

    Args:
        choices: by the name of the second step what makes our words, given the number of shards.
    """

    def __init__(self, choices: Mapping[str, Callable[[int], Words]]) -> None:
        self._client = Client(RULES)
        self._choices = dict(choices)
        self._chosen: Callable[[int], Words] | None = None
        self._parties = 0

    def join(self) -> bytes:
        """Our keys."""
        return self._client.join()

    def answer(self, step: str, message: bytes) -> bytes:
        """What we send in the next step.

        Raises:
            BadMessage: the step is none, or out of turn; or see `secure_client.Client`.
            JobError: numbers are too large for the words.
        """
        if step in self._choices:
            said = self._client.share(message)
            self._parties = Seat.unpack(message, RULES).terms.clients
            self._chosen = self._choices[step]
            self._choices = {}
            return said
        if step == MASKED and self._chosen is not None:
            words, self._chosen = self._chosen(self._parties), None
            return self._client.masked(message, words)
        if step == ANSWER:
            return self._client.answer(message)
        raise BadMessage("the server asks for a step of the sum that is none, or out of turn")


@dataclass(eq=False)
class _Said:
    """Collects one message of the protocol."""

    largest: int
    keep: Callable[[bytes], None]
    size: int = 0

    def add(self, answer: Answer, arrays: Arrays) -> None:
        if answer.kind != "sum" or not answer.last:
            raise BadMessage(f"it answered {answer.kind} where a step of the sum was asked")
        found = unpacked(arrays)
        if len(found) > self.largest:
            raise BadMessage("a message of a secure sum is too long")
        self.size = len(found)
        self.keep(found)


@dataclass(eq=False)
class Adding:
    """The server's part of one sum over shards."""

    carrier: Carrier
    number: int
    keys: dict[str, bytes]
    """What each shard sent first."""
    up: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    """Shards that were lost in the middle, and why."""
    survivors: set[str] = field(default_factory=set)
    """Those whose words are in the sum."""

    def total(self, share: str, words: int, check: Callable[[Words], bool]) -> Words:
        """The sum over the shards that are left.

        Args:
            share: which words.
            words: how many they are.
            check: whether a sum can be.

        Raises:
            TrainError: there are fewer than three shards, too many were lost, or the sum is
                impossible.
        """
        mend = "to those that are missing; --resume goes on from a checkpoint, if any."
        if len(self.keys) < LEAST:
            raise TrainError(
                f"only {len(self.keys)} shards took part in round {self.number}: a secure sum of "
                "so few tells what a shard sent",
                mend="Three or more must be there; --resume goes on from a checkpoint, if any.",
            )
        try:
            found = self._total(share, words)
            if not check(found):
                raise TrainError("it is impossible, so that a shard sent wrong words")
        except TrainError as error:
            why = "; ".join(f"{name} {reason}" for name, reason in self.lost.items())
            raise TrainError(
                f"the secure sum of round {self.number} over {len(self.keys)} shards cannot be "
                f"had: {error.message}" + (f" ({why})" if why else ""),
                mend=f"See {mend}",
            ) from error
        return found

    def _total(self, share: str, words: int) -> Words:
        names = sorted(self.keys)
        server = Server(RULES, words)
        lock = threading.Lock()

        def take(at: int, message: bytes) -> None:
            with lock:
                server.take(at, message)

        self.up += sum(map(len, self.keys.values()))
        try:
            seats = server.seat({at: self.keys[name] for at, name in enumerate(names)})
            boxes = server.deal(self._asked(names, share, seats))
            # Words are many: each shard's are added as they come, and not kept.
            self._send(names, MASKED, boxes, 8 * words, take)
            with lock:
                lists = server.announce()
            self.survivors = {names[at] for at in server.survivors}
            return server.total(self._asked(names, ANSWER, lists))
        finally:
            for at, why in server.refused.items():
                self.lost.setdefault(names[at], f"was left out of the sum: {why}")

    def _asked(
        self, names: list[str], step: str, messages: Mapping[int, bytes]
    ) -> dict[int, bytes]:
        """Send each shard its message; what those answer that are not lost."""
        found: dict[int, bytes] = {}
        left_out = self._send(names, step, messages, 0, found.__setitem__)
        return {at: one for at, one in found.items() if names[at] not in left_out}

    def _send(
        self,
        names: list[str],
        step: str,
        messages: Mapping[int, bytes],
        words: int,
        keep: Callable[[int, bytes], None],
    ) -> dict[str, str]:
        ask = Ask(kind="sum", number=self.number, what=step)
        largest = words + 64 * (len(names) + 2)
        said = {at: _Said(largest, lambda one, at=at: keep(at, one)) for at in messages}  # type: ignore[misc]
        requests = {names[at]: Request(ask, packed(one), said[at]) for at, one in messages.items()}
        left_out = self.carrier.ask(requests)
        for name, why in left_out.items():
            self.lost.setdefault(name, f"{why}, in the middle of the secure sum")
        self.up += sum(one.size for one in said.values())
        return left_out
