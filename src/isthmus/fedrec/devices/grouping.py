"""The server's side of FedCA from noised sketches on devices: sketches, and sums by group."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import BadMessage
from isthmus.fedrec.algorithms._one_round import Words, WordSum
from isthmus.fedrec.algorithms.fedca_sketched import SketchedFedCA
from isthmus.fedrec.devices.carrier import Request
from isthmus.fedrec.devices.mixing import Taken
from isthmus.fedrec.devices.notes import RoundNotes
from isthmus.fedrec.devices.one_round import added_up
from isthmus.fedrec.devices.wire import LARGEST, Answer, Arrays, Ask, check_loss, taken
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy.secure_sum import decoded

if TYPE_CHECKING:
    from isthmus.fedrec.devices.crew import Crew

GROUPS = "groups"
"""The sum of tables by group."""
_TAIL = 40
"""Deviations that no normal number passes."""


def by_groups(crew: Crew, method: SketchedFedCA, number: int) -> tuple[int, int]:
    """One round, see `Fleet.by_groups`.

    Raises:
        JobError: the sum is more than a message holds.
        TrainError: too few took part.
    """
    crew.ready(number)
    note = RoundNotes(number, crew.census.clients)
    crew.notes.append(note)
    units = _trained(crew, note)
    sketched = _sketched(crew, note, method)
    there = {name: own for name, own in crew.trained_by.items() if name not in note.left_out}
    clients = np.sort(np.concatenate([np.zeros(0, np.int64), *there.values()]))
    note.trained = len(clients)
    crew.enough(note)
    of, directions = method.gathered(clients)
    given: dict[str, Arrays] = {
        name: {
            "clients": own, "of": of[np.searchsorted(clients, own)], "directions": directions,
        }
        for name, own in there.items()
    }  # fmt: skip
    one = group_sum(method, len(directions))
    words = added_up(crew, one, note, there, given)
    means, sizes = method.means(words)
    crew.units = sum(units[name] for name in there if name not in note.left_out)
    full = sizes > 0
    _hand(crew, note, {"means": means[full], "sizes": sizes[full], "directions": directions[full]})
    return words.nbytes * len(there) + sketched, int(full.sum())


def group_sum(method: SketchedFedCA, groups: int) -> WordSum:
    """The sum of tables over clients, by group, and how many each has."""
    size = groups * method.size

    def possible(words: Words, clients: int) -> bool:
        counts = words[size:].astype(np.float64)
        sums = np.abs(decoded(words[:size])).reshape(groups, -1).max(axis=1)
        return float(counts.sum()) == clients and bool((sums <= LARGEST * counts).all())

    def mine() -> Words:
        raise AssertionError("the server has no clients of its own")

    return WordSum(GROUPS, size + groups, mine, possible)


def _trained(crew: Crew, note: RoundNotes) -> dict[str, int]:
    """Have all clients that are there train; the sums of losses."""
    there = crew.carrier.present()
    note.absent = crew.census.clients - sum(len(own) for own in there.values())
    found = {name: _Loss(len(own)) for name, own in there.items()}
    ask = Ask(kind="train", number=note.number)
    note.left_out = crew.carrier.ask(
        {name: Request(ask, {"clients": there[name]}, one) for name, one in found.items()}
    )
    crew.trained_by = {name: own for name, own in there.items() if name not in note.left_out}
    note.trained = sum(len(own) for own in crew.trained_by.values())
    crew.enough(note)
    return {name: found[name].units for name in crew.trained_by}


def _sketched(crew: Crew, note: RoundNotes, method: SketchedFedCA) -> int:
    """Ask for the sketches of those that have no group yet; the bytes of them."""
    new = {name: own[method.of[own] < 0] for name, own in crew.trained_by.items()}
    found = {name: _Sketches(method, own) for name, own in new.items() if len(own)}
    ask = Ask(kind="sketch", number=note.number)
    note.left_out |= crew.carrier.ask(
        {name: Request(ask, {"clients": new[name]}, one) for name, one in found.items()}
    )
    came = [one for name, one in found.items() if name not in note.left_out]
    if not came:
        return 0
    clients = np.concatenate([one.clients for one in came])
    sketches = np.concatenate([one.found for one in came])
    order = np.argsort(clients)
    method.form(clients[order], sketches[order])
    return sketches.nbytes


def _hand(crew: Crew, note: RoundNotes, arrays: Arrays) -> None:
    ask = Ask(kind="mix", number=note.number, keep=note.number % crew.keep_every == 0)
    names = [name for name in crew.trained_by if name not in note.left_out]
    for name, why in crew.carrier.ask(
        {name: Request(ask, arrays, Taken()) for name in names}
    ).items():
        note.left_out.setdefault(name, f"did not take the groups' means: {why}")


@dataclass(eq=False)
class _Loss:
    """That a shard's clients have trained; their tables stay with them."""

    clients: int
    units: int = 0

    def add(self, answer: Answer, arrays: Arrays) -> None:
        if answer.kind != "train" or not answer.last or arrays:
            raise BadMessage("it did not say that its clients have trained, and no more")
        self.units = check_loss(answer.loss, self.clients)


@dataclass(eq=False)
class _Sketches:
    """The noised sketches of some clients."""

    method: SketchedFedCA
    clients: Longs
    found: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, answer: Answer, arrays: Arrays) -> None:
        if answer.kind != "sketch" or not answer.last:
            raise BadMessage(f"it answered {answer.kind} where sketches were asked")
        shape = (len(self.clients), self.method.settings.sketch)
        found = taken(arrays, "sketches", np.float64, shape)
        # NaN is not below anything.
        if not float(np.abs(found).max()) <= 1 + _TAIL * self.method.deviation:
            raise BadMessage("sketches hold NaN, infinity or a number that is too large")
        self.found = np.array(found)
