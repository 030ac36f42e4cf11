"""`isthmus demo`: organisations train one recommender, from the data to the report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.cli.options import Debug, Format, Output, Sets, examples

if TYPE_CHECKING:
    from isthmus.jobs.job import Job

EXAMPLES = examples(
    "isthmus demo",
    "isthmus demo --entity",
    "isthmus demo --three",
    "isthmus demo --history alice",
    "isthmus demo --credit",
    "isthmus demo --entity --files-only",
    "isthmus demo --source ~/ml-100k",
)


class Owner(StrEnum):
    """Who has the histories of the demo."""

    bob = "bob"
    alice = "alice"


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the demo's files go; demo, demo-entity, ... if unset."),
    ] = None,
    entity: Annotated[
        bool,
        typer.Option(
            "--entity", metavar="", help="One profile row per user at alice, many events at bob."
        ),
    ] = False,
    three: Annotated[
        bool,
        typer.Option(
            "--three",
            metavar="",
            help="Alice's columns at alice and carol; bob gets a secure sum of theirs.",
        ),
    ] = False,
    history: Annotated[
        Owner | None,
        typer.Option(help="DIN over what users did before: the history at bob, or at alice."),
    ] = None,
    credit: Annotated[
        bool,
        typer.Option(
            "--credit",
            metavar="",
            help="A scorecard of a bank and a shop, on made-up data (extra vertical).",
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
    files_only: Annotated[
        bool,
        typer.Option(
            "--files-only", metavar="", help="Write the tables and the job file, and do not run it."
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
    """Get MovieLens-100K, split it between organisations, train, evaluate, report."""
    from isthmus.cli.demo_folder import claim
    from isthmus.jobs.examples import example
    from isthmus.jobs.job import load_job

    began = time.monotonic()
    asked = {"entity": entity, "three": three, f"history_{history}": history is not None}
    kind = _kind(asked | {"credit": credit})
    suffix = "" if kind == "row" else kind
    name = "-".join(["demo", *suffix.split("_")]) if suffix else "demo"
    place = claim(folder or Path(name), keys=kind, force=force)
    if credit:
        _make_credit(place.path, seed, output)
    else:
        _split_movielens(place.path, kind, source, seed, output)
    job_file = place.job_file
    text = example("credit" if credit else "_".join(filter(None, ("movielens", suffix))))
    if not place.write_job(text):
        _say(output, f"Keeping {job_file}, which was changed since the demo wrote it")
    job = load_job(job_file, sets or ())
    folders = ", ".join(f"{place.path}/{party}" for party in job.spec.order)
    if files_only:
        _say(output, f"Written, not run: {folders}, {job_file}")
        return
    _run(job, sets or (), output, debug=debug)
    _say(output, f"Look around: {folders}, {job_file}")
    _say(output, f"The demo took {time.monotonic() - began:.0f} s as a whole")


def _make_credit(folder: Path, seed: int, output: Format) -> None:
    from isthmus.data.credit import write_credit

    common = write_credit(folder, seed=seed)
    _say(output, f"Made up a bank and a shop with {common:,} customers in common, in {folder}")


def _split_movielens(
    folder: Path, kind: str, source: Path | None, seed: int, output: Format
) -> None:
    from isthmus.cli.demo_folder import add_carol
    from isthmus.data.demo import add_views, two_organisations
    from isthmus.data.sources import get

    _say(output, "Getting MovieLens-100K")
    data = get("ml-100k", source=source, say=lambda text: _say(output, text))
    many = "three" if kind == "three" else "two"
    _say(output, f"Splitting it into {many} organisations in {folder}")
    keys: Literal["row", "entity"] = "row" if kind in ("row", "three") else "entity"
    two_organisations(data, folder, seed=seed, keys=keys)
    if kind == "three":
        add_carol(folder, seed=seed)
    if kind == "history_alice":
        add_views(folder, seed=seed)


def _run(job: Job, sets: Sequence[str], output: Format, *, debug: bool) -> None:
    from isthmus.cli.run import launch_and_show
    from isthmus.jobs.launcher import Launch

    parties, out = job.spec.order, job.path.parent / "runs"
    names = f"{', '.join(parties[:-1])} and {parties[-1]}"
    _say(output, f"Running {job.path}: {names} are {len(parties)} processes that talk over TLS")
    changes = "".join(f" --set {shlex.quote(change)}" for change in sets)
    launch_and_show(
        Launch(job=job, overrides=sets, out=out, debug=debug),
        output,
        again=f"`isthmus run {job.path} --out {out}{changes} --resume`",
    )


def _kind(asked: Mapping[str, bool]) -> str:
    """Which demo it is. Raises JobError where two are asked for."""
    from isthmus.errors import JobError

    kinds = [kind for kind, wanted in asked.items() if wanted]
    if len(kinds) > 1:
        flags = " and ".join(f"--{kind.partition('_')[0]}" for kind in kinds)
        raise JobError(f"{flags} do not go together", mend="There is a demo of each: choose one.")
    return kinds[0] if kinds else "row"


def _say(output: Format, text: str) -> None:
    typer.echo(text, err=output is Format.json)
