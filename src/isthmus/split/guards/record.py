"""What a guard did in a run, as a record for the party's report."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.split.guards.envelope import Envelope
from isthmus.split.guards.spec import Direction


@dataclass(frozen=True, kw_only=True)
class GuardRecord:
    """What one guard did in a run, as one of its two ends saw it."""

    party: str
    """The feature party whose cut it is."""
    direction: Direction
    guard: str
    """As it was asked for, such as `int8`."""
    lossy: bool
    messages: int
    bytes_before: int
    """Of the tensors as float32."""
    bytes_after: int
    ratio: float
    """How many times fewer bytes crossed."""
    relative_error: float | None
    """|decoded - meant| / |meant| of the messages where it was measured; None at the receiver, who
    cannot know it, and where none was measured."""
    saturated: int | None
    """Values too large for the format; None at the receiver."""


def record_of(party: str, direction: Direction, text: str, guard: Envelope) -> GuardRecord:
    """The record of the guard called `text` on what crosses between `party` and the label party."""
    sent, received = guard.report, guard.received
    counts = sent if sent.messages else received
    return GuardRecord(
        party=party,
        direction=direction,
        guard=text,
        lossy=guard.lossy,
        messages=counts.messages,
        bytes_before=counts.bytes_before,
        bytes_after=counts.bytes_after,
        ratio=counts.ratio,
        relative_error=sent.relative_error if sent.measured else None,
        saturated=guard.saturated if sent.messages else None,
    )
