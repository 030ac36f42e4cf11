"""What an algorithm is to the runner: a `Method` made from a `Task`; its entry, `Algorithm`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from isthmus.fedrec.engine import Candidates
from isthmus.fedrec.population import Floats, Longs
from isthmus.fedrec.task import Task
from isthmus.fedrec.training import LocalTraining

Leaves = Literal["nothing", "sums", "tables", "vectors", "interactions"]
"""What leaves a device: nothing; sums over clients are enough for the server (secure aggregation
fits); each client's own table; its user vector as well; its interactions themselves (ceilings)."""

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
Score = Callable[[Longs, Candidates], Floats]
"""Scores of candidates for these clients, float32 [sum of counts]."""
Watch = Callable[[Longs, Score], None]
"""Told of clients whose model of the round is ready to be judged, with the score to judge."""


@dataclass(frozen=True)
class RoundReport:
    """What a round took, apart from time."""

    loss: float | None
    """Mean training loss over the clients, None where nothing is trained."""
    clients: int
    """Clients that took part."""
    up: int
    """Bytes from all clients to the server."""
    down: int
    """Bytes from the server to all clients."""


class Method(ABC):
    """One algorithm on one task. It holds server and client state and goes round by round."""

    masks_sums: ClassVar[bool] = False
    """Whether all that the server adds up goes through the task's sealing, where there is one."""
    takes_guards: ClassVar[bool] = False
    """Whether clients send `Uploads`, which the task's guards go over."""
    beside: ClassVar[str] = ""
    """What clients send besides, in words; guards do not reach it."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def round(self, number: int, watch: Watch) -> RoundReport:
        """Train round `number` (from 1).

        A method whose clients are judged in the middle of a round (with what they have trained,
        before they forget it) calls `watch` then; clients that `watch` was not told of are judged
        with `score` after the round.
        """

    @abstractmethod
    def score(self, clients: Longs, candidates: Candidates) -> Floats:
        """The clients' scores of their candidates, float32 [sum of counts]."""

    @abstractmethod
    def state(self) -> Arrays:
        """All that changes from round to round, for a checkpoint."""

    @abstractmethod
    def restore(self, state: Arrays) -> None:
        """Go on from a `state()`; arrays of other shapes are an error of the caller."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm as the registry knows it: `ALGORITHM` in a file of `fedrec.algorithms`."""

    name: str
    title: str
    """As in tables: FedCA."""
    paper: str
    leaves: Leaves
    private: str
    """What stays on the device, in words."""
    settings: type[Any]
    """A frozen dataclass of its own numbers, all with defaults and docstrings."""
    build: Callable[[Task, Any, Any], Method]
    """Makes the method from the task, an instance of `settings`, and the `Model`; None for the
    last without a backbone."""
    backbones: tuple[str, ...] = ()
    """The backbones that it works with, the usual one first; none for methods without."""
    training: Mapping[str, LocalTraining] = field(default_factory=dict)
    """The clients' usual training by backbone, where it is not `LocalTraining()`."""
    rounds: int = 100
    """Rounds of a run unless the user says otherwise; one-round methods have 1."""
    kind: Literal["federated", "floor", "ceiling"] = "federated"
    """Floors and ceilings stand in every table beside the federated methods."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Backbones with which the method has another name: FedAvg with `fedncf` is FedNCF."""
    promise: Callable[[Any, float], str] | None = None
    """From `settings` and delta what noise of its own protects, a sentence of the result; or ""."""

    def called(self, backbone: str | None) -> str:
        """The method's name in tables, with this backbone."""
        return self.titles.get(backbone or "", self.title)
