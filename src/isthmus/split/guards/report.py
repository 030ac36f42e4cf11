"""What a guard did to the messages of a run, as its own end saw it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from isthmus.split.guards.base import Arrays, Shapes

_FLOAT = 4
"""Bytes of a float32."""


@dataclass
class GuardReport:
    """Counts since the start of the process, of one end: what it sent, or what it received."""

    messages: int = 0
    bytes_before: int = 0
    """Of the tensors as float32."""
    bytes_after: int = 0
    """Of what was sent for them; names and framing left out on both sides."""
    saturated: int = 0
    """Values too large for the format."""
    measured: int = 0
    """Messages whose error was measured."""
    _energy: float = 0.0
    _error: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times fewer bytes were sent; 1 if nothing was."""
        return self.bytes_before / self.bytes_after if self.bytes_after else 1.0

    @property
    def relative_error(self) -> float:
        """|decoded - meant| / |meant|, Euclidean, over all measured messages."""
        return float(np.sqrt(self._error / self._energy)) if self._energy else 0.0

    def count(self, shapes: Shapes, sent: int) -> None:
        """One more message: tensors of these shapes went as `sent` bytes."""
        self.messages += 1
        self.bytes_before += _FLOAT * sum(prod(shape) for shape in shapes.values())
        self.bytes_after += sent

    def measure(self, meant: Arrays, decoded: Arrays) -> None:
        """Compare what the receiver gets with what was to be sent."""
        self.measured += 1
        for name, tensor in meant.items():
            self._energy += float(np.square(tensor, dtype=np.float64).sum())
            self._error += float(np.square(tensor - decoded[name], dtype=np.float64).sum())

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for a party's report."""
        return {
            "messages": self.messages,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "ratio": round(self.ratio, 3),
            "relative_error": round(self.relative_error, 6),
            "saturated": self.saturated,
        }
