"""A feature party's messages whose gradients have not been applied yet."""

from __future__ import annotations

from collections import deque

from isthmus.link.lane import WINDOW
from isthmus.split.cuts import Cut
from isthmus.split.sides import FeatureSide, Flight

_UNREAD = WINDOW // 2
"""Bytes of gradients that the label party may have sent without our reading one."""


class Flights:
    """Messages in flight, oldest first.

    A label party whose gradients nobody reads cannot send more of them than the link's window
    holds. It would then read no further cuts, and a feature party that goes on sending some would
    wait for it for ever. So where much is in flight gradients are read before they are needed.

    Args:
        side: of the feature party.
    """

    def __init__(self, side: FeatureSide) -> None:
        self._side = side
        self._unread: deque[Flight] = deque()
        self._bytes = 0
        self._read: deque[tuple[Flight, Cut]] = deque()

    def __len__(self) -> int:
        """Messages whose gradients have not been applied."""
        return len(self._unread) + len(self._read)

    def add(self, flight: Flight) -> None:
        """A message has left."""
        self._unread.append(flight)
        self._bytes += _size(flight)
        while len(self._unread) > 1 and self._bytes > _UNREAD:
            self._read_one()

    def land(self) -> Flight:
        """Add up the parameters' gradients of the oldest message, waiting for it if need be."""
        if not self._read:
            self._read_one()
        flight, gradient = self._read.popleft()
        self._side.backward(flight, gradient)
        return flight

    def _read_one(self) -> None:
        flight = self._unread.popleft()
        self._bytes -= _size(flight)
        self._read.append((flight, self._side.take(flight)))


def _size(flight: Flight) -> int:
    return sum(tensor.nbytes for tensor in flight.cut.values())
