"""`isthmus job`: check a job file before anything runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from isthmus.cli.options import Debug, Format, JobFile, Output, Sets, examples

app = typer.Typer(help="Check a job file before anything runs.", no_args_is_help=True)


@app.command(epilog=examples("isthmus job schema > job.schema.json", "isthmus job schema --fields"))
def schema(
    fields: Annotated[
        bool,
        typer.Option("--fields", metavar="", help="Print the fields as Markdown tables instead."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Print the JSON schema of job files, for editors."""
    del debug
    from isthmus.jobs.schema import field_reference, schema_text

    typer.echo(field_reference() if fields else schema_text(), nl=False)


@app.command(
    epilog=examples("isthmus job validate job.yaml", "isthmus job validate job.yaml --as alice")
)
def validate(
    job: JobFile,
    me: Annotated[
        str | None, typer.Option("--as", help="Also check this party's table and settings.")
    ] = None,
    sets: Sets = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Check a job file; with `--as`, also the values in the party's table, and its settings."""
    del debug
    from isthmus.jobs.job import load_job
    from isthmus.jobs.precheck import check_choices, check_own_side

    loaded = load_job(job, sets or ())
    check_choices(loaded)
    if me is not None:
        check_own_side(loaded, me)
    if output is Format.json:
        typer.echo(json.dumps({"valid": True, "name": loaded.spec.name, "hash": loaded.hash}))
    else:
        looked = "no table was looked at: add --as PARTY"
        fits = looked if me is None else f"the table of {me} fits it"
        if me is not None and me == loaded.spec.arbiter:
            fits = f"{me} can be its arbiter"
        typer.echo(f"{job} is a valid job, hash {loaded.hash}; {fits}")


@app.command(name="hash", epilog=examples("isthmus job hash job.yaml"))
def hash_(
    job: JobFile,
    sets: Sets = None,
    canonical: Annotated[
        bool,
        typer.Option("--canonical", metavar="", help="Print what is hashed, as canonical JSON."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Print the hash of what is agreed: it must be the same at every party."""
    del debug
    from isthmus.jobs.job import canonical_json, load_job

    loaded = load_job(job, sets or ())
    typer.echo(canonical_json(loaded.spec) if canonical else loaded.hash)
