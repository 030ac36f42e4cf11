"""The end of an intersection in a star: the label party tells each partner which ids are common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from isthmus.align.matching import all_different, find
from isthmus.align.order import random_order
from isthmus.align.protocol import Found, Names, Pairs, Positions
from isthmus.align.wire import number, take
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.session import PATIENCE, Session

CHUNK = 65_536
"""Names in a message; part of the protocol, the same at every party."""


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
    if not session.is_label_party:
        return Match(hear_common(session.hub, found))
    everybody = tell_common(found.pairs, count)
    return Match(np.flatnonzero(everybody), by_partner(found.pairs))


def tell_common(pairs: Sequence[Pairs], count: int) -> npt.NDArray[np.bool_]:
    """Which of our `count` ids all partners have, bool `[count]`; tells each partner its own."""
    everybody = common_to_all(pairs, count)
    for pair in pairs:
        tell(pair, everybody[pair.here])
    return everybody


def tell(pair: Pairs, which: npt.NDArray[np.bool_]) -> None:
    """Tell a partner of ids that it has in common with us: bool `[c]`, which of those of `pair`."""
    if pair.there is not None:
        flags = np.zeros(pair.size, dtype=bool)
        flags[pair.there[which]] = True
        pair.link.send("align.common", {"bits": np.packbits(flags)})
    elif pair.names is not None:
        names = pair.names[which]
        names = names[random_order(len(names))]
        pair.link.send("align.common", header={"ids": len(names)})
        for start in range(0, len(names), CHUNK):
            pair.link.send("align.names", {"names": names[start : start + CHUNK]})


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


def hear_common(link: Link, found: Found) -> Positions:
    """Which of our ids are common as the label party says, int64 `[c]` in any order.

    Args:
        link: to the label party.
        found: what the protocol left us with: the order in which we sent our ids, or their names.

    Raises:
        BadMessage: the bits are not as many as the ids, or the names not those of different ids.
    """
    if found.order is not None:
        return _hear_bits(link, found.order)
    if found.names is not None:
        return _hear_names(link, found.names)
    raise ValueError("a feature party without an order or names")


def _hear_bits(link: Link, order: Positions) -> Positions:
    # The label party may be busy with a partner that has many more ids than we.
    shape = (-(-len(order) // 8),)
    bits = take(link, "align.common", "bits", np.uint8, shape, timeout=PATIENCE)
    flags = np.unpackbits(bits).astype(bool)
    if flags[len(order) :].any():
        raise BadMessage(f"{link.partner} sent align.common with positions out of range")
    common: Positions = order[flags[: len(order)]]
    return common


def _hear_names(link: Link, names: Names) -> Positions:
    # The label party may be busy with a partner that has many more ids than we.
    message = link.recv("align.common", timeout=PATIENCE)
    count = number(link, message, "ids", len(names), least=0)
    told = np.empty((count, names.shape[1]), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        part = told[start : start + CHUNK]
        part[:] = take(link, "align.names", "names", np.uint8, part.shape)
    common = find(names, told)
    if (common < 0).any() or not all_different(common, len(names)):
        raise BadMessage(f"{link.partner} sent align.names of other ids than ours, or one twice")
    common.sort()  # what is made of them next goes through memory in order
    return common
