"""`isthmus tune`: a search for a job's best values, all parties on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.options import Debug, Format, JobFile, Out, Output, Sets, examples
from isthmus.cli.stopping import Interrupted

if TYPE_CHECKING:
    from isthmus.jobs.tune.report import Trial, TuneReport

SHOWN = 10
"""Trials in the table of the end; all are on the page."""

EXAMPLES = examples(
    "isthmus tune job.yaml space.yaml",
    "isthmus tune job.yaml space.yaml --trials 50",
    "isthmus tune job.yaml space.yaml --set train.epochs=5 --format json",
)


def tune(
    job: JobFile,
    space: Annotated[
        Path,
        typer.Argument(help="What is searched (YAML); see the page on tuning.", metavar="SPACE"),
    ],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all, in place of those in the file.")
    ] = None,
    out: Out = Path("runs"),
    sets: Sets = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Search for the best values of a job's fields by training it many times here.

    All parties run in this process. The same command goes on where a search was stopped.
    """
    del debug
    from isthmus.cli.display import Display
    from isthmus.jobs.events import EventProgress
    from isthmus.jobs.party import set_threads
    from isthmus.jobs.tune.report import TuneReport
    from isthmus.jobs.tune.search import Search, run_search
    from isthmus.jobs.tune.space import load_space

    wanted = load_space(space)
    if trials is not None:
        wanted = wanted.model_copy(update={"trials": trials})
    set_threads(1)
    try:
        with Display(("tune",)) as display:
            page = run_search(
                Search(
                    job=job,
                    space=wanted,
                    source=space,
                    overrides=tuple(sets or ()),
                    out=out,
                    progress=EventProgress(lambda event: display.show("tune", event)),
                    on_trial=lambda report: typer.echo(_line(report.trials[-1]), err=True),
                )
            )
    except Interrupted as stop:
        typer.echo("Stopped. The same command goes on after the trials that have ended.", err=True)
        sys.exit(stop.code)
    report = TuneReport.model_validate_json((page.parent / "tune.json").read_bytes())
    if output is Format.json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _show(report, page)


def _show(report: TuneReport, page: Path) -> None:
    typer.echo(f"The best of {len(report.trials)} trials by validation {report.metric}:")
    for trial in report.ranked[:SHOWN]:
        typer.echo(f"  {_line(trial)}")
    if report.command:
        typer.echo(f"The job with the best values:\n  {report.command}")
    typer.echo(f"Report: {page}")


def _line(trial: Trial) -> str:
    values = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.values.items()
    )
    found = trial.error if trial.metric is None else f"{trial.metric:.5f}"
    return f"trial {trial.number} {trial.state}: {found} ({values})"
