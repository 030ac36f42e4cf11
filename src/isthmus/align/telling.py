"""The end of an intersection in a star: the label party tells each partner which ids all have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isthmus.align.order import Positions
from isthmus.align.protocol import Match
from isthmus.align.wire import take
from isthmus.errors import BadMessage
from isthmus.link import Link


@dataclass(frozen=True)
class Pairs:
    """What the label party has in common with one partner."""

    link: Link
    size: int
    """The partner's number of ids."""
    here: Positions
    """int64 `[c]`: which of the label party's ids, each once."""
    there: Positions
    """int64 `[c]`: which of the partner's, in the order in which the partner sent them."""


def tell_common(pairs: Sequence[Pairs], count: int) -> npt.NDArray[np.bool_]:
    """Which of our `count` ids all partners have, bool `[count]`; tells each partner its own."""
    everybody = np.ones(count, dtype=bool)
    for pair in pairs:
        has = np.zeros(count, dtype=bool)
        has[pair.here] = True
        everybody &= has
    for pair in pairs:
        flags = np.zeros(pair.size, dtype=bool)
        flags[pair.there[everybody[pair.here]]] = True
        pair.link.send("align.common", {"bits": np.packbits(flags)})
    return everybody


def by_partner(pairs: Sequence[Pairs]) -> dict[str, int]:
    """How many ids the label party has in common with each partner."""
    return {pair.link.partner: len(pair.here) for pair in pairs}


def hear_common(link: Link, order: Positions) -> Match:
    """Which of our ids all parties have, as the label party says.

    Args:
        link: to the label party.
        order: int64 `[n]`, the own ids in the order in which they were sent.

    Raises:
        BadMessage: the bits are not as many as the ids.
    """
    bits = take(link, "align.common", "bits", np.uint8, (-(-len(order) // 8),))
    flags = np.unpackbits(bits).astype(bool)
    if flags[len(order) :].any():
        raise BadMessage(f"{link.partner} sent align.common with positions out of range")
    return Match(order[flags[: len(order)]])
