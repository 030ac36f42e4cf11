"""`isthmus fedrec images`: personalised methods on images dealt out with label skew."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from isthmus.cli.fedrec.run import see_file
from isthmus.cli.options import Debug, examples

if TYPE_CHECKING:
    from isthmus.fedrec.images import Found

EXAMPLES = examples(
    "isthmus fedrec images --algorithm da-pfl",
    "isthmus fedrec images --algorithm all --skew shards --strength 2 --seeds 3",
    "isthmus fedrec images --algorithm pfedmoe --data cifar-10 --take 10000",
    "isthmus fedrec images --data femnist --take 20000 --clients 50",
)


class Skew(StrEnum):
    """How labels are skewed."""

    dirichlet = "dirichlet"
    shards = "shards"
    writers = "writers"


class NetworkKind(StrEnum):
    """What is trained."""

    dense = "dense"
    cnn = "cnn"


def images(
    algorithm: Annotated[
        str, typer.Option(help="local-only, fedavg, fedprox, pfedmoe, da-pfl, or all.")
    ] = "da-pfl",
    data: Annotated[
        str,
        typer.Option(
            help="digits; cifar-10, cifar-100 or femnist, which are fetched; or an .npz file with "
            "images x and classes y."
        ),
    ] = "digits",
    take: Annotated[
        int | None,
        typer.Option(help="A sample of so many images; all if unset.", min=1),
    ] = None,
    network: Annotated[
        NetworkKind | None,
        typer.Option(
            help="One dense layer, or convolutions before it; if unset, cnn for images by name."
        ),
    ] = None,
    clients: Annotated[int, typer.Option(help="Clients.", min=2)] = 20,
    skew: Annotated[
        Skew | None,
        typer.Option(
            help="How images are dealt out; if unset, by writers where they have any, else "
            "dirichlet."
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Dirichlet's parameter, less is more skew (0.3 if unset); or shards a client (2)."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds.", min=1)] = 50,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate; if unset 0.1, or 0.01 with cnn and for images by name.", min=0.0
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="So many seeds.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the result.")] = None,
    debug: Debug = False,
) -> None:
    """Train methods and local-only beside them; accuracy is each client's on its own images."""
    del debug
    from isthmus.errors import JobError
    from isthmus.fedrec import randomness
    from isthmus.fedrec.images import METHODS, PUBLIC, Found, Settings, deal, load, run
    from isthmus.files import write_json

    if algorithm not in ("all", *METHODS):
        raise JobError(f"there is no method {algorithm!r}", mend=f"Known: {', '.join(METHODS)}.")
    if out is not None:
        see_file(out)
    names = METHODS if algorithm == "all" else tuple(dict.fromkeys(("local-only", algorithm)))
    rng = randomness.generator(seed, randomness.SAMPLING)
    pictures = load(data, take, rng, say=lambda text: typer.echo(text, err=True))
    skew = skew or (Skew.dirichlet if pictures.writers is None else Skew.writers)
    if strength is None:
        strength = 2.0 if skew is Skew.shards else 0.3
    kind = network or (NetworkKind.cnn if data in PUBLIC else NetworkKind.dense)
    if rate is None:
        # Steps grow with the number of inputs: at 0.1 convolutions on images by name learn nothing.
        rate = 0.01 if data in PUBLIC or kind is NetworkKind.cnn else 0.1
    settings = Settings(rounds=rounds, rate=rate, network=kind.value)
    found = list[Found]()
    for number in range(seed, seed + seeds):
        rng = randomness.generator(number, randomness.SPLIT)
        dealt = deal(pictures, clients, skew.value, strength, rng)
        for name in names:
            typer.echo(f"seed {number}: {name}", err=True)
            found.append(run(pictures, dealt, name, settings, number))
    _show(found)
    if out is not None:
        write_json(out, [one.to_json() for one in found])


def _show(found: Sequence[Found]) -> None:
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
