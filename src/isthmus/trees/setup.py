"""The shares of bins that a label party and a feature party set up once in a fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from isthmus.crypto.blocks import KEY_BYTES, Bytes
from isthmus.crypto.onehot import Dealer, Holder, Layout
from isthmus.crypto.ot import POINT_BYTES, BadPoint, BaseSender, Choices, choose, seal, unseal
from isthmus.crypto.ot_extension import WIDTH, OtReceiver, OtSender, random_bits
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.trees import wire

_TRANSFERS = 1 << 16
"""Oblivious transfers in a message; the same at both parties."""


def as_dealer(link: Link, layout: Layout, rows: int) -> Dealer:
    """The label party's side: shares of one partner's bins.

    Raises:
        BadMessage: the partner did not keep to the protocol.
    """
    dealer = Dealer(layout, rows)
    (point,) = wire.take(link, wire.hear(link, "trees.base"), {"point": (np.uint8, (POINT_BYTES,))})
    choices = random_bits(WIDTH)
    try:
        points, keys = choose(point, choices)
    except BadPoint as error:
        raise _bad_point(link) from error
    link.send("trees.answers", {"points": points})
    sender = OtSender(choices, keys)
    for some in _pieces(layout, rows):
        count = (some.stop - some.start) * layout.choices
        message = wire.hear(link, "trees.choices")
        (corrections,) = wire.take(link, message, {"rows": (np.uint64, (count, 2))})
        sealed = seal(sender.keys(corrections), dealer.messages(some))
        link.send("trees.keys", {"sealed": sealed})
    return dealer


def as_holder(link: Link, layout: Layout, codes: npt.NDArray[np.int16]) -> Holder:
    """A feature party's side: shares of its own bins.

    Raises:
        BadMessage: the label party did not keep to the protocol.
    """
    holder, base = Holder(layout, codes), BaseSender()
    link.send("trees.base", {"point": base.public})
    shape = (WIDTH, 2, POINT_BYTES)
    (points,) = wire.take(link, wire.hear(link, "trees.answers"), {"points": (np.uint8, shape)})
    try:
        receiver = OtReceiver(base.keys(points))
    except BadPoint as error:
        raise _bad_point(link) from error
    asked: deque[tuple[slice, Choices, Bytes]] = deque()
    for some in _pieces(layout, len(codes)):
        choices = holder.choices(some)
        corrections, keys = receiver.choose(choices)
        link.send("trees.choices", {"rows": corrections})
        asked.append((some, choices, keys))
        if len(asked) > 1:  # one is always under way, so that both sides have work
            _learn(link, holder, *asked.popleft())
    for one in asked:
        _learn(link, holder, *one)
    return holder


def _learn(link: Link, holder: Holder, some: slice, choices: Choices, keys: Bytes) -> None:
    message = wire.hear(link, "trees.keys")
    shape = (len(choices), 2, KEY_BYTES)
    (sealed,) = wire.take(link, message, {"sealed": (np.uint8, shape)})
    holder.learn(some, unseal(keys, choices, sealed))


def _pieces(layout: Layout, rows: int) -> Iterator[slice]:
    size = max(1, _TRANSFERS // layout.choices)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _bad_point(link: Link) -> BadMessage:
    return BadMessage(f"{link.partner} sent a point that is not in the group")
