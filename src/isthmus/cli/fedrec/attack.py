"""`isthmus fedrec attack`: attacks on a recommender in training, and what they gain and cost."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from isthmus.cli.fedrec.defences import Clip, ClipRows, Noise, PseudoItems, SecureSum
from isthmus.cli.fedrec.run import Columns, Data, Least, see_file
from isthmus.cli.options import Debug, examples

if TYPE_CHECKING:
    from isthmus.fedrec import Interactions, Recipe
    from isthmus.fedrec.attacks.promoting import Plan, Promotion
    from isthmus.fedrec.privacy import Defences

EXAMPLES = examples(
    "isthmus fedrec attack --data ml-100k --algorithm fedavg --kind pipattack --malicious 0.05",
    "isthmus fedrec attack --data ml-100k --algorithm trimmed-mean --kind fedrecattack",
    "isthmus fedrec attack --data ml-100k --algorithm fedavg --kind explicit --bound-rows 0.2",
    "isthmus fedrec attack --data ml-100k --algorithm pfedrec --kind touched-rows --pseudo-items 4",
)


class AttackKind(StrEnum):
    """Three by the names of their papers, two baselines, and two by the server on clients."""

    random = "random"
    explicit = "explicit"
    pipattack = "pipattack"
    fedrecattack = "fedrecattack"
    touched_rows = "touched-rows"
    membership = "membership"


BY_SERVER = (AttackKind.touched_rows, AttackKind.membership)
_PUSHING = (AttackKind.explicit, AttackKind.pipattack, AttackKind.fedrecattack)
OF_HOSTILE = {
    "malicious": (AttackKind.random, *_PUSHING),
    "targets": (AttackKind.random, *_PUSHING),
    "boost": _PUSHING,
    "public": (AttackKind.fedrecattack,),
}
"""Which attacks have which number of hostile clients."""


Malicious = Annotated[
    float | None,
    typer.Option(help="Hostile clients for each honest one; 0.05 if unset.", min=0.0, max=1.0),
]
Targets = Annotated[int | None, typer.Option(help="Items to promote; 1 if unset.", min=1)]
Boost = Annotated[
    float | None,
    typer.Option(
        help="How far a hostile row may move, in largest honest changes; 1 if unset.", min=0.0
    ),
]
Public = Annotated[
    float | None,
    typer.Option(
        help="Share of interactions that fedrecattack knows; 0.05 if unset.", min=0.0, max=1.0
    ),
]


def attack(
    data: Data,
    algorithm: Annotated[
        str, typer.Option(help="What is attacked; see `isthmus fedrec list`.")
    ] = "fedavg",
    kind: Annotated[
        AttackKind,
        typer.Option(
            help="random, explicit, pipattack, fedrecattack: hostile clients promote an item. "
            "touched-rows, membership: the server guesses clients' items."
        ),
    ] = AttackKind.pipattack,
    backbone: Annotated[str | None, typer.Option(help="fcf or pfedrec.")] = None,
    malicious: Malicious = None,
    targets: Targets = None,
    boost: Boost = None,
    public: Public = None,
    bound_rows: Annotated[
        float,
        typer.Option(help="The server shortens each row's change to this 2-norm; 0: no.", min=0.0),
    ] = 0.0,
    pseudo_items: PseudoItems = 0,
    clip: Clip = 0.0,
    clip_rows: ClipRows = 0.0,
    noise: Noise = 0.0,
    secure_sum: SecureSum = False,
    seed: Annotated[int, typer.Option(help="Names all random streams.", min=0)] = 0,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds; the algorithm's own number if unset.", min=1)
    ] = None,
    every: Annotated[int, typer.Option(help="Judge every so many rounds.", min=1)] = 10,
    threads: Annotated[int, typer.Option(help="Threads over clients.", min=1)] = 1,
    memory: Annotated[int, typer.Option(help="MiB for a chunk of clients.", min=1)] = 1024,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a number, such as dim=8."),
    ] = None,
    column: Columns = None,
    min_interactions: Least = None,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the result.")] = None,
    debug: Debug = False,
) -> None:
    """Attack an algorithm in training; hostile clients: with a training without them beside it."""
    del debug
    from isthmus.fedrec import interactions, recipe
    from isthmus.fedrec.attacks.promoting import Plan
    from isthmus.fedrec.options import parse_columns, parse_sets
    from isthmus.fedrec.privacy import Defences
    from isthmus.files import write_json

    chosen = recipe(algorithm, backbone, parse_sets(sets or []))
    defences = Defences(
        pseudo_items, clip=clip, clip_rows=clip_rows, noise=noise, secure_sum=secure_sum
    )
    hostile = {"malicious": malicious, "targets": targets, "boost": boost, "public": public}
    given = {name: one for name, one in hostile.items() if one is not None}
    _check(kind, defences, bound_rows, rounds)
    _check_hostile(kind, given)
    if out is not None:
        see_file(out)
    plan = None
    if kind not in BY_SERVER:
        plan = Plan(kind.value, **given)  # type: ignore[arg-type]
    numbers = (rounds, every, seed, threads, memory << 20)
    named = parse_columns(column or [])
    found = interactions(data, least=min_interactions, columns=named, say=_say)
    if plan is None:
        result = _by_server(kind, found, chosen, defences, numbers)
    else:
        result = _by_clients(found, chosen, plan, bound_rows, numbers)
    if out is not None:
        write_json(out, result)


def _check(kind: AttackKind, defences: Defences, bound_rows: float, rounds: int | None) -> None:
    """Refuse what would be left unused."""
    from isthmus.errors import JobError

    if kind not in BY_SERVER and defences:
        raise JobError(
            f"{kind} is by clients, who do not keep to defences of clients",
            mend="Take --bound-rows, or --algorithm trimmed-mean.",
        )
    if kind in BY_SERVER and bound_rows:
        raise JobError(
            f"--bound-rows is against hostile clients, {kind} is by the server",
            mend="Leave it out, or take a defence of clients: --pseudo-items, --clip and --noise.",
        )
    if kind is AttackKind.membership and rounds is not None:
        raise JobError("membership looks at first uploads alone", mend="Leave --rounds out.")


def _check_hostile(kind: AttackKind, given: Iterable[str]) -> None:
    """Refuse numbers of hostile clients that the attack has no use for."""
    from isthmus.errors import JobError

    unused = [f"--{name}" for name in given if kind not in OF_HOSTILE[name]]
    if unused:
        why = (
            "is by the server, without hostile clients"
            if kind in BY_SERVER
            else "has no such number"
        )
        raise JobError(
            f"{', '.join(unused)} would change nothing: {kind} {why}",
            mend="Leave it out, or take another --kind.",
        )


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _by_server(
    kind: AttackKind,
    data: Interactions,
    chosen: Recipe,
    defences: Defences,
    numbers: tuple[int | None, int, int, int, int],
) -> dict[str, Any]:
    from isthmus.fedrec.attacks import membership, touched_rows

    rounds, _, seed, threads, memory = numbers
    if kind is AttackKind.membership:
        one = membership.run(data, chosen, defences, seed=seed, threads=threads, memory=memory)
        lines, value = one.lines(), one.to_json()
    else:
        seen = touched_rows.run(
            data, chosen, defences, rounds=rounds or 6, seed=seed, threads=threads, memory=memory
        )
        lines, value = seen.lines(), seen.to_json()
    typer.echo("\n".join(lines))
    return value


def _by_clients(
    data: Interactions, chosen: Recipe, plan: Plan, bound: float,
    numbers: tuple[int | None, int, int, int, int],
) -> dict[str, Any]:  # fmt: skip
    from dataclasses import replace

    from isthmus.fedrec.attacks import promoting
    from isthmus.fedrec.privacy import NormBound

    rounds, every, seed, threads, memory = numbers
    server = (NormBound(row=bound),) if bound else ()
    total, console = rounds or chosen.algorithm.rounds, Console(stderr=True)
    results = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        # The attack first: one that does not fit the algorithm is refused before any training.
        for one in (plan, replace(plan, kind="none")):
            line = bar.add_task(one.kind, total=total)

            def told(found: Promotion, line: Any = line) -> None:
                bar.update(line, completed=found.last.number)
                if not console.is_terminal:
                    er = found.last.er["er@10"]
                    _say(f"{found.plan.kind}: round {found.last.number}/{total}, ER@10 {er:.3f}")

            results.append(
                promoting.run(
                    data, chosen, one, rounds=rounds, every=every, seed=seed, threads=threads,
                    memory=memory, server=server, told=told,
                )
            )  # fmt: skip
    hit, clean = results
    _show(clean, hit, bound)
    return {"bound_rows": bound, "clean": clean.to_json(), "attacked": hit.to_json()}


def _show(clean: Promotion, hit: Promotion, bound: float) -> None:
    plural = "s" * (len(hit.targets) > 1)
    have = ", ".join(map(str, hit.target_clients))
    people = "client" if have == "1" else "clients"
    typer.echo(
        f"{hit.algorithm} on {hit.data}: {hit.honest:,} honest clients, {hit.hostile:,} hostile; "
        f"{len(hit.targets)} target{plural}, had by {have} {people}; round {hit.last.number}"
        + (f"; rows bound to {bound:g}" if bound else "")
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attack")
    heads = ("ER@5", "ER@10", "HR@10", "NDCG@10", "HR@10 (99)", "NDCG@10 (99)")
    for head in heads:
        table.add_column(head, justify="right")
    for one in (clean, hit):
        full, sampled = (one.last.metrics[name] for name in ("full-ranking", "honest-sampled"))
        values = [*one.last.er.values(), full["hr@10"], full["ndcg@10"]]
        values += [sampled["hr@10"], sampled["ndcg@10"]]
        table.add_row(one.plan.kind, *(f"{value:.4f}" for value in values))
    Console(width=100).print(table)
