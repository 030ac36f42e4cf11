"""An error as the user sees it: code, message, mend; and the exit code that goes with it."""

from __future__ import annotations

import traceback

import typer

from isthmus.cli.exit_codes import exit_code
from isthmus.errors import IsthmusError, code_of


def show_failure(error: BaseException, *, debug: bool) -> int:
    """Print `error` to standard error; returns the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, IsthmusError):
        echo_error(error.code, error.message, error.mend)
    else:
        what = f"unexpected {type(error).__name__}: {error}"
        echo_error(code_of(error), what, "Run it again with --debug and report the traceback.")
    return exit_code(code_of(error))


def echo_error(code: str, message: str, mend: str, *, party: str | None = None) -> None:
    """One error as text: what is wrong, then what to do."""
    head = typer.style(f"error [{code}]", fg=typer.colors.RED, bold=True)
    who = f"{party}: " if party else ""
    typer.echo(f"{who}{head} {message}", err=True)
    if mend:
        typer.echo(f"  {mend}", err=True)
