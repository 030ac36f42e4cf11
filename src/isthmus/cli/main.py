"""The `isthmus` command: its verbs, and the one place where errors become text and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from isthmus.cli import (
    data,
    demo,
    doctor,
    fedrec,
    identity,
    job,
    overlap,
    party,
    report,
    run,
    tune,
)
from isthmus.cli.failure import show_failure
from isthmus.cli.stopping import Interrupted, stop_on_signals

app = typer.Typer(
    name="isthmus",
    help="Train recommenders across organisations without moving their data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(identity.app, name="identity")
app.add_typer(data.app, name="data")
app.add_typer(job.app, name="job")
app.add_typer(fedrec.app, name="fedrec")
app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("party", epilog=party.EXAMPLES)(party.party)
app.command("overlap", epilog=overlap.EXAMPLES)(overlap.overlap)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from isthmus import __version__

        typer.echo(f"isthmus {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; a failure is one clear message, a traceback only with `--debug`."""
    stop_on_signals()
    try:
        app(prog_name="isthmus")
    except Interrupted as stop:
        typer.echo("Stopped.", err=True)
        sys.exit(stop.code)
    except Exception as error:
        sys.exit(show_failure(error, debug="--debug" in sys.argv))
