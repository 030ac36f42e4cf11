"""The session: role, links, generators, folder and progress of one party in one job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isthmus.errors import JobError
from isthmus.link import Link
from isthmus.session.progress import Progress, SilentProgress


@dataclass(frozen=True, kw_only=True)
class Session:
    """One job as one party sees it. Every party runs the same program on its own session (SPMD)."""

    me: str
    """This party's name."""
    parties: tuple[str, ...]
    """All parties in the agreed order, the same on every side."""
    label_party: str
    """The party that holds the label and the top model."""
    links: Mapping[str, Link] = field(default_factory=dict)
    """A link per partner this party talks to: the label party has one to each feature party."""
    seed: int = 0
    """The job's seed, known to all parties."""
    folder: Path | None = None
    """Where this party's files of the job go; None keeps everything in memory."""
    progress: Progress = field(default_factory=SilentProgress)
    """Where work reports how far it is."""

    def __post_init__(self) -> None:
        for name in (self.me, self.label_party, *self.links):
            if name not in self.parties:
                raise JobError(f"{name!r} is not among the parties {', '.join(self.parties)}")

    @property
    def is_label_party(self) -> bool:
        """Whether this party holds the label."""
        return self.me == self.label_party

    @property
    def feature_parties(self) -> tuple[str, ...]:
        """All parties but the label party, in the agreed order."""
        return tuple(party for party in self.parties if party != self.label_party)

    def link(self, partner: str) -> Link:
        """The link to `partner`."""
        return self.links[partner]

    @property
    def hub(self) -> Link:
        """A feature party's link to the label party."""
        return self.links[self.label_party]

    def seed_for(self, *names: object) -> int:
        """A 63-bit seed for one purpose of this party, the same in every run of the job."""
        return _derive(self.seed, (self.me, *names))

    def rng(self, *names: object) -> np.random.Generator:
        """This party's generator for one purpose, drawn from the job's seed. Not for secrets."""
        return np.random.default_rng(self.seed_for(*names))

    def shared_rng(self, *names: object) -> np.random.Generator:
        """A generator that draws the same numbers at every party."""
        return np.random.default_rng(_derive(self.seed, ("*", *names)))


def _derive(seed: int, names: tuple[object, ...]) -> int:
    text = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
