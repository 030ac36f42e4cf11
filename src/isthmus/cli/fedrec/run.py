"""`isthmus fedrec run`: one algorithm on one data set, under one protocol or several."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from isthmus.cli.fedrec.defences import (
    Clip,
    ClipRows,
    Delta,
    Dropouts,
    Noise,
    PseudoItems,
    SecureSum,
)
from isthmus.cli.options import Debug, Format, Output, examples

if TYPE_CHECKING:
    from isthmus.fedrec import EvalProtocol, Recipe, RunOptions, RunResult
    from isthmus.fedrec.population import Interactions

EXAMPLES = examples(
    "isthmus fedrec run --data ml-100k --algorithm fedavg",
    "isthmus fedrec run --data filmtrust --algorithm fedca --backbone fcf --protocol authors",
    "isthmus fedrec run --data ml-100k --algorithm pfedrec --protocol all --threads 2",
    "isthmus fedrec run --data ml-1m --algorithm fedca --set variant=authors --set alpha=0.5",
    "isthmus fedrec run --data ml-100k --algorithm pfedrec --pseudo-items 4",
    "isthmus fedrec run --data ml-100k --algorithm fedavg --secure-sum --clip 1 --noise 4",
    "isthmus fedrec run --data plays.csv --column user=listener --column item=song "
    "--algorithm ease",
)
ALL = "all"
LEAVES = {
    "nothing": "Nothing leaves the device.",
    "sums": "The server needs sums over clients alone, so a secure sum can hide single uploads.",
    "tables": "The server needs each client's own item table.",
    "vectors": "The server needs each client's own item rows and its user's vector.",
    "interactions": "The interactions leave the device: they are pooled.",
}
SLOW = 20.0
"""Seconds of a round that are worth a line before it begins."""
SHOWN = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")

Data = Annotated[
    str,
    typer.Option(
        help="A public data set (filmtrust, filmtrust-5, ml-100k, ml-1m, microlens-50k) or a "
        "table: RecBole's .inter, CSV, Parquet."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="WHAT=NAME", help="Which column is user, item, rating or time."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", metavar="", help="Go on where an earlier run stopped.")
]
Force = Annotated[
    bool,
    typer.Option("--force", metavar="", help="Replace a finished run that lies in the folder."),
]
Least = Annotated[
    int | None,
    typer.Option("--min-interactions", help="Leave out clients with fewer.", min=1),
]


def run(
    data: Data,
    algorithm: Annotated[
        str, typer.Option(help="See `isthmus fedrec list`; module:NAME for one of your own.")
    ],
    backbone: Annotated[str | None, typer.Option(help="fcf, fedncf or pfedrec.")] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="authors, honest-sampled, full-ranking, or all. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Names all random streams.", min=0)] = 0,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds; the algorithm's own number if unset.", min=1)
    ] = None,
    every: Annotated[int, typer.Option(help="Judge every so many rounds.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads over clients.", min=1)] = 1,
    memory: Annotated[int, typer.Option(help="MiB for a chunk of clients.", min=1)] = 1024,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a number of the algorithm or of training, such as epochs=3. Repeatable.",
        ),
    ] = None,
    column: Columns = None,
    min_interactions: Least = None,
    pseudo_items: PseudoItems = 0,
    clip: Clip = 0.0,
    clip_rows: ClipRows = 0.0,
    noise: Noise = 0.0,
    secure_sum: SecureSum = False,
    dropouts: Dropouts = 0.0,
    delta: Delta = 1e-5,
    out: Annotated[
        Path | None, typer.Option(help="Folder for result, ranks and checkpoint.")
    ] = None,
    resume: Resume = False,
    force: Force = False,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Train one algorithm and judge it; the result does not depend on threads or memory."""
    del debug
    from isthmus.fedrec import RunOptions, interactions, recipe
    from isthmus.fedrec.options import parse_columns, parse_sets
    from isthmus.fedrec.privacy import Defences
    from isthmus.fedrec.runner import Facts, finished_before

    defences = Defences(
        pseudo_items, clip=clip, clip_rows=clip_rows, noise=noise, secure_sum=secure_sum,
        dropouts=dropouts, delta=delta,
    )  # fmt: skip
    wanted = protocols_of(protocol or ["honest-sampled", "full-ranking"])
    chosen = recipe(algorithm, backbone, parse_sets(sets or []))
    named = parse_columns(column or [])
    found = interactions(data, least=min_interactions, columns=named, say=say)
    rounds = rounds_of(chosen, rounds)
    runs = []
    for rules in _by_ground(wanted):
        folder = out / ("authors" if rules[0].leaks else "honest") if out else None
        options = RunOptions(
            seed, rounds, every, threads, memory << 20, folder=folder, resume=resume, force=force,
            defences=defences,
        )  # fmt: skip
        # All of them before the first is trained: one that is refused costs no training.
        runs.append((rules, options, finished_before(Facts.of(found), chosen, rules, options)))
    if dropouts and not all(before for *_, before in runs):
        say_slow(dropouts, int(found.users * float(chosen.values().get("share", 1.0))))
    results = [
        _shown_again(options, before) if before else _train(found, chosen, rules, options)
        for rules, options, before in runs
    ]
    if output is Format.json:
        typer.echo(json.dumps([one.to_json() for one in results], indent=2))
    else:
        show(results)


def say(text: str) -> None:
    """A line on standard error."""
    typer.echo(text, err=True)


def see_file(path: Path) -> None:
    """See that a result can be written to `path`, before the work that it is the result of.

    Raises:
        JobError: it is a folder.
        StorageError: its folder cannot be written.
    """
    from isthmus.errors import JobError
    from isthmus.fedrec.runner import see_writable

    if path.is_dir():
        raise JobError(f"--out {path} is a folder", mend="Name a file, such as found.json.")
    see_writable(path.parent)


def protocols_of(names: list[str]) -> list[EvalProtocol]:
    """The protocols of these names, or all. Raises JobError for one that is not there."""
    from isthmus.fedrec import PROTOCOLS, protocol

    wanted = PROTOCOLS if ALL in names else dict.fromkeys(names)
    return [protocol(name) for name in wanted]


def rounds_of(chosen: Recipe, wanted: int | None) -> int:
    """The rounds that a run has: those wanted, the algorithm's own number, or one is all."""
    usual = chosen.algorithm.rounds
    if usual == 1 and (wanted or 1) > 1:
        say(f"{chosen.algorithm.title} is done in one round")
    return 1 if usual == 1 else wanted or usual


def counted(rounds: int) -> str:
    """`1 round`, `20 rounds`."""
    return f"{rounds} round{'s' * (rounds > 1)}"


def _by_ground(wanted: list[EvalProtocol]) -> list[list[EvalProtocol]]:
    """Protocols that share one training, together."""
    groups: dict[tuple[bool, bool], list[EvalProtocol]] = {}
    for one in wanted:
        groups.setdefault(one.ground, []).append(one)
    return list(groups.values())


def _shown_again(options: RunOptions, result: RunResult) -> RunResult:
    """A result that is there already, with a line that says so."""
    say_finished(options)
    return result


def say_finished(options: RunOptions) -> None:
    """Say that the run asked for lies finished in its folder, and since when."""
    from isthmus.fedrec.finished import FILE

    assert options.folder is not None
    moment = datetime.fromtimestamp((options.folder / FILE).stat().st_mtime).astimezone()
    say(
        f"{options.folder} holds this run, finished on {moment:%Y-%m-%d at %H:%M}: it is shown, "
        "nothing is trained. --force trains anew."
    )


def say_slow(dropouts: float, clients: int) -> None:
    """Say it where masks that survive lost clients take longer than the training that they hide."""
    from isthmus.fedrec.privacy.secure_dropouts import rules_for
    from isthmus.fedrec.privacy.secure_terms import LEAST

    if clients < LEAST:
        return
    near = rules_for(dropouts).terms(clients).neighbours
    # Shares go from each to each neighbour, and making one costs by their number (docs/fedrec/
    # privacy.md has the measurements).
    seconds = clients * (0.4 * near + 0.0115 * near**2) / 1000
    if seconds >= SLOW:
        say(
            f"--dropouts {dropouts:g}: each of {clients:,} clients shares secrets with {near} "
            f"others, some {seconds:,.0f} s a round for all; fewer clients (--set share=0.1), or "
            "fewer that drop out, take less"
        )


def say_begins(options: RunOptions) -> None:
    """Say what becomes of a run that was stopped, and where there is none to go on from."""
    from isthmus.fedrec import checkpoint

    folder = options.folder
    if folder is None:
        return
    stopped = checkpoint.stopped_after(folder)
    if options.resume and not (folder / checkpoint.FILE).is_file():
        say(f"{folder} holds no checkpoint: this begins with round 1")
    elif stopped and not options.resume:
        say(
            f"{folder} holds a run that was stopped, with a checkpoint of round {stopped}: this "
            "begins anew in its place, --resume would go on from there"
        )


def _train(
    data: Interactions, chosen: Recipe, rules: list[EvalProtocol], options: RunOptions
) -> RunResult:
    from isthmus.fedrec import run as train

    total = options.rounds or chosen.algorithm.rounds
    say_begins(options)
    console = Console(stderr=True)
    names = ", ".join(one.name for one in rules)
    title = chosen.algorithm.called(chosen.backbone)
    if not console.is_terminal:
        say(f"{title} on {data.name} ({names}): {counted(total)}")
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}", style="dim"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        line = bar.add_task(f"{title} · {names}", total=total, note="compiling")

        def told(result: RunResult) -> None:
            number = result.rounds[-1].number
            bar.update(line, completed=number, note=_note(result))
            if not console.is_terminal and _worth_a_line(number, total):
                say(f"round {number}/{total}: {_note(result)}")

        return train(data, chosen, rules, options, told)


def told_in_lines(total: int) -> Callable[[RunResult], None]:
    """A listener that writes every tenth of `total` rounds in a line."""

    def told(result: RunResult) -> None:
        number = result.rounds[-1].number
        if _worth_a_line(number, total):
            say(f"round {number}/{total}: {_note(result)}")

    return told


def _worth_a_line(number: int, total: int) -> bool:
    return number in (1, total) or number % max(1, total // 10) == 0


def _note(result: RunResult) -> str:
    parts = [
        f"{name} HR@10 {one.judgements[-1].valid['hr@10']:.3f} valid"
        for name, one in result.outcomes.items()
    ]
    loss = result.rounds[-1].loss
    return "; ".join(([f"loss {loss:.3f}"] if loss is not None else []) + parts)


def show(results: list[RunResult]) -> None:
    """The table of results, and what they cost."""
    first = results[0]
    backbone = f", {first.backbone}" if first.backbone else ""
    typer.echo(
        f"{first.title}{backbone} on {first.data}: {first.clients:,} clients, "
        f"{first.items:,} items, {first.interactions:,} interactions, seed {first.seed}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("protocol")
    for name in ("round", *SHOWN):
        table.add_column(name.upper() if "@" in name else name, justify="right")
    for result in results:
        for name, outcome in result.outcomes.items():
            values = [f"{outcome.best.test[metric]:.4f}" for metric in SHOWN]
            table.add_row(name, str(outcome.chosen), *values)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(table)
    for result in results:
        typer.echo(_cost(result))
    typer.echo(_leaves(first))
    for sentence in first.privacy.get("protects", ()):
        typer.echo(sentence)
    for sentence in dict.fromkeys(note for result in results for note in result.notes):
        typer.echo(f"Note: {sentence}")
    if any("authors" in result.outcomes for result in results):
        typer.echo(
            "The authors protocol leaks: held-out items are never training negatives, and the "
            "round is chosen on test. Compare `--algorithm local-only`."
        )


def _leaves(result: RunResult) -> str:
    """What the server learns: sums being enough does not mean that sums alone are sent."""
    text = LEAVES.get(result.leaves, f"Leaves the device: {result.leaves}.")
    if result.leaves == "sums" and not result.privacy.get("secure_sum"):
        text += " Without one it sees them."
    return text


def _cost(result: RunResult) -> str:
    rounds = result.rounds
    seconds = sorted(one.seconds for one in rounds)[len(rounds) // 2]
    up = sum(one.up for one in rounds) / max(1, sum(one.clients for one in rounds))
    down = sum(one.down for one in rounds) / max(1, sum(one.clients for one in rounds))
    names = ", ".join(result.outcomes)
    return (
        f"{names}: {counted(len(rounds))} of {seconds:.3f} s (median), "
        f"{up / 1024:,.1f} KiB up and {down / 1024:,.1f} KiB down a client and round"
    )
