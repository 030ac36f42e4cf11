"""The incoming half of a link's order: sequence numbers, and chunks put together again."""

from __future__ import annotations

import numpy as np

from isthmus.errors import BadMessage
from isthmus.link.codec import MAX_MESSAGE_BYTES, Buffer
from isthmus.link.remote.frames import Frame, Kind


class Inflow:
    """Takes frames in order and gives back whole messages."""

    def __init__(self) -> None:
        self.expects = 0
        """The sequence number of the item that is awaited or being put together."""
        self.came = 0
        """Bytes of messages in several chunks that have come so far."""
        self._partial: memoryview | None = None
        self._filled = 0

    def starts_message(self, frame: Frame) -> bool:
        """Whether a message begins with this frame (its size is then to be admitted)."""
        return frame.kind is Kind.DATA and frame.offset == 0

    def take(self, frame: Frame) -> Buffer | None:
        """Add a numbered frame; the whole item's bytes once it is complete.

        Raises:
            BadMessage: it is out of order or does not fit what came before.
        """
        size = len(frame.body)
        if frame.sequence != self.expects or frame.offset != self._filled:
            raise BadMessage("a frame came out of order")
        if frame.total > MAX_MESSAGE_BYTES or frame.offset + size > frame.total:
            raise BadMessage("a frame does not fit its message")
        if frame.kind is not Kind.DATA and size != frame.total:
            raise BadMessage(f"a {frame.kind.name} frame came in chunks")
        if self._partial is None and size == frame.total:
            self.expects += 1
            return frame.body
        if not size:
            raise BadMessage("an empty chunk came")
        return self._put_together(frame, size)

    def forget_partial(self) -> None:
        """The stream broke: an unfinished message will come again from its beginning."""
        self._partial = None
        self._filled = 0

    def _put_together(self, frame: Frame, size: int) -> Buffer | None:
        if self._partial is None:
            # Not a bytearray: memory is taken only as chunks arrive, not on the partner's word.
            self._partial = np.empty(frame.total, np.uint8).data
        if len(self._partial) != frame.total:
            raise BadMessage("a message changed its size")
        self._partial[self._filled : self._filled + size] = frame.body
        self._filled += size
        self.came += size
        if self._filled < frame.total:
            return None
        whole = self._partial
        self.forget_partial()
        self.expects += 1
        return whole
