"""All parties of a job in one process, a thread each: for notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isthmus.jobs.applied import check_applied
from isthmus.jobs.arbiter import apart
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.log import open_log
from isthmus.jobs.outcome import write_party_report
from isthmus.jobs.party import set_threads, take_part
from isthmus.jobs.rehearsal import rehearsal_secrets
from isthmus.jobs.times import Times
from isthmus.session import Progress, Session, run_parties


def run_here(
    job: Job,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    workers: int | None = 0,
) -> Mapping[str, Path]:
    """Run a job with all its parties in this process; gives the page of each party's report.

    The steps, files and reports are those of a run between companies; only the carrier differs.

    Args:
        job: the job; every party's table must be readable from here.
        out: results go to `out/<job>-<hash8>/<party>`.
        resume: skip what an earlier run finished.
        progress: where all parties report to.
        workers: processes for hashing ids.

    Raises:
        IsthmusError: the first cause, of whichever party.
    """
    # Threads of parties that share the cores would wait for each other's.
    set_threads(1)

    for party in job.spec.order:
        check_applied(job, party, out, resume=resume)

    def program(session: Session) -> Path:
        return run_one(session, job, resume=resume, workers=workers)

    return run_parties(
        dict.fromkeys(job.spec.everyone, program),
        label_party=job.spec.label.party,
        seed=job.spec.seed,
        folder=out / job.folder_name,
        progress=progress,
        secrets=rehearsal_secrets(job.spec.seed, job.spec.everyone),
    )


def run_one(session: Session, job: Job, *, resume: bool = False, workers: int | None = 0) -> Path:
    """One party's program for `run_parties`: its steps, then its report; gives the page.

    Args:
        session: the party's session; its folder is where everything goes.
        job, resume, workers: as for `run_here`.

    Raises:
        IsthmusError: this party, or a partner, could not go on. The partners have been told.
    """
    assert session.folder is not None
    folder = PartyFolder(session.folder)
    folder.create()
    with open_log(folder.file("log.jsonl"), job=job.short_hash, party=session.me) as log:
        own, arbiter = apart(session, job.spec)
        context = Context(
            job=job, session=own, folder=folder, log=log, workers=workers, arbiter=arbiter
        )
        times = Times(context.clock)
        times.save(folder, earlier=take_part(context, resume=resume))
        return write_party_report(job, session.me, folder)
