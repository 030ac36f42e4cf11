"""How methods are judged, as stated rules: what is held out and ranked, what chooses the round.

The `authors` protocol is that of the FedCA, PFedRec, GPFedRec, FedRAP, FedEM and CoFedRec codes. It
leaks: held-out items are never drawn as training negatives, so that they are the only candidates
that no training pushes down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.compiled import compiled
from isthmus.fedrec.engine import Candidates
from isthmus.fedrec.population import (
    NONE,
    Interactions,
    Ints,
    Longs,
    Population,
    Ragged,
    Split,
    leave_out,
)
from isthmus.fedrec.task import Task

Part = Literal["valid", "test"]
PARTS: tuple[Part, Part] = ("valid", "test")


@dataclass(frozen=True)
class EvalProtocol:
    """One way of judging. Two protocols with the same `ground` share one training."""

    name: str
    file_order: bool
    """Without times, take the order of items' first appearance for one; else draw what is held
    out."""
    leaks: bool
    """Held-out items are never training negatives."""
    candidates: int | None
    """Items drawn against the held-out one, never from those that the client has; None ranks it
    among all items that the client does not have in training."""
    same_candidates: bool
    """Validation and test rank against the same candidates."""
    choose_on: Part
    """What the round of the result is chosen on."""
    choose_by: str
    """The metric that chooses it."""
    ties_against: bool
    """An equal score counts as ahead of the held-out item; else ties are broken by draw."""

    @property
    def ground(self) -> tuple[bool, bool]:
        """What training depends on."""
        return self.file_order, self.leaks

    def split(self, data: Interactions) -> Split:
        """How held-out items are chosen on this data."""
        return "last" if self.file_order or data.order == "time" else "random"


PROTOCOLS = {
    one.name: one
    for one in (
        EvalProtocol("authors", True, True, 99, True, "test", "hr@10", True),
        EvalProtocol("honest-sampled", False, False, 99, False, "valid", "ndcg@10", False),
        EvalProtocol("full-ranking", False, False, None, False, "valid", "ndcg@10", False),
    )
}


def protocol(name: str) -> EvalProtocol:
    """The protocol called `name`.

    Raises:
        JobError: there is none.
    """
    if name not in PROTOCOLS:
        raise JobError(f"there is no protocol {name!r}", mend=f"Known: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def fewer_drawn(rules: EvalProtocol, short: int, clients: int) -> list[str]:
    """What to say where `short` of `clients` have fewer items than are to be drawn; or nothing."""
    if not short:
        return []
    who = "every client has" if short == clients else f"{short:,} of {clients:,} clients have"
    return [
        f"{rules.name} draws {rules.candidates} items that a client does not have; {who} fewer "
        "to draw from, and all of those are ranked, as under full-ranking."
    ]


def make_task(
    data: Interactions, rules: EvalProtocol, seed: int, *, threads: int = 1, memory: int = 1 << 30
) -> Task:
    """The task that methods train on under these rules."""
    population = leave_out(data, rules.split(data), seed)
    avoid = population.seen if rules.leaks else population.train
    return Task(population, avoid, seed, threads, memory)


@dataclass(frozen=True, eq=False)
class Exam:
    """What is ranked for each client: the held-out item against candidates.

    Under sampling the candidates of client u are `items[u]`, the held-out item first; under full
    ranking they are all items but `excluded`.
    """

    positive: Ints
    """int32 [U], the held-out item or `NONE`."""
    sampled: Ragged | None
    excluded: Ragged | None

    def candidates(
        self, clients: np.ndarray[tuple[int], np.dtype[np.int64]], items: int
    ) -> Candidates:
        """What to score for `clients`, the held-out item first under sampling."""
        if self.sampled is None:
            return Candidates.everything(len(clients), items)
        lists = self.sampled
        return Candidates(lists.indptr[clients], lists.counts[clients], lists.items)


def exams(
    rules: EvalProtocol, population: Population, seed: int, identity: Longs | None = None
) -> dict[Part, Exam]:
    """The exams of validation and test; `identity` as in `Task`, where these are some clients."""
    names = np.arange(population.clients) if identity is None else identity
    return {part: _exam(rules, population, seed, names, part) for part in PARTS}


def _exam(
    rules: EvalProtocol, population: Population, seed: int, identity: Longs, part: Part
) -> Exam:
    positive = population.valid if part == "valid" else population.test
    if rules.candidates is None:
        # The other held-out item is no training item, but known to be liked: not a wrong answer.
        other = population.test if part == "valid" else population.valid
        seen = Population(population.name, population.items, population.train, other,
                          np.full_like(other, NONE)).seen  # fmt: skip
        return Exam(positive, None, seen)
    purpose = randomness.CANDIDATES_TEST
    if part == "valid" and not rules.same_candidates:
        purpose = randomness.CANDIDATES_VALID
    seen = population.seen
    room = population.items - seen.counts
    count = np.minimum(room, rules.candidates) + 1
    indptr = np.zeros(population.clients + 1, np.int64)
    np.cumsum(count, out=indptr[1:])
    drawn = np.empty(indptr[-1], np.int32)
    _draw(seed, purpose, population.items, identity, seen.indptr, seen.items, indptr, drawn)
    drawn[indptr[:-1]] = positive
    return Exam(positive, Ragged(indptr, drawn), None)


@compiled
def _draw(
    seed: int,
    purpose: int,
    table: int,
    identity: np.ndarray,
    seen_indptr: np.ndarray,
    seen: np.ndarray,
    indptr: np.ndarray,
    out: np.ndarray,
) -> None:
    """Distinct unseen items for each client, from the second place of its list on."""
    taken = np.full(table, -1, np.int64)
    for client in range(len(indptr) - 1):
        for k in range(seen_indptr[client], seen_indptr[client + 1]):
            taken[seen[k]] = client
        state = randomness.stream(seed, purpose, 0, identity[client])
        at = indptr[client] + 1
        while at < indptr[client + 1]:
            state, item = randomness.below(state, table)
            if taken[item] != client:
                taken[item] = client
                out[at] = item
                at += 1
