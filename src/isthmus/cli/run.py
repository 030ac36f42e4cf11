"""`isthmus run`: all parties of a job on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from isthmus.cli.exit_codes import INTERRUPTED, UNEXPECTED, exit_code
from isthmus.cli.failure import echo_error
from isthmus.cli.options import Debug, Format, JobFile, Out, Output, Resume, Sets, examples

if TYPE_CHECKING:
    from isthmus.jobs.launcher import Launch, Outcome

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


def launch_and_show(what: Launch, output: Format = Format.text) -> Path:
    """Run every party, then the pooled reference where the job asks for it; gives the page.

    Exits the process with the code of the first cause where a party fails.
    """
    from isthmus.cli.display import Display
    from isthmus.cli.summary import read_report, show_summary
    from isthmus.jobs.launcher import launch

    try:
        with Display(what.job.spec.order) as display:
            outcomes = launch(what, display.show)
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command with --resume goes on from here.", err=True)
        sys.exit(INTERRUPTED)
    if any(outcome.failed for outcome in outcomes.values()):
        sys.exit(_show_failures(list(outcomes.values()), what.debug))
    page = outcomes[what.job.spec.label.party].report
    assert page is not None
    if what.job.spec.evaluate.pooled:
        _pooled(what)
    if output is Format.json:
        typer.echo(json.dumps(read_report(page).model_dump(mode="json"), indent=2))
    else:
        show_summary(page)
    return page


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
    label_party = job.spec.label.party
    write_party_report(job, label_party, PartyFolder(folder / label_party))


def _show_failures(outcomes: list[Outcome], debug: bool) -> int:
    """One message a party that failed, the first cause first; returns the exit code."""
    failed = sorted((o for o in outcomes if o.failed), key=_consequence)
    for outcome in failed:
        if outcome.error is not None:
            error = outcome.error
            echo_error(error["code"], error["message"], error["mend"], party=outcome.party)
        else:
            echo_error("error", _died(outcome), _noise_hint(debug), party=outcome.party)
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


def _noise_hint(debug: bool) -> str:
    return "" if debug else "Run the same command with --resume to go on where it stopped."
