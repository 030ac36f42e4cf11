"""One party of a job for real: its identity, its links over TLS, its steps, its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import isthmus
from isthmus.errors import JobError, JobMismatch, LinkError, PartnerAbsent
from isthmus.jobs.allocator import keep_freed_memory
from isthmus.jobs.applied import check_applied
from isthmus.jobs.arbiter import apart
from isthmus.jobs.artefacts import PartyFolder, disk_of
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.log import Log, open_log
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.precheck import check_own_side
from isthmus.jobs.runner import run_arbiter, run_steps
from isthmus.jobs.signing import signer_of
from isthmus.jobs.tables import check_anyone
from isthmus.jobs.times import Times
from isthmus.link import Deadlines, Link, Listener, Transcript, load_identity, open_links
from isthmus.link.identity import Identity
from isthmus.link.remote.address import split_address
from isthmus.session import Progress, Session, SilentProgress
from isthmus.split.aggregation import Signer


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
    clock: Callable[[], float] = time.monotonic
    began: float | None = None
    """Where `clock` stood when this party was started; None for now."""


def run_party(run: PartyRun) -> Path:
    """Check the own side, meet the partners, run the steps, write the report; gives its page.

    Raises:
        IsthmusError: this party, or a partner, could not go on. Partners that have been met know.
    """
    job, times = run.job, Times(run.clock, run.began)
    # All that can be wrong on this side is found before a partner is kept waiting.
    check_anyone(job, run.me)
    meeting_points(run)
    identity = load_identity(run.identity, run.me)
    signer = signer_of(job, identity, run.identity)
    check_own_side(job, run.me)
    check_applied(job, run.me, run.out, resume=run.resume)
    set_threads(run.threads)
    keep_freed_memory()
    folder = PartyFolder(run.out / job.folder_name / run.me)
    folder.create()
    with (
        disk_of(folder.path),
        open_log(folder.file("log.jsonl"), job=job.short_hash, party=run.me) as log,
        Transcript(folder.file("transcript.jsonl"), payload=run.payload) as transcript,
    ):
        run.progress.say(f"waiting for {', '.join(partners_of(job, run.me))}")
        with times.meeting():
            links = meet(run, transcript, agreed_context(job))
        try:
            earlier = _work(run, folder, links, identity, signer, log)
        except BaseException as error:
            # Whatever it is, a request to end above all: partners are told and do not guess.
            for link in links.values():
                link.fail(error)
            raise
        times.save(folder, earlier=earlier)
        return write_party_report(job, run.me, folder)


def _work(
    run: PartyRun,
    folder: PartyFolder,
    links: Mapping[str, Link],
    identity: Identity,
    signer: Signer | None,
    log: Log,
) -> float:
    spec = run.job.spec
    session = Session(
        me=run.me,
        parties=spec.everyone,
        label_party=spec.label.party,
        links=links,
        seed=spec.seed,
        folder=folder.path,
        progress=run.progress,
        secret=identity.secret,
    )
    session, arbiter = apart(session, spec)
    context = Context(
        job=run.job,
        session=session,
        arbiter=arbiter,
        folder=folder,
        log=log,
        clock=run.clock,
        workers=run.workers,
        signer=signer,
    )
    earlier = take_part(context, resume=run.resume)
    for link in links.values():
        link.close()
    return earlier


def take_part(context: Context, *, resume: bool) -> float:
    """This party's part of the job, as `run_steps`; of the arbiter there is nothing to resume."""
    if context.me != context.spec.arbiter:
        return run_steps(context, resume=resume)
    run_arbiter(context)
    return 0.0


def agreed_context(job: Job, version: str = isthmus.__version__) -> str:
    """What all parties must have in common to begin: the version of Isthmus and the job's hash."""
    return f"{version}:{job.hash}"


def meet(
    run: PartyRun, transcript: Transcript, context: str, listener: Listener | None = None
) -> dict[str, Link]:
    """The links to the partners, who hold the same job and run the same version of Isthmus.

    Args:
        run: whom to meet and where.
        transcript: where what is sent is recorded.
        context: what all must have in common.
        listener: stays open for the next meeting; without one, `run.listen` is opened and closed.

    Raises:
        JobMismatch: a partner holds another job, or does something else with it.
        LinkError: a partner did not come, or is not trusted.
    """
    listen, addresses = meeting_points(run)
    try:
        return open_links(
            run.identity,
            run.me,
            addresses,
            listen=listener or listen,
            context=context,
            deadlines=run.deadlines,
            transcript=transcript,
            on_wait=run.progress.say,
        )
    except JobMismatch as error:
        raise JobMismatch(
            f"{error.message}, or another version of Isthmus than {isthmus.__version__}",
            mend="Shown is the version and then the job's hash, behind `tune:` where a party "
            "runs `isthmus tune`. Compare what `isthmus --version` "
            "and `isthmus job hash` print on each side; both must be the same. Where the hashes "
            "differ, compare what `isthmus job hash --canonical` prints; what is changed with "
            "--set counts, so every party must give the same.",
        ) from error
    except PartnerAbsent as error:
        error.mend = f"{error.mend} {_who_dials(listen)}"
        raise


def _who_dials(listen: str | None) -> str:
    if listen is None:
        return "Does the other side use --listen, and not --dial as well?"
    return "Does either side use --dial? Here is --listen, so the other side must dial."


def partners_of(job: Job, me: str) -> tuple[str, ...]:
    """Whom `me` has a link to: the label party, or at the label party everybody else."""
    label_party = job.spec.label.party
    if me != label_party:
        return (label_party,)
    return tuple(party for party in job.spec.everyone if party != label_party)


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
    for option, address in [("--listen", listen), *(("--dial", given) for given in dial.values())]:
        if address is not None:
            _check_address(option, address)
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


def _check_address(option: str, address: str) -> None:
    try:
        split_address(address)
    except LinkError:
        raise JobError(
            f"{option} {address}: {address!r} is not HOST:PORT",
            mend=f"For example: {option} bob.example.org:7600",
        ) from None


def set_threads(threads: int) -> None:
    """Let tensors use so many threads of this process."""
    import torch

    torch.set_num_threads(threads)
