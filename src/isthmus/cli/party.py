"""`isthmus party`: run one party of a job for real."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.exit_codes import exit_code
from isthmus.cli.options import (
    DEFAULT_IDENTITY,
    Debug,
    Dial,
    Identity,
    JobFile,
    Listen,
    Out,
    Reconnect,
    Resume,
    Sets,
    Threads,
    Wait,
    examples,
)
from isthmus.cli.stopping import Interrupted, go_on, stopped_line

if TYPE_CHECKING:
    from isthmus.jobs.party import PartyRun

EXAMPLES = examples(
    "isthmus party job.yaml --as bob --identity ~/.isthmus --listen 0.0.0.0:7600",
    "isthmus party job.yaml --as alice --identity ~/.isthmus --dial bob.example.org:7600",
)


def party(
    job: JobFile,
    me: Annotated[str, typer.Option("--as", help="Which party of the job this is.")],
    identity: Identity = DEFAULT_IDENTITY,
    listen: Listen = None,
    dial: Dial = None,
    out: Out = Path("runs"),
    resume: Resume = False,
    sets: Sets = None,
    wait: Wait = 600.0,
    reconnect: Reconnect = 30.0,
    threads: Threads = 1,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes for hashing ids; chosen by size if unset.")
    ] = None,
    payload: Annotated[
        bool,
        typer.Option("--payload", metavar="", help="Keep messages' content in the transcript."),
    ] = False,
    events: Annotated[bool, typer.Option("--events", hidden=True)] = False,
    debug: Debug = False,
) -> None:
    """Run one party of a job; the partners run theirs elsewhere at the same time."""
    began = time.monotonic()

    def prepare() -> PartyRun:
        from isthmus.jobs.job import load_job
        from isthmus.jobs.party import PartyRun, partners_of
        from isthmus.jobs.tables import check_anyone
        from isthmus.link import Deadlines

        loaded = load_job(job, sets or ())
        check_anyone(loaded, me)
        return PartyRun(
            job=loaded,
            me=me,
            identity=identity,
            listen=listen,
            dial=addresses(dial or [], partners_of(loaded, me)),
            out=out,
            resume=resume,
            threads=threads,
            workers=workers,
            deadlines=Deadlines(connect=wait, reconnect=reconnect, recv=RECV),
            payload=payload,
            began=began,
        )

    if events:
        _with_events(prepare, debug)
    else:
        _with_display(prepare, me)


RECV = 600.0
"""Seconds without a message from a partner that is alive before the job is given up."""


def _with_display(prepare: Callable[[], PartyRun], me: str) -> None:
    from isthmus.cli.display import Display
    from isthmus.cli.summary import show_summary
    from isthmus.errors import PartnerFailed, PartnerGone
    from isthmus.jobs.artefacts import PartyFolder
    from isthmus.jobs.events import EventProgress
    from isthmus.jobs.going_on import can_go_on
    from isthmus.jobs.party import run_party

    run = prepare()
    folder = PartyFolder(run.out / run.job.folder_name / me)
    try:
        with Display((me,)) as display:
            progress = EventProgress(lambda event: display.show(me, event))
            page = run_party(replace(run, progress=progress))
    except Interrupted as stop:
        typer.echo(stopped_line(begun=can_go_on(folder, "stopped")), err=True)
        sys.exit(stop.code)
    except (PartnerGone, PartnerFailed) as error:
        began = error.partner_code if isinstance(error, PartnerFailed) else error.code
        if can_go_on(folder, began):
            error.mend = go_on(error.mend, where=" at every party")
        raise
    show_summary(page)


def _with_events(prepare: Callable[[], PartyRun], debug: bool) -> None:
    """Run for the launcher: events on standard output, and the exit code."""
    from isthmus.jobs.events import EventProgress, error_event, json_lines

    emit = json_lines(sys.stdout)
    try:
        from isthmus.jobs.party import run_party

        page = run_party(replace(prepare(), progress=EventProgress(emit)))
    except (Exception, Interrupted) as error:
        if debug:
            traceback.print_exc()
        event = error_event(error)
        emit(event)
        sys.exit(exit_code(event["code"]))
    emit({"event": "done", "report": str(page)})


def addresses(dial: list[str], partners: tuple[str, ...]) -> dict[str, str]:
    """`partner=host:port` or, where there is but one partner, `host:port` alone."""
    from isthmus.errors import JobError

    found = {}
    for entry in dial:
        name, _, address = entry.rpartition("=")
        if not name and len(partners) > 1:
            raise JobError(
                f"--dial {entry} does not say whom to call",
                mend=f"Write --dial PARTNER=HOST:PORT, with one of {', '.join(partners)}.",
            )
        found[name or partners[0]] = address
    return found
