"""`isthmus run`: all parties of a job on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from isthmus.cli.exit_codes import UNEXPECTED, exit_code
from isthmus.cli.failure import echo_error
from isthmus.cli.options import Debug, Format, JobFile, Out, Output, Resume, Sets, examples
from isthmus.cli.stopping import AGAIN, Interrupted, go_on, stopped_line

if TYPE_CHECKING:
    from isthmus.jobs.launcher import Launch, Outcome

RESUMABLE = ("link.gone", "link.failed", "stopped")
"""Codes of failures that leave something to go on from."""

EXAMPLES = examples(
    "isthmus run job.yaml",
    "isthmus run job.yaml --set train.epochs=3 --set seed=1",
    "isthmus run job.yaml --resume",
)


def run(
    job: JobFile,
    out: Out = Path("runs"),
    resume: Resume = False,
    sets: Sets = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Run all parties of a job here: a process each, over mutually authenticated TLS."""
    from isthmus.jobs.job import load_job
    from isthmus.jobs.launcher import Launch

    loaded = load_job(job, sets or ())
    launch_and_show(
        Launch(job=loaded, overrides=sets or (), out=out, resume=resume, debug=debug), output
    )


def launch_and_show(what: Launch, output: Format = Format.text, *, again: str = AGAIN) -> Path:
    """Run every party, then the pooled reference where the job asks for it; gives the page.

    `again` names the command that goes on where this one stopped. Exits the process with the code
    of the first cause where a party fails.

    Raises:
        IsthmusError: a party's table or settings are wrong; nothing was started.
    """
    from isthmus.cli.summary import read_report, show_summary

    pages = _launch(what, again)
    label_party = what.job.spec.label.party
    page = pages[label_party]
    if what.job.spec.wants_pooled:
        try:
            _pooled(what)
        except Interrupted as stop:
            typer.echo(f"{stopped_line(again)} All parties have finished; their reports:", err=True)
            for one in pages.values():
                typer.echo(f"  {one}", err=True)
            sys.exit(stop.code)
    if output is Format.json:
        typer.echo(json.dumps(read_report(page).model_dump(mode="json"), indent=2))
    else:
        show_summary(page, *(one for party, one in pages.items() if party != label_party))
    return page


def _launch(what: Launch, again: str) -> dict[str, Path]:
    """Run every party to its end; gives each one's page."""
    from isthmus.cli.display import Display
    from isthmus.jobs.launcher import launch
    from isthmus.jobs.precheck import check_own_side

    try:
        for party in what.job.spec.everyone:
            check_own_side(what.job, party)
        with Display(what.job.spec.everyone) as display:
            outcomes = launch(what, display.show)
    except Interrupted as stop:
        typer.echo(stopped_line(again, begun=_has_begun(what)), err=True)
        sys.exit(stop.code)
    if any(outcome.failed for outcome in outcomes.values()):
        found = list(outcomes.values())
        sys.exit(_show_failures(found, what.debug, again, begun=_has_begun(what)))
    return {party: one.report for party, one in outcomes.items() if one.report is not None}


def _has_begun(what: Launch) -> bool:
    """Whether a party has finished a step, from which all could go on."""
    from isthmus.jobs.artefacts import PartyFolder
    from isthmus.jobs.going_on import can_go_on

    folder = what.out / what.job.folder_name
    return any(can_go_on(PartyFolder(folder / party), "stopped") for party in what.job.spec.order)


def _pooled(what: Launch) -> None:
    from isthmus.cli.display import Display
    from isthmus.jobs.artefacts import PartyFolder
    from isthmus.jobs.events import EventProgress
    from isthmus.jobs.launcher import threads_each
    from isthmus.jobs.outcome import write_party_report
    from isthmus.jobs.party import set_threads
    from isthmus.jobs.pooled import add_pooled

    job, folder = what.job, what.out / what.job.folder_name
    # The same as a party had: more threads than cores to spare only wait for each other.
    set_threads(threads_each(len(job.spec.order)))
    with Display(("pooled model",)) as display:
        progress = EventProgress(lambda event: display.show("pooled model", event))
        add_pooled(job, folder, progress)
    for party in (job.spec.label.party, *job.spec.tower_parties):
        write_party_report(job, party, PartyFolder(folder / party))


def _show_failures(
    outcomes: list[Outcome], debug: bool, again: str = AGAIN, *, begun: bool = True
) -> int:
    """One message a party that failed, the first cause first; returns the exit code.

    `begun`: whether there is something to go on from.
    """
    from isthmus.jobs.going_on import MENDED_OUTSIDE

    failed = sorted((o for o in outcomes if o.failed), key=_consequence)
    causes = [o.error["code"] for o in failed if o.error is not None and not _consequence(o)]
    helps = begun and all(code in MENDED_OUTSIDE for code in causes)
    for outcome in failed:
        if outcome.error is not None:
            error = outcome.error
            mend = error["mend"]
            if helps and error["code"] in RESUMABLE:
                mend = go_on(mend, again)
            echo_error(error["code"], error["message"], mend, party=outcome.party)
        else:
            hint = go_on("", again) if helps and not debug else ""
            echo_error("error", _died(outcome), hint, party=outcome.party)
        if outcome.noise and (debug or outcome.error is None):
            typer.echo("\n".join(outcome.noise), err=True)
    first = failed[0].error
    return exit_code(first["code"]) if first else UNEXPECTED


def _consequence(outcome: Outcome) -> bool:
    """Whether a party's failure is only that of a partner, as it saw it."""
    told = outcome.error is not None and outcome.error["code"].startswith("link")
    return told or outcome.stopped


def _died(outcome: Outcome) -> str:
    if outcome.stopped:
        return "was stopped, since a partner had failed"
    code = outcome.returncode or 0
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
