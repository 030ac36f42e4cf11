"""One party of a job for real: its identity, its links over TLS, its steps, its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import isthmus
from isthmus.errors import JobError, JobMismatch
from isthmus.jobs.artefacts import PartyFolder, disk_of
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.log import open_log
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.runner import run_steps
from isthmus.jobs.tables import check_party
from isthmus.link import Deadlines, Link, Transcript, load_identity, open_links
from isthmus.session import Progress, Session, SilentProgress


@dataclass(frozen=True, kw_only=True)
class PartyRun:
    """Everything `run_party` needs to know."""

    job: Job
    me: str
    identity: Path
    """Folder with this party's key, certificate and trusted partners."""
    listen: str | None = None
    """`host:port` at which partners reach this party."""
    dial: Mapping[str, str] = field(default_factory=dict)
    """`host:port` of partners that this party calls."""
    out: Path = Path("runs")
    resume: bool = False
    threads: int = 1
    """Threads for tensors. More pay for large batches only."""
    workers: int | None = None
    """Processes for hashing ids."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    payload: bool = False
    """Keep the content of sent messages in the transcript."""
    progress: Progress = field(default_factory=SilentProgress)


def run_party(run: PartyRun) -> Path:
    """Meet the partners, run the job's steps with them and write the report; gives its page.

    Raises:
        IsthmusError: this party, or a partner, could not go on. The partners have been told.
    """
    job, spec = run.job, run.job.spec
    check_party(job, run.me)
    secret = load_identity(run.identity, run.me).secret
    set_threads(run.threads)
    folder = PartyFolder(run.out / job.folder_name / run.me)
    folder.create()
    with (
        disk_of(folder.path),
        open_log(folder.file("log.jsonl"), job=job.short_hash, party=run.me) as log,
        Transcript(folder.file("transcript.jsonl"), payload=run.payload) as transcript,
    ):
        run.progress.say(f"waiting for {', '.join(partners_of(job, run.me))}")
        links = _meet(run, transcript)
        session = Session(
            me=run.me,
            parties=spec.order,
            label_party=spec.label.party,
            links=links,
            seed=spec.seed,
            folder=folder.path,
            progress=run.progress,
            secret=secret,
        )
        context = Context(job=job, session=session, folder=folder, log=log, workers=run.workers)
        run_steps(context, resume=run.resume)
        for link in links.values():
            link.close()
        return write_party_report(job, run.me, folder)


def agreed_context(job: Job, version: str = isthmus.__version__) -> str:
    """What all parties must have in common to begin: the version of Isthmus and the job's hash."""
    return f"{version}:{job.hash}"


def _meet(run: PartyRun, transcript: Transcript) -> dict[str, Link]:
    """The links to the partners, who hold the same job and run the same version of Isthmus."""
    listen, addresses = meeting_points(run)
    try:
        return open_links(
            run.identity,
            run.me,
            addresses,
            listen=listen,
            context=agreed_context(run.job),
            deadlines=run.deadlines,
            transcript=transcript,
            on_wait=run.progress.say,
        )
    except JobMismatch as error:
        raise JobMismatch(
            f"{error.message}, or another version of Isthmus than {isthmus.__version__}",
            mend="Shown is the version and then the job's hash. Compare what `isthmus --version` "
            "and `isthmus job hash` print on each side; both must be the same.",
        ) from error


def partners_of(job: Job, me: str) -> tuple[str, ...]:
    """Whom `me` has a link to: the label party, or at the label party everybody else."""
    label_party = job.spec.label.party
    return job.spec.feature_parties if me == label_party else (label_party,)


def meeting_points(run: PartyRun) -> tuple[str | None, dict[str, str | None]]:
    """Where to listen, and for each partner the address to dial (None: the partner dials).

    Without `listen` and `dial` the job file decides: the label party listens at its address there
    and the others dial it.

    Raises:
        JobError: nothing says how the parties meet.
    """
    spec = run.job.spec
    partners = partners_of(run.job, run.me)
    for name in run.dial:
        if name not in partners:
            raise JobError(
                f"--dial {name}: {run.me} has no link to it", mend=f"Known: {', '.join(partners)}."
            )
    listen, dial = run.listen, dict(run.dial)
    if listen is None and not dial:
        if run.me == spec.label.party:
            listen = spec.parties[run.me].address
        elif (address := spec.parties[spec.label.party].address) is not None:
            dial = {spec.label.party: address}
    addresses = {partner: dial.get(partner) for partner in partners}
    unreached = [partner for partner, address in addresses.items() if address is None]
    if unreached and listen is None:
        raise JobError(
            f"nothing says how {run.me} meets {', '.join(unreached)}",
            mend=f"Use --listen HOST:PORT, or --dial {unreached[0]}=HOST:PORT, "
            f"or parties.{spec.label.party}.address in the job file.",
        )
    return (listen if unreached else None), addresses


def set_threads(threads: int) -> None:
    """Let tensors use so many threads of this process."""
    import torch

    torch.set_num_threads(threads)
