"""`isthmus overlap`: count the ids that the parties of a job have in common, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.options import (
    DEFAULT_IDENTITY,
    Debug,
    Dial,
    Format,
    Identity,
    JobFile,
    Listen,
    Out,
    Output,
    Sets,
    Wait,
    examples,
)
from isthmus.cli.party import RECV, addresses

EXAMPLES = examples(
    "isthmus overlap job.yaml --as bob --identity ids --listen 0.0.0.0:7600",
    "isthmus overlap job.yaml --as alice --identity ids --dial bob.example.org:7600",
)


def overlap(
    job: JobFile,
    me: Annotated[str, typer.Option("--as", help="Which party of the job this is.")],
    identity: Identity = DEFAULT_IDENTITY,
    listen: Listen = None,
    dial: Dial = None,
    out: Out = Path("runs"),
    sets: Sets = None,
    wait: Wait = 600.0,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Count the ids in common with each partner; which they are, nobody learns."""
    del debug
    from isthmus.cli.display import Display
    from isthmus.jobs.arbiter import without_arbiter
    from isthmus.jobs.events import EventProgress
    from isthmus.jobs.job import load_job
    from isthmus.jobs.overlap import FIGURES, TRANSCRIPT, run_overlap
    from isthmus.jobs.party import PartyRun, partners_of
    from isthmus.jobs.tables import check_party
    from isthmus.link import Deadlines

    whole = load_job(job, sets or ())
    check_party(whole, me)
    loaded = without_arbiter(whole)
    run = PartyRun(
        job=loaded,
        me=me,
        identity=identity,
        listen=listen,
        dial=addresses(dial or [], partners_of(loaded, me)),
        out=out,
        deadlines=Deadlines(connect=wait, recv=RECV),
    )
    if output is Format.json:
        found = run_overlap(run)
        typer.echo(json.dumps({partner: asdict(one) for partner, one in found.items()}))
        return
    with Display((me,)) as display:
        progress = EventProgress(lambda event: display.show(me, event))
        found = run_overlap(replace(run, progress=progress))
    for partner, one in found.items():
        there = one.common / one.theirs
        typer.echo(
            f"{me} and {partner} have {one.common:,} ids in common: {one.rate:.1%} of the "
            f"{one.ours:,} of {me}, {there:.1%} of the {one.theirs:,} of {partner}"
        )
    typer.echo(revealed(me, loaded.spec.label.party, tuple(found)))
    folder = out / loaded.folder_name / me
    typer.echo(f"In {folder}: {FIGURES}, and {TRANSCRIPT}, what {me} sent")


def revealed(me: str, label_party: str, partners: tuple[str, ...]) -> str:
    """Who has learnt what."""
    if me != label_party or not partners[1:]:
        return f"{me} and {partners[0]} have learnt these numbers, and neither which ids they are"
    names = ", ".join(partners[:-1])
    return (
        f"{me} and each partner have learnt their own numbers, and nobody which ids they are; "
        f"{names} and {partners[-1]} nothing of one another"
    )
