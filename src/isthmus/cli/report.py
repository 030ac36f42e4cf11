"""`isthmus report`: the page and the table of a finished job, made again from report.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.options import Debug, Format, Output, examples

EXAMPLES = examples(
    "isthmus report runs/movielens-1a2b3c4d/bob",
    "isthmus report report.json --format json",
)


def report(
    path: Annotated[
        Path, typer.Argument(help="A report.json, or the folder of a party that holds it.")
    ],
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Write the page of a report again and show its table."""
    del debug
    from isthmus.cli.summary import read_report, show_summary
    from isthmus.files import write_text
    from isthmus.jobs.report import render_html

    found = read_report(path)
    if output is Format.json:
        typer.echo(found.model_dump_json(indent=2))
        return
    page = (path if path.is_dir() else path.parent) / "report.html"
    write_text(page, render_html(found))
    show_summary(page)
