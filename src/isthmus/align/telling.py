"""The end of an intersection in a star: the label party tells each partner which ids are common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.align.protocol import Found, Pairs, Positions
from isthmus.align.wire import take
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.session import PATIENCE, Session


@dataclass(frozen=True, eq=False)
class Match:
    """Which ids are common."""

    common: Positions
    """int64 `[c]`: positions in the own ids of those that all parties have, in any order."""
    pairwise: Mapping[str, int] = field(default_factory=dict)
    """At the label party: how many ids it has in common with each feature party."""


def settle(session: Session, found: Found, count: int) -> Match:
    """Which of our `count` ids all parties have: told by the label party to each of the others.

    Raises:
        BadMessage: the label party's answer makes no sense.
    """
    if found.order is not None:
        return Match(hear_common(session.hub, found.order))
    everybody = tell_common(found.pairs, count)
    return Match(np.flatnonzero(everybody), by_partner(found.pairs))


def tell_common(pairs: Sequence[Pairs], count: int) -> npt.NDArray[np.bool_]:
    """Which of our `count` ids all partners have, bool `[count]`; tells each partner its own."""
    everybody = common_to_all(pairs, count)
    for pair in pairs:
        tell(pair, pair.there[everybody[pair.here]])
    return everybody


def tell(pair: Pairs, common: Positions) -> None:
    """Tell a partner which of its ids are common: int64 `[c]`, in the order that it sent them."""
    flags = np.zeros(pair.size, dtype=bool)
    flags[common] = True
    pair.link.send("align.common", {"bits": np.packbits(flags)})


def common_to_all(pairs: Sequence[Pairs], count: int) -> npt.NDArray[np.bool_]:
    """Which of our `count` ids all partners have, bool `[count]`."""
    everybody = np.ones(count, dtype=bool)
    for pair in pairs:
        has = np.zeros(count, dtype=bool)
        has[pair.here] = True
        everybody &= has
    return everybody


def by_partner(pairs: Sequence[Pairs]) -> dict[str, int]:
    """How many ids the label party has in common with each partner."""
    return {pair.link.partner: len(pair.here) for pair in pairs}


def hear_common(link: Link, order: Positions) -> Positions:
    """Which of our ids are common as the label party says, int64 `[c]` in the order of sending.

    Args:
        link: to the label party.
        order: int64 `[n]`, the own ids in the order in which they were sent.

    Raises:
        BadMessage: the bits are not as many as the ids.
    """
    # The label party may be busy with a partner that has many more ids than we.
    shape = (-(-len(order) // 8),)
    bits = take(link, "align.common", "bits", np.uint8, shape, timeout=PATIENCE)
    flags = np.unpackbits(bits).astype(bool)
    if flags[len(order) :].any():
        raise BadMessage(f"{link.partner} sent align.common with positions out of range")
    common: Positions = order[flags[: len(order)]]
    return common
