"""One gRPC stream while it lives: a queue of outgoing frames, and when it was last heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue


def _no_cancel() -> object:
    return None


_REPORT = b"report"
"""Stands in the queue for the newest report."""


class Wire:
    """One stream, alike for the side that listens and the side that dials."""

    def __init__(self) -> None:
        self.cancel: Callable[[], object] = _no_cancel
        """Ends the stream at once."""
        self.heard = time.monotonic()
        """When a frame came last, in seconds of the monotonic clock."""
        self.spoke = False
        """Whether a frame left since the last heartbeat."""
        self.left = 0
        """Frames that gRPC has taken, reports not counted: they leave without end on a line that
        stands still. It takes the next frame when it has written the one before."""
        self._outbound: SimpleQueue[bytes | None] = SimpleQueue()
        self.put = self._outbound.put
        """Queue a frame."""
        self._report = b""
        self._report_waits = False

    def put_report(self, frame: bytes) -> None:
        """Queue a frame of counters; of those that have not left yet only the last one does.

        A partner that asks for reports and takes none cannot fill our memory with them. Called by
        one thread at a time.
        """
        self._report = frame
        if not self._report_waits:
            self._report_waits = True
            self.put(_REPORT)

    def end(self) -> None:
        """Send what is queued, then end our half of the stream."""
        self._outbound.put(None)

    def outbound(self) -> Iterator[bytes]:
        """The frames to send, as gRPC takes them."""
        while (frame := self._outbound.get()) is not None:
            if frame is _REPORT:
                # In this order: a report that comes in between leaves at once, or is queued again.
                self._report_waits = False
                frame = self._report
            else:
                self.left += 1
            yield frame
