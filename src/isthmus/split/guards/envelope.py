"""One array a message, whatever guard made it; coded where that is wanted; and the report.

Names, dtypes and shapes of nine small arrays would take 700 bytes of each message, which is half
of a sparse one of 128 samples. Both sides know the layout, so the bytes alone are sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isthmus.errors import BadMessage
from isthmus.link import Array
from isthmus.split.guards.base import Arrays, Guard, Layout, Shapes, Slot, size
from isthmus.split.guards.coders import Bytes, Coder
from isthmus.split.guards.report import GuardReport

NAME = "guarded"
"""The array of every message."""


class Envelope(Guard):
    """Any guard, its message in one array of bytes.

    Args:
        guard: makes what is put in.
        coder: makes fewer of the bytes (lossless). Their number then depends on the values.
        measure_every: of how many training messages one's error is measured, which costs a
            decode; 0 measures none.
    """

    def __init__(
        self, guard: Guard, coder: Coder | None = None, *, measure_every: int = 64
    ) -> None:
        self.guard = guard
        self.coder = coder
        self.lossy = guard.lossy
        self.report = GuardReport()
        """Of this end, as the sender."""
        self.received = GuardReport()
        """Of this end, as the receiver; it cannot know the error."""
        self._every = measure_every

    def layout(self, shapes: Shapes) -> Layout:
        """See `Guard.layout`; the largest that the array may be, if it is coded."""
        whole = size(self.guard.layout(shapes))
        return {NAME: Slot(np.dtype(np.uint8), (whole,))}

    def encode(self, tensors: Mapping[str, Array], *, learn: bool = True) -> Arrays:
        """See `Guard.encode`."""
        encoded = self.guard.encode(tensors, learn=learn)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        body = self._join(encoded, self.guard.layout(shapes))
        report = self.report
        if learn and self._every and report.messages % self._every == 0:
            report.measure(dict(tensors), self.guard.decode(encoded, shapes))
        report.count(shapes, len(body))
        report.saturated = self.guard.saturated
        return {NAME: body}

    def decode(self, tensors: Mapping[str, Array], shapes: Shapes) -> Arrays:
        """See `Guard.decode`."""
        if list(tensors) != [NAME]:
            raise BadMessage(f"a guarded message must hold {NAME!r} and nothing else")
        body = tensors[NAME]
        layout = self.guard.layout(shapes)
        whole, came = size(layout), body.size
        if body.dtype != np.uint8 or body.ndim != 1 or came > whole:
            raise BadMessage(
                f"a guarded message came as {body.dtype} {list(body.shape)[:8]}, agreed were "
                f"at most {whole} bytes"
            )
        if self.coder is not None and len(body) < whole:
            body = self.coder.decode(body, whole)
        if len(body) != whole:
            raise BadMessage(f"a guarded message has {len(body)} bytes, agreed were {whole}")
        decoded = self.guard.decode(self._split(body, layout), shapes)
        self.received.count(shapes, came)
        return decoded

    def state(self) -> Arrays:
        """See `Guard.state`."""
        return self.guard.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        self.guard.load_state(state)

    def reset(self) -> None:
        """See `Guard.reset`."""
        self.guard.reset()

    def _join(self, arrays: Arrays, layout: Layout) -> Bytes:
        pieces = [self._planes(arrays[name].reshape(-1)) for name in _order(layout)]
        body = np.concatenate(pieces) if pieces else np.empty(0, np.uint8)
        if self.coder is None:
            return body
        coded = self.coder.encode(body)
        # Equal sizes say that the bytes are as they were.
        return coded if len(coded) < len(body) else body

    def _split(self, body: Bytes, layout: Layout) -> Arrays:
        arrays: Arrays = {}
        start = 0
        for name in _order(layout):
            slot = layout[name]
            piece = body[start : start + slot.nbytes]
            start += slot.nbytes
            if self.coder is not None and slot.dtype.itemsize > 1:
                piece = np.ascontiguousarray(piece.reshape(slot.dtype.itemsize, -1).T).reshape(-1)
            arrays[name] = piece.view(slot.dtype).reshape(slot.shape)
        return arrays

    def _planes(self, array: Array) -> Bytes:
        """The bytes of `array`; to be coded, all first bytes of the numbers, all second, ...:
        exponents then stand together.
        """
        array = np.ascontiguousarray(array)
        planes: Bytes = array.view(np.uint8)
        if self.coder is not None and array.dtype.itemsize > 1:
            planes = np.ascontiguousarray(planes.reshape(-1, array.dtype.itemsize).T).reshape(-1)
        return planes


def _order(layout: Layout) -> list[str]:
    """Wide types first, so that every array is aligned."""
    return sorted(layout, key=lambda name: -layout[name].dtype.itemsize)
