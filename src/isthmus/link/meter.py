"""What a link carried: bytes, messages and time waited, per topic."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(slots=True)
class TopicMeter:
    """The counts of one topic. Bytes are those of encoded messages, alike for every carrier."""

    sent_messages: int = 0
    sent_bytes: int = 0
    received_messages: int = 0
    received_bytes: int = 0
    waited_seconds: float = 0.0
    """Time that `recv` spent waiting for this topic, and `send` for room in the window."""

    def __add__(self, other: TopicMeter) -> TopicMeter:
        return TopicMeter(
            self.sent_messages + other.sent_messages,
            self.sent_bytes + other.sent_bytes,
            self.received_messages + other.received_messages,
            self.received_bytes + other.received_bytes,
            self.waited_seconds + other.waited_seconds,
        )


class Meter:
    """Counts of one link; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, TopicMeter] = {}

    def sent(self, topic: str, size: int, waited: float = 0.0) -> None:
        """One message of `size` bytes left; `waited` seconds were spent on a full window."""
        with self._lock:
            counts = self._of(topic)
            counts.sent_messages += 1
            counts.sent_bytes += size
            counts.waited_seconds += waited

    def received(self, topic: str, size: int) -> None:
        """One message of `size` bytes was read by the application."""
        with self._lock:
            counts = self._of(topic)
            counts.received_messages += 1
            counts.received_bytes += size

    def waited(self, topic: str, seconds: float) -> None:
        """`seconds` were spent waiting for `topic`."""
        with self._lock:
            self._of(topic).waited_seconds += seconds

    def snapshot(self) -> dict[str, TopicMeter]:
        """A copy of the counts per topic, sorted by topic."""
        with self._lock:
            return {topic: replace(counts) for topic, counts in sorted(self._topics.items())}

    def total(self) -> TopicMeter:
        """The counts of all topics together."""
        return sum(self.snapshot().values(), TopicMeter())

    def _of(self, topic: str) -> TopicMeter:
        counts = self._topics.get(topic)
        if counts is None:
            counts = self._topics[topic] = TopicMeter()
        return counts
