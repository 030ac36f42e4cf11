"""`isthmus demo`: two organisations train one recommender, from the data to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.options import Debug, Format, Output, Sets, examples

EXAMPLES = examples("isthmus demo", "isthmus demo --entity", "isthmus demo --source ~/ml-100k")


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's files go.")] = Path("demo"),
    entity: Annotated[
        bool,
        typer.Option("--entity", help="One profile row per user at alice, many events at bob."),
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
    from isthmus.cli.run import launch_and_show
    from isthmus.data.demo import two_organisations
    from isthmus.data.sources import get
    from isthmus.files import write_text
    from isthmus.jobs.examples import example
    from isthmus.jobs.job import load_job
    from isthmus.jobs.launcher import Launch

    _say(output, "Getting MovieLens-100K")
    data = get("ml-100k", source=source, say=lambda text: _say(output, text))
    _say(output, f"Splitting it into two organisations in {folder}")
    two_organisations(data, folder, seed=seed, keys="entity" if entity else "row")
    job_file = folder / "job.yaml"
    write_text(job_file, example("movielens_entity" if entity else "movielens"))
    job = load_job(job_file, sets or ())
    _say(output, f"Running {job_file}: alice and bob are two processes that talk over TLS")
    launch_and_show(Launch(job=job, overrides=sets or (), out=folder / "runs", debug=debug), output)
    _say(output, f"Look around: {folder}/alice, {folder}/bob, {job_file}")


def _say(output: Format, text: str) -> None:
    typer.echo(text, err=output is Format.json)
