"""What carries rounds between server and shards: links, Flower, or a test's own lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus.fedrec.devices.wire import Answer, Array, Arrays, Ask
from isthmus.fedrec.population import Longs


class Collector(Protocol):
    """Takes in one shard's answer to one ask, message by message, each checked as it comes."""

    def add(self, answer: Answer, arrays: Arrays) -> None:
        """Raises BadMessage."""
        ...


@dataclass(frozen=True, eq=False)
class Request:
    """What one shard is asked."""

    ask: Ask
    arrays: Mapping[str, Array]
    collector: Collector


class Carrier(Protocol):
    """Brings requests to the shards and their answers back."""

    def present(self) -> dict[str, Longs]:
        """The shards that can take a request now, with the numbers of their clients."""
        ...

    def ask(self, requests: Mapping[str, Request]) -> dict[str, str]:
        """Send, wait until all have answered or time is up; who did not, and why.

        The collector of a shard that is not named in the result has all of its answer.
        """
        ...
