"""What a run found out: metrics round by round, the chosen round, seconds and bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

Metrics = dict[str, float]


@dataclass(frozen=True)
class RoundRecord:
    """One round of training."""

    number: int
    loss: float | None
    clients: int
    up: int
    """Bytes from all clients to the server."""
    down: int
    """Bytes from the server to all clients."""
    seconds: float
    """Wall clock of training, evaluation left out."""
    cpu: float
    """Processor seconds of training over all threads."""


@dataclass(frozen=True)
class Judgement:
    """What a protocol says of a round."""

    number: int
    valid: Metrics
    test: Metrics


@dataclass
class Outcome:
    """What one protocol says of the run."""

    protocol: str
    chosen: int = 0
    """The round of the result, 0 before there is one."""
    judgements: list[Judgement] = field(default_factory=list)

    @property
    def best(self) -> Judgement:
        """The judgement of the chosen round."""
        return next(one for one in self.judgements if one.number == self.chosen)


@dataclass
class RunResult:
    """A whole run: one algorithm, one data set, one seed, one training, one or more protocols."""

    data: str
    clients: int
    items: int
    interactions: int
    algorithm: str
    title: str
    kind: str
    leaves: str
    backbone: str | None
    seed: int
    values: dict[str, Any]
    rounds: list[RoundRecord] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    privacy: dict[str, Any] = field(default_factory=dict)
    """The defences, their epsilon and what they protect; empty without."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures should know, in sentences."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, to be written as JSON."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> RunResult:
        """What `to_json` gave; more beside it counts for nothing."""
        rounds = [RoundRecord(**one) for one in value["rounds"]]
        outcomes = {
            name: Outcome(
                one["protocol"], one["chosen"], [Judgement(**j) for j in one["judgements"]]
            )
            for name, one in value["outcomes"].items()
        }
        known = {one.name for one in fields(RunResult)}
        rest = {name: one for name, one in value.items() if name in known}
        return RunResult(**{**rest, "rounds": rounds, "outcomes": outcomes})
