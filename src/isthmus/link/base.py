"""The seam between parties: an ordered, typed, metered lane of messages to one partner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from isthmus.link.meter import Meter

Array = npt.NDArray[Any]
Header = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: a topic, a small JSON header and named tensors."""

    topic: str
    """What the message is about, such as `train.cut`; messages of one topic keep their order."""
    tensors: Mapping[str, Array] = field(default_factory=dict)
    """Named arrays. Received arrays are read-only views into the message's buffer."""
    header: Header = field(default_factory=dict)
    """JSON values: str, int, float, bool, None, and lists and string-keyed dicts of them."""


class Link(ABC):
    """A lane to one partner. Safe to use from several threads; one reader per topic.

    Both carriers (in memory, TLS) behave alike: `isthmus.testing.LinkContract` is the proof.
    """

    me: str
    partner: str
    meter: Meter

    @abstractmethod
    def send(
        self,
        topic: str,
        tensors: Mapping[str, Array] | None = None,
        header: Header | None = None,
    ) -> None:
        """Queue a message and return at once; the arrays may be changed afterwards.

        Where the window of unread bytes is full, waits until the partner reads.

        Raises:
            PartnerSlow: the window stayed full past the deadline.
            PartnerGone: the line broke and did not come back in time.
            PartnerFailed: the partner has reported an error.
        """

    @abstractmethod
    def recv(self, topic: str, *, timeout: float | None = None) -> Message:
        """The next message of `topic`; waits up to `timeout` seconds (default: the link's own).

        Messages that arrived before the partner failed or left are still delivered first.

        Raises:
            PartnerSlow: connected, but nothing came in time.
            PartnerGone: the line broke and did not come back in time, or the partner closed it.
            PartnerFailed: the partner has reported an error.
            BadMessage: what came is malformed.
        """

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Tell the partner that we stop because of `error` (its public reason only), then close."""

    @abstractmethod
    def close(self) -> None:
        """Deliver what is queued, say goodbye, release everything. May be called twice."""

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.fail(error)


def as_arrays(tensors: Mapping[str, Any] | None) -> dict[str, Array]:
    """`tensors` as C-contiguous little-endian arrays, without a copy where they already are."""
    return {name: _as_array(value) for name, value in (tensors or {}).items()}


def _as_array(value: Any) -> Array:
    # Not `ascontiguousarray`, which turns a scalar into a vector.
    array = np.asarray(value, order="C")
    if array.dtype.byteorder == ">":
        return array.astype(array.dtype.newbyteorder("<"))
    return array
