"""Secure sums of a simulated round in which some clients drop out, each at a step of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec import randomness
from isthmus.fedrec.privacy.secure_terms import LOST, Flags, Rules, Terms
from isthmus.fedrec.privacy.secure_wire import Words

NEVER, BEFORE_SHARES, BEFORE_WORDS, BEFORE_ANSWER = range(4)
_DROPS = 1 << 33
"""Drops have a stream of their own beside the sampling of clients."""


@dataclass(frozen=True, eq=False)
class Drops:
    """Which clients of a round are lost, and when."""

    step: NDArray[np.int8]
    """[n], `NEVER`, or the step that the client does not reach."""

    @property
    def survive(self) -> Flags:
        """Whose words are in the sum: also of those that are lost after they sent them."""
        return np.isin(self.step, (NEVER, BEFORE_ANSWER))

    @staticmethod
    def drawn(seed: int, number: int, share: float, terms: Terms) -> Drops:
        """A share of the clients of round `number`, rounded down, as many as are tolerated at most;
        each at one of the three steps after the seats.
        """
        rng = randomness.generator(seed, randomness.SAMPLING, number + _DROPS)
        step = np.zeros(terms.clients, np.int8)
        count = min(int(share * terms.clients + 1e-9), terms.lost)
        lost = rng.choice(terms.clients, count, replace=False)
        step[lost] = rng.integers(BEFORE_SHARES, BEFORE_ANSWER + 1, count)
        return Drops(step)


def rules_for(share: float) -> Rules:
    """What a sum must withstand in which this share of clients drops out."""
    return Rules(lost=max(LOST, share))


def masked_sum(vectors: Iterator[Words], drops: Drops, rules: Rules) -> Words:
    """The sum of the surviving clients' words by the whole protocol, uint64 [k].

    Args:
        vectors: of all clients, uint64 [k], in their order; those of the lost are passed over.
        drops: who is lost.
        rules: what the sum withstands.

    Raises:
        TrainError: too many are lost.
    """
    # Not above: without dropouts nobody needs the library.
    from isthmus.fedrec.privacy.secure_client import Client
    from isthmus.fedrec.privacy.secure_server import Server

    first = next(vectors)
    clients = [Client(rules) for _ in drops.step]
    server = Server(rules, len(first))
    seats = server.seat({place: one.join() for place, one in enumerate(clients)})
    shared = (place for place in seats if drops.step[place] != BEFORE_SHARES)
    boxes = server.deal({place: clients[place].share(seats[place]) for place in shared})
    for place, words in enumerate(chain([first], vectors)):
        if drops.survive[place]:
            server.take(place, clients[place].masked(boxes[place], words))
    asked = server.announce()
    return server.total(
        {
            place: clients[place].answer(survivors)
            for place, survivors in asked.items()
            if drops.step[place] == NEVER
        }
    )


def bytes_up(drops: Drops, words: int, terms: Terms) -> int:
    """Bytes that the clients send for a sum of so many words: keys, shares, words, answers.

    An answer counts with a share of each neighbour; it has fewer where neighbours never shared.
    """
    near, step = terms.neighbours, drops.step
    keys, shares = 1 + 64, 1 + 32 + 48 * near
    shared = step != BEFORE_SHARES
    total = len(step) * keys + int(shared.sum()) * shares
    total += int(drops.survive.sum()) * (1 + 8 * words)
    answer = 1 + (near + 7) // 8 + 16 * near
    return total + int((step == NEVER).sum()) * answer
