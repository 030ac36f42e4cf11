"""What honest clients do to uploads: options that `isthmus fedrec run` and its attacks share."""

from __future__ import annotations

from typing import Annotated

import typer

PseudoItems = Annotated[
    int,
    typer.Option(
        "--pseudo-items",
        metavar="N",
        help="Each client also sends N made-up rows for each of its items, of items that it never "
        "had, always the same ones.",
        min=0,
    ),
]
Clip = Annotated[
    float,
    typer.Option(
        "--clip", metavar="C", help="Shorten each client's whole change to this 2-norm.", min=0.0
    ),
]
ClipRows = Annotated[
    float,
    typer.Option(
        "--clip-rows", metavar="C", help="Shorten each row's change to this 2-norm.", min=0.0
    ),
]
Noise = Annotated[
    float,
    typer.Option(
        "--noise",
        metavar="Z",
        help="Differential privacy: normal noise of Z clips on each client's whole table, or with "
        "--secure-sum on the sum. Needs --clip. The result says epsilon.",
        min=0.0,
    ),
]
OwnNoise = Annotated[
    float,
    typer.Option(
        "--noise",
        metavar="Z",
        help="Differential privacy: normal noise of Z clips on each client's whole table. Needs "
        "--clip.",
        min=0.0,
    ),
]
SecureSum = Annotated[
    bool,
    typer.Option(
        "--secure-sum",
        metavar="",
        help="The server sees sums over clients alone, by pairwise masks; for algorithms that need "
        "no more.",
    ),
]
ShardSums = Annotated[
    bool,
    typer.Option(
        "--secure-sum",
        metavar="",
        help="The server sees sums over shards alone, under masks that survive lost shards; for "
        "three shards or more, and algorithms that need no more.",
    ),
]
Dropouts = Annotated[
    float,
    typer.Option(
        "--dropouts",
        metavar="SHARE",
        help="With --secure-sum: this share of a round's clients is lost in the middle of its sum, "
        "at most a third; the sum is the others'.",
        min=0.0,
    ),
]
Delta = Annotated[float, typer.Option(help="The delta at which epsilon is told.")]
