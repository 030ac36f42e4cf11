"""The server's side of methods of one round on devices: sums of words, and candidates judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from isthmus.errors import BadMessage, JobError, TrainError
from isthmus.fedrec.algorithms._one_round import Words, WordSum
from isthmus.fedrec.algorithms.ordered_pairs import GAIN
from isthmus.fedrec.devices.carrier import Request
from isthmus.fedrec.devices.masking import SHARE, Adding, unpacked
from isthmus.fedrec.devices.notes import RoundNotes
from isthmus.fedrec.devices.wire import MESSAGE_LIMIT, Answer, Arrays, Ask, taken
from isthmus.fedrec.method import Arrays as State
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy.secure_wire import Keys

if TYPE_CHECKING:
    from isthmus.fedrec.devices.crew import Crew

Given = Mapping[str, Arrays]
"""What goes down to each shard."""
GAINS = "gains"
"""The sum of what candidates are worth, asked for after they were judged."""
_MOST = round(1 / GAIN)
"""What a candidate can be worth to one client."""


def words(crew: Crew, one: WordSum, number: int) -> Words:
    """The sum of words over the shards that are there, see `Fleet.words`.

    Under masks each shard gives each sum once (with what was given for it): two sums over
    different shards would tell what those add that are in one of them alone. Later rounds get the
    same sum again, unless there is something given.

    Raises:
        JobError: they are more than a message holds.
        TrainError: too few took part.
    """
    if one.name in crew.sums:
        crew.notes.append(replace(crew.notes[0], left_out={}))
        return crew.sums[one.name]
    crew.ready(number)
    note = RoundNotes(number, crew.census.clients)
    crew.notes.append(note)
    there = crew.carrier.present()
    note.absent = crew.census.clients - sum(len(own) for own in there.values())
    found = added_up(crew, one, note, there, dict.fromkeys(there, one.given))
    if crew.masked and not one.given:
        crew.sums[one.name] = found
    return found


def added_up(
    crew: Crew, one: WordSum, note: RoundNotes, there: dict[str, Longs], given: Given
) -> Words:
    """The sum over the clients of these shards, of those that are not lost.

    Args:
        crew: whose carrier and masks are used.
        one: the sum.
        note: told who is left out, and how many clients are in the sum.
        there: the clients of each shard.
        given: what goes down to each.

    Raises:
        JobError: it is more than a message holds.
        TrainError: too few are in the sum.
    """
    if 8 * one.words > MESSAGE_LIMIT:
        raise JobError(
            f"the sum that {crew.census.items} items need, {8 * one.words / 1e9:.1f} GB, is more "
            "than a message holds",
            mend="Take an algorithm with a shared table, or for ordered-pairs a lower whole_items.",
        )
    return (_masked if crew.masked else _plain)(crew, one, note, there, given)


def _plain(
    crew: Crew, one: WordSum, note: RoundNotes, there: dict[str, Longs], given: Given
) -> Words:
    collectors = {name: _Counted(one, len(own)) for name, own in there.items()}
    ask = Ask(kind="total", number=note.number, what=one.name)
    note.left_out |= crew.carrier.ask(
        {name: Request(ask, given[name], it) for name, it in collectors.items()}
    )
    came = [it for name, it in collectors.items() if name not in note.left_out]
    note.trained = sum(it.clients for it in came)
    crew.enough(note)
    out = np.zeros(one.words, np.uint64)
    for it in came:
        out += it.found
    return out


def _masked(
    crew: Crew, one: WordSum, note: RoundNotes, there: dict[str, Longs], given: Given
) -> Words:
    def counted(names: set[str]) -> int:
        return sum(len(there[name]) for name in names)

    keys, left_out = _keys(crew, note.number, one.name, given)
    note.left_out |= left_out
    note.trained = counted(set(keys))
    crew.enough(note)
    adding = Adding(crew.carrier, note.number, keys)

    def possible(found: Words) -> bool:
        return one.possible(found, counted(adding.survivors))

    total = adding.total(SHARE, one.words, possible)
    note.left_out |= adding.lost
    note.trained = counted(adding.survivors)
    crew.enough(note)
    return total


def _keys(
    crew: Crew, number: int, what: str, given: Given
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The keys of those that begin a sum, and who did not and why."""
    ask = Ask(kind="total", number=number, what=what)
    collectors = {name: _FirstKeys() for name in sorted(given)}
    left_out = crew.carrier.ask(
        {name: Request(ask, given[name], it) for name, it in collectors.items()}
    )
    return {name: it.keys for name, it in collectors.items() if name not in left_out}, left_out


def gains(crew: Crew, candidates: Iterator[State], clients: Longs) -> list[int]:
    """What candidates are worth to these clients, see `Fleet.gains`.

    Only shards that have judged all of them count, so that all are judged by the same clients.

    Raises:
        TrainError: nobody is left.
    """
    note = crew.notes[-1]
    there = crew.carrier.present()
    judges = {name: np.intersect1d(own, clients) for name, own in there.items()}
    judges = {name: own for name, own in judges.items() if len(own)}
    told: dict[str, list[int]] = {name: [] for name in judges}
    for place, state in enumerate(candidates):
        ask = Ask(kind="try", number=note.number, what=str(place))
        collectors = {name: _Tried(len(judges[name]), crew.masked) for name in told}
        requests = {
            name: Request(ask, state | {"clients": judges[name]}, it)
            for name, it in collectors.items()
        }
        for name, why in crew.carrier.ask(requests).items():
            note.left_out.setdefault(name, f"did not choose: {why}")
            del told[name]
        for name, found in told.items():
            found.append(collectors[name].units)
    if not told:
        raise TrainError(
            "no shard judged the candidates of ordered pairs",
            mend="See to the shards, or set ordered_ridge, both_ridge and blend yourself.",
        )
    count = max(len(one) for one in told.values())
    if not crew.masked:
        return [sum(one[place] for one in told.values()) for place in range(count)]
    return _added_gains(crew, note, {name: len(judges[name]) for name in told}, count)


def _added_gains(crew: Crew, note: RoundNotes, judges: dict[str, int], count: int) -> list[int]:
    keys, lost = _keys(crew, note.number, GAINS, {name: {} for name in judges})
    adding = Adding(crew.carrier, note.number, keys)

    def possible(found: Words) -> bool:
        most = _MOST * sum(judges[name] for name in adding.survivors)
        return int(found.max(initial=0)) <= most

    total = adding.total(SHARE, count, possible)
    for name, why in (lost | adding.lost).items():
        note.left_out.setdefault(name, f"did not choose: {why}")
    return [int(one) for one in total]


@dataclass(eq=False)
class _Counted:
    """A shard's part of a sum, in the clear."""

    one: WordSum
    clients: int
    found: Words = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, answer: Answer, arrays: Arrays) -> None:
        _whole_answer(answer, "total")
        found = taken(arrays, "words", np.uint64, (self.one.words,))
        if not self.one.possible(found, self.clients):
            raise BadMessage("the sum is none of so many clients")
        self.found = np.array(found)


@dataclass(eq=False)
class _FirstKeys:
    """A shard's keys of a sum under masks."""

    keys: bytes = b""

    def add(self, answer: Answer, arrays: Arrays) -> None:
        _whole_answer(answer, "total")
        if set(arrays) != {"message"}:
            raise BadMessage("it sent numbers where a sum under masks was asked")
        self.keys = Keys.unpack(unpacked(arrays)).pack()


@dataclass(eq=False)
class _Tried:
    """What a candidate is worth to a shard's clients; under masks only that they have judged."""

    clients: int
    masked: bool
    units: int = 0

    def add(self, answer: Answer, arrays: Arrays) -> None:
        _whole_answer(answer, "try")
        if self.masked:
            if arrays:
                raise BadMessage("it sent figures where a sum under masks was asked")
            return
        found = int(taken(arrays, "units", np.int64, (1,))[0])
        if not 0 <= found <= _MOST * self.clients:
            raise BadMessage("a candidate cannot be worth so much")
        self.units = found


def _whole_answer(answer: Answer, kind: str) -> None:
    if answer.kind != kind or not answer.last:
        raise BadMessage(f"it answered {answer.kind} where {kind} was asked")
