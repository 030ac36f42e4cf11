"""What crossed the links, kept step by step so that a resumed job still knows all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from isthmus.link import Link, TopicMeter

Counts = dict[str, dict[str, TopicMeter]]
"""Partner to topic to counts."""


COORDINATION = "job."
"""Topics of the steps' coordination: a partner's next word may come while a step still runs here,
so they are counted over the whole run and not by step."""


def counts_now(links: Mapping[str, Link], *, coordination: bool = False) -> Counts:
    """What each link's meter has counted so far: of the steps' own topics, or of coordination."""
    return {
        partner: {
            topic: counts
            for topic, counts in link.meter.snapshot().items()
            if topic.startswith(COORDINATION) == coordination
        }
        for partner, link in links.items()
    }


def added(before: Counts, after: Counts) -> Counts:
    """What came between two readings of the meters; topics without traffic are left out."""
    result: Counts = {}
    for partner, topics in after.items():
        known = before.get(partner, {})
        new = {name: _minus(now, known.get(name, TopicMeter())) for name, now in topics.items()}
        result[partner] = {name: counts for name, counts in new.items() if counts != TopicMeter()}
    return result


def summed(parts: list[Counts]) -> Counts:
    """The sum of several readings."""
    result: Counts = {}
    for part in parts:
        for partner, topics in part.items():
            mine = result.setdefault(partner, {})
            for name, counts in topics.items():
                mine[name] = mine.get(name, TopicMeter()) + counts
    return result


def to_json(counts: Counts) -> dict[str, Any]:
    """Counts as JSON values."""
    return {p: {name: asdict(c) for name, c in topics.items()} for p, topics in counts.items()}


def from_json(value: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Counts:
    """What `to_json` made."""
    return {p: {name: TopicMeter(**c) for name, c in topics.items()} for p, topics in value.items()}


def _minus(now: TopicMeter, before: TopicMeter) -> TopicMeter:
    return TopicMeter(
        now.sent_messages - before.sent_messages,
        now.sent_bytes - before.sent_bytes,
        now.received_messages - before.received_messages,
        now.received_bytes - before.received_bytes,
        max(0.0, now.waited_seconds - before.waited_seconds),
    )
