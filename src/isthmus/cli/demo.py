"""`isthmus demo`: two organisations train one recommender, from the data to the report."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from isthmus.cli.options import Debug, Format, Output, Sets, examples

EXAMPLES = examples("isthmus demo", "isthmus demo --entity", "isthmus demo --source ~/ml-100k")


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the demo's files go; demo, or demo-entity, if unset."),
    ] = None,
    entity: Annotated[
        bool,
        typer.Option(
            "--entity", metavar="", help="One profile row per user at alice, many events at bob."
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            metavar="",
            help="Use a folder that the demo did not make; write its job.yaml anew.",
        ),
    ] = False,
    source: Annotated[
        Path | None, typer.Option(help="A folder that has the files of MovieLens-100K.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which rows each side lacks.")] = 7,
    sets: Sets = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Get MovieLens-100K, split it between two organisations, train, evaluate, report."""
    from isthmus.cli.demo_folder import claim
    from isthmus.cli.run import launch_and_show
    from isthmus.data.demo import two_organisations
    from isthmus.data.sources import get
    from isthmus.jobs.examples import example
    from isthmus.jobs.job import load_job
    from isthmus.jobs.launcher import Launch

    began = time.monotonic()
    keys: Literal["row", "entity"] = "entity" if entity else "row"
    place = claim(folder or Path("demo-entity" if entity else "demo"), keys=keys, force=force)
    _say(output, "Getting MovieLens-100K")
    data = get("ml-100k", source=source, say=lambda text: _say(output, text))
    _say(output, f"Splitting it into two organisations in {place.path}")
    two_organisations(data, place.path, seed=seed, keys=keys)
    job_file, out = place.job_file, place.path / "runs"
    if not place.write_job(example("movielens_entity" if entity else "movielens")):
        _say(output, f"Keeping {job_file}, which was changed since the demo wrote it")
    job = load_job(job_file, sets or ())
    _say(output, f"Running {job_file}: alice and bob are two processes that talk over TLS")
    changes = "".join(f" --set {shlex.quote(change)}" for change in sets or ())
    launch_and_show(
        Launch(job=job, overrides=sets or (), out=out, debug=debug),
        output,
        again=f"`isthmus run {job_file} --out {out}{changes} --resume`",
    )
    _say(output, f"Look around: {place.path}/alice, {place.path}/bob, {job_file}")
    _say(output, f"The demo took {time.monotonic() - began:.0f} s as a whole")


def _say(output: Format, text: str) -> None:
    typer.echo(text, err=output is Format.json)
