"""What a step is given: the job, the session, this party's folder, clock and log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isthmus.jobs.artefacts import PartyFolder, StepFolder
from isthmus.jobs.job import Job
from isthmus.jobs.log import Log, silent_log
from isthmus.jobs.spec import JobSpec
from isthmus.link import Link
from isthmus.session import Session
from isthmus.split.aggregation import Signer
from isthmus.split.options import EpochRecord


@dataclass(frozen=True, kw_only=True)
class Context:
    """One party's view of a running job."""

    job: Job
    session: Session
    folder: PartyFolder
    log: Log = field(default_factory=silent_log)
    clock: Callable[[], float] = time.monotonic
    """Seconds; only differences are used."""
    workers: int | None = None
    """Processes for hashing ids; None lets the method choose."""
    signer: Signer | None = None
    """Under a secure sum, at a feature party: proves whose mask keys the parties use."""
    arbiter: Link | None = None
    """At the label party of a job with an arbiter: the link to it, which `session` leaves out."""
    judge: Callable[[EpochRecord], str] | None = None
    """At the label party: looks at each epoch of the training and gives a reason to stop, or ""."""

    @property
    def spec(self) -> JobSpec:
        """What was agreed."""
        return self.job.spec

    @property
    def me(self) -> str:
        """This party's name."""
        return self.session.me

    @property
    def links(self) -> Mapping[str, Link]:
        """To all partners, the arbiter too."""
        links = self.session.links
        name = self.spec.arbiter
        if self.arbiter is None or name is None:
            return links
        return {**links, name: self.arbiter}

    @property
    def is_label_party(self) -> bool:
        """Whether this party holds the label."""
        return self.session.is_label_party

    def trained(self, name: str) -> StepFolder:
        """The folder of a step that fitted something: of the earlier job, if its model is applied
        (`isthmus.jobs.applied`), else of this one.
        """
        earlier = self.spec.predict.model
        if earlier is None:
            return self.step(name)
        return PartyFolder(self.folder.path.parent.parent / earlier / self.me).step(name)

    def step(self, name: str) -> StepFolder:
        """The folder of a step."""
        return self.folder.step(name)
