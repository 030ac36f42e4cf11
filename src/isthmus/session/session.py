"""The session: role, links, generators, folder and progress of one party in one job."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isthmus.errors import JobError
from isthmus.link import Link
from isthmus.session.progress import Progress, SilentProgress

PATIENCE = 7 * 86_400.0
"""Seconds to wait for a partner that is busy with work of its own, such as reading its table. That
it is alive is the link's matter: a partner that fails or goes is reported at once."""


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
    secret: bytes = field(default=b"", repr=False)
    """Known to this party alone. Without one, all that this party draws is as public as the seed:
    a partner could compute its initial weights and look rows up in them by its first cut."""
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
        """A 63-bit seed for one purpose of this party, the same in every run of the job with the
        same secret, and unknown to who does not know the secret.
        """
        return _derive(self.seed, (self.me, *names), self.secret)

    def rng(self, *names: object) -> np.random.Generator:
        """This party's generator for one purpose, seeded by `seed_for`. Not for keys."""
        return np.random.default_rng(self.seed_for(*names))

    def shared_rng(self, *names: object) -> np.random.Generator:
        """A generator that draws the same numbers at every party."""
        return np.random.default_rng(_derive(self.seed, ("*", *names)))


def _derive(seed: int, names: tuple[object, ...], secret: bytes = b"") -> int:
    text = "\x1f".join(map(str, (seed, *names))).encode()
    digest = hmac.digest(secret, text, "sha256") if secret else hashlib.sha256(text).digest()
    return int.from_bytes(digest[:8], "little") >> 1
