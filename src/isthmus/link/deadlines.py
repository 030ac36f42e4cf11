"""How long a party waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """All in seconds."""

    connect: float = 60.0
    """For all partners to come, at the start."""
    recv: float = 60.0
    """For a message to come, and for room in a full window."""
    reconnect: float = 30.0
    """For a broken line to come back before the partner counts as gone."""
    heartbeat: float = 5.0
    """Between two signs of life on a silent line; three missed ones mean a broken line."""
    close: float = 10.0
    """For the partner to take what is still queued when a link closes."""


DEFAULT_DEADLINES = Deadlines()
