"""`isthmus fedrec images`: personalised methods on images dealt out with label skew."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from isthmus.cli.fedrec.run import see_file
from isthmus.cli.options import Debug, examples

EXAMPLES = examples(
    "isthmus fedrec images --algorithm da-pfl",
    "isthmus fedrec images --algorithm all --skew shards --strength 2 --seeds 3",
)


class Skew(StrEnum):
    """How labels are skewed."""

    dirichlet = "dirichlet"
    shards = "shards"


def images(
    algorithm: Annotated[
        str, typer.Option(help="local-only, fedavg, fedprox, pfedmoe, da-pfl, or all.")
    ] = "da-pfl",
    data: Annotated[
        str, typer.Option(help="digits, or an .npz file with images x and classes y.")
    ] = "digits",
    clients: Annotated[int, typer.Option(help="Clients.", min=2)] = 20,
    skew: Annotated[Skew, typer.Option(help="How images are dealt out.")] = Skew.dirichlet,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Dirichlet's parameter, less is more skew (0.3 if unset); or shards a client (2)."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds.", min=1)] = 50,
    rate: Annotated[float, typer.Option(help="Learning rate.", min=0.0)] = 0.1,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="So many seeds.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the result.")] = None,
    debug: Debug = False,
) -> None:
    """Train methods and local-only beside them; accuracy is each client's on its own images."""
    del debug
    from isthmus.errors import JobError
    from isthmus.fedrec import randomness
    from isthmus.fedrec.images import METHODS, Found, Settings, deal, load, run
    from isthmus.files import write_json

    if algorithm not in ("all", *METHODS):
        raise JobError(f"there is no method {algorithm!r}", mend=f"Known: {', '.join(METHODS)}.")
    if out is not None:
        see_file(out)
    if strength is None:
        strength = 2.0 if skew is Skew.shards else 0.3
    names = METHODS if algorithm == "all" else tuple(dict.fromkeys(("local-only", algorithm)))
    pictures, found = load(data), list[Found]()
    for number in range(seed, seed + seeds):
        rng = randomness.generator(number, randomness.SPLIT)
        dealt = deal(pictures, clients, skew.value, strength, rng)
        for name in names:
            typer.echo(f"seed {number}: {name}", err=True)
            found.append(run(pictures, dealt, name, Settings(rounds=rounds, rate=rate), number))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("algorithm", "seed", "round", "accuracy", "10th percentile", "numbers up"):
        table.add_column(head, justify="left" if head == "algorithm" else "right")
    for one in found:
        low = one.lowest[one.chosen - 1]
        values = (
            str(one.seed),
            str(one.chosen),
            f"{one.accuracy:.4f}",
            f"{low:.4f}",
            f"{one.up:,}",
        )
        table.add_row(one.method, *values)
    Console(width=100).print(table)
    if out is not None:
        write_json(out, [one.to_json() for one in found])
