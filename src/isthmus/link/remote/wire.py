"""One gRPC stream while it lives: a queue of outgoing frames, and when it was last heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue


def _no_cancel() -> object:
    return None


class Wire:
    """One stream, alike for the side that listens and the side that dials."""

    def __init__(self) -> None:
        self.cancel: Callable[[], object] = _no_cancel
        """Ends the stream at once."""
        self.heard = time.monotonic()
        """When a frame came last, in seconds of the monotonic clock."""
        self.spoke = False
        """Whether a frame left since the last heartbeat."""
        self._outbound: SimpleQueue[bytes | None] = SimpleQueue()
        self.put = self._outbound.put
        """Queue a frame."""

    def end(self) -> None:
        """Send what is queued, then end our half of the stream."""
        self._outbound.put(None)

    def outbound(self) -> Iterator[bytes]:
        """The frames to send, as gRPC takes them."""
        return iter(self._outbound.get, None)
