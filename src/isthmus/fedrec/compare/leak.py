"""The leak check: does a protocol give clients that learn from nobody a score they cannot have?

A client that trains alone knows nothing of items that it never had, so that it ranks a held-out
item at chance. If it ranks it better, the protocol tells it which item is held out: under
`authors`, because held-out items are never drawn as training negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.population import Interactions
from isthmus.fedrec.protocols import EvalProtocol

Doubles = NDArray[np.float64]
PAGE = "docs/fedrec/protocols.md"
METRIC = "hr@10"
ALONE = "local-only"
_CUT = 10
_TIMES_CHANCE = 2.0
_DEVIATIONS = 4.0


@dataclass(frozen=True)
class LeakFinding:
    """What the check says of one protocol."""

    protocol: str
    leaks: bool
    alone: float
    """HR@10 of clients that train alone, the mean over seeds."""
    chance: float
    popularity: float | None
    honest: float | None
    """What the same training alone gets under a protocol that does not leak."""
    sentence: str


def chance(rules: EvalProtocol, data: Interactions) -> float:
    """HR@10 of a random order."""
    # All items but those that are known; where they are fewer than are to be drawn, all of them.
    there = max(1.0, data.items - len(data.user) / data.users + 1)
    drawn = there if rules.candidates is None else min(rules.candidates + 1.0, there)
    return min(1.0, _CUT / drawn)


def spread(hits: Doubles, item: NDArray[np.integer[Any]]) -> float:
    """The standard deviation of the mean of `hits` [n], clients with one held-out item as a lump.

    Clients begin from one table and one vector, so that a common order, good by chance for an item
    that many hold out, raises all of them at once: hits within an item are not independent.
    """
    _, of = np.unique(item, return_inverse=True)
    lumps = np.bincount(of, hits - hits.mean())
    return float(np.sqrt((lumps**2).sum()) / len(hits))


def impossible(alone: float, by_chance: float, deviation: float) -> bool:
    """Whether `alone` is twice chance, and more than four standard deviations above it."""
    return alone > max(_TIMES_CHANCE * by_chance, by_chance + _DEVIATIONS * deviation)


def check(
    protocol: str,
    alone: float,
    by_chance: float,
    deviation: float,
    popularity: float | None = None,
    honest: float | None = None,
    *,
    by_its_rules: bool = False,
) -> LeakFinding:
    """The finding for one protocol, from HR@10 of local-only training under it.

    Args:
        protocol: its name.
        alone: of local-only training.
        by_chance: of a random order.
        deviation: of `alone`, see `spread`.
        popularity: of the popular items, where it is known.
        honest: of local-only training under an honest protocol with as many candidates.
        by_its_rules: the protocol is known to leak, seen here or not.
    """
    leaks = impossible(alone, by_chance, deviation)
    if leaks:
        beside = "" if popularity is None else f"; popularity gets {popularity:.3f}"
        control = "" if honest is None else f", and {honest:.3f} under an honest protocol"
        sentence = (
            f"Under {protocol} clients that train alone, with no server, get HR@10 {alone:.3f} "
            f"where chance is {by_chance:.3f}{control}{beside}: the protocol tells training which "
            f"item is held out, so its figures are fit to compare with published ones and not to "
            f"say which method is better (see {PAGE})."
        )
    else:
        sentence = (
            f"Under {protocol} clients that train alone get HR@10 {alone:.3f}, chance is "
            f"{by_chance:.3f}: no leak is seen."
        )
        if by_its_rules:
            sentence += (
                f" Its rules leak all the same: more rounds or seeds would show it ({PAGE})."
            )
    return LeakFinding(protocol, leaks, alone, by_chance, popularity, honest, sentence)
