"""`isthmus fedrec demo`: a server and its shards as processes of this machine, end to end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.fedrec.defences import ShardSums
from isthmus.cli.fedrec.run import Columns, protocols_of, say, told_in_lines
from isthmus.cli.fedrec.served import show_served
from isthmus.cli.options import Debug, Format, Output, examples

if TYPE_CHECKING:
    from isthmus.fedrec import Interactions, RunResult
    from isthmus.fedrec.devices import Plan, Served

EXAMPLES = examples(
    "isthmus fedrec demo",
    "isthmus fedrec demo --shards 4 --algorithm fedavg --rounds 5",
    "isthmus fedrec demo --algorithm ordered-pairs --secure-sum",
)
SERVER = "hub"
LEAST_UNDER_MASKS = 3


def demo(
    shards: Annotated[int, typer.Option(help="Processes that stand for clients.", min=1)] = 3,
    data: Annotated[str, typer.Option(help="As for `run`.")] = "ml-100k",
    algorithm: Annotated[str, typer.Option(help="As for `serve`.")] = "pfedrec",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds of training; 20, or 1 of methods of one.")
    ] = None,
    secure_sum: ShardSums = False,
    column: Columns = None,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Cut a data set, start a server and shards that talk over TLS, compare with `run`."""
    del debug
    from isthmus.fedrec import RunOptions, interactions, recipe, run
    from isthmus.fedrec.devices import Census, Plan
    from isthmus.fedrec.options import parse_columns
    from isthmus.fedrec.privacy import Defences

    began = time.monotonic()
    found = interactions(data, columns=parse_columns(column or []), say=say)
    _see_enough(min(shards, found.users), masked=secure_sum)
    rules = tuple(protocols_of(["honest-sampled", "full-ranking"]))
    chosen = recipe(algorithm)
    options = RunOptions(
        rounds=rounds or min(20, chosen.algorithm.rounds), defences=Defences(secure_sum=secure_sum)
    )
    plan = Plan(Census.of(found, rules[0], 0), chosen, rules, options)
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        served = _served(Path(folder), plan, found, min(shards, found.users))
    show_served(served, output)
    say("The same in one process, all clients simulated:")
    alone = run(found, plan.recipe, rules, replace(options, defences=Defences()))
    say(_compared(alone, served.result))
    say(f"The demo took {time.monotonic() - began:.0f} s as a whole")


def _see_enough(shards: int, *, masked: bool) -> None:
    """See that a sum under masks hides what each of so many shards adds. Raises JobError."""
    from isthmus.errors import JobError

    if masked and shards < LEAST_UNDER_MASKS:
        raise JobError(
            f"--secure-sum with {shards} shard{'s' * (shards != 1)}: each would know from the sum "
            "what the others sent",
            mend=f"Take --shards {LEAST_UNDER_MASKS} or more.",
        )


def _served(folder: Path, plan: Plan, data: Interactions, shards: int) -> Served:
    from isthmus.fedrec.devices import Limits, evenly, see_fit, serve, split
    from isthmus.link import Listener, create_identity, trust

    names = [f"shard-{number}" for number in range(1, shards + 1)]
    for name in (SERVER, *names):
        create_identity(folder / name, name, days=2)
    groups = evenly(data.users, shards)
    for name, part in zip(names, split(data, plan.protocols[0], 0, groups), strict=True):
        trust(folder / SERVER, folder / name / f"{name}.cert.pem")
        trust(folder / name, folder / SERVER / f"{SERVER}.cert.pem")
        part.save(folder / f"{name}.part")
    see_fit(plan, folder / SERVER)
    with Listener(folder / SERVER, SERVER) as listener:
        say(f"{SERVER} listens at {listener.address}; {shards} shards are processes of their own")
        children = [_start(folder, name, listener.address) for name in names]
        patience = 0.0
        try:
            served = serve(
                plan, folder / SERVER, SERVER, listener, limits=Limits(reconnect=5.0, wait=120.0),
                told=told_in_lines(plan.options.rounds or 1), say=say,
            )  # fmt: skip
            patience = 10.0
            return served
        finally:
            _end(children, patience)


def _start(folder: Path, name: str, address: str) -> subprocess.Popen[str]:
    words = [
        "fedrec", "join", str(folder / f"{name}.part"), "--as", name, "--identity",
        str(folder / name), "--server", f"{SERVER}={address}", "--reproducible", "--wait", "60",
        "--reconnect", "5",
    ]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-m", "isthmus", *words], stderr=subprocess.PIPE, text=True
    )
    threading.Thread(target=_repeat, args=(name, child), daemon=True).start()
    return child


def _repeat(name: str, child: subprocess.Popen[str]) -> None:
    assert child.stderr is not None
    with child.stderr as lines:
        for line in lines:
            say(f"{name}: {line.rstrip()}")


def _end(children: list[subprocess.Popen[str]], patience: float) -> None:
    """Wait so many seconds for each, and stop those that are still there."""
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
    for child in children:
        child.terminate()
    for child in children:
        child.wait()


def _compared(alone: RunResult, served: RunResult) -> str:
    what = "Losses, bytes and all metrics of all rounds are"
    if _outcome(alone) == _outcome(served):
        return f"{what} the same, bit for bit."
    if _outcome(alone, bytes_up=False) == _outcome(served, bytes_up=False):
        return "Losses and metrics of all rounds are the same, bit for bit; bytes up differ."
    if not served.privacy.get("secure_sum"):
        return f"{what} different."
    # Sums of item rows under masks are rounded to steps of 2^-30, and their bytes are others.
    apart = max(
        abs(value - judged.test[name])
        for rules, outcome in alone.outcomes.items()
        for mine, judged in zip(outcome.judgements, served.outcomes[rules].judgements, strict=True)
        for name, value in mine.test.items()
    )
    return f"All metrics of all rounds are the same to {apart:.1g}; masked words are rounded."


def _outcome(result: RunResult, *, bytes_up: bool = True) -> object:
    # Of own tables `run` counts the touched rows of all clients, here some send whole tables.
    rounds = [
        (one.number, one.loss, one.clients, one.up if bytes_up else 0, one.down)
        for one in result.rounds
    ]
    return rounds, result.outcomes
