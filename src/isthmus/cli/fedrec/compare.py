"""`isthmus fedrec compare`: algorithms x protocols x seeds, in a live table and one report."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from isthmus.cli.fedrec.run import Columns, Data, Least
from isthmus.cli.options import Debug, Format, Output, examples

if TYPE_CHECKING:
    from isthmus.fedrec import EvalProtocol, RunResult
    from isthmus.fedrec.compare import Cell, Comparison, Entry

EXAMPLES = examples(
    "isthmus fedrec compare --data ml-100k --algorithms all --protocols all --seeds 5 "
    "--out compared",
    "isthmus fedrec compare --data filmtrust --algorithms fedavg,fedca,ease --protocols all",
    "isthmus fedrec compare --data ml-100k --algorithms fedca,fedca+variant=authors,fedca/fedncf",
)
REPORT = "report.html"


def compare(
    data: Data,
    algorithms: Annotated[
        str,
        typer.Option(
            help="Names with commas between, or all. NAME/BACKBONE and NAME+FIELD=VALUE vary one; "
            "module:NAME is one of your own."
        ),
    ] = "all",
    protocols: Annotated[
        str,
        typer.Option(help="authors, honest-sampled, full-ranking with commas between, or all."),
    ] = "all",
    seeds: Annotated[int, typer.Option(help="So many seeds, from 0.", min=1)] = 5,
    reference: Annotated[
        str | None,
        typer.Option(help="The algorithm that the others are tested against; fedavg if unset."),
    ] = None,
    metric: Annotated[str, typer.Option(help="What is tested and drawn.")] = "ndcg@10",
    rounds: Annotated[
        int | None, typer.Option(help="Rounds; each algorithm's own number if unset.", min=1)
    ] = None,
    every: Annotated[int, typer.Option(help="Judge every so many rounds.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Threads over clients.", min=1)] = 1,
    memory: Annotated[int, typer.Option(help="MiB for a chunk of clients.", min=1)] = 1024,
    column: Columns = None,
    min_interactions: Least = None,
    out: Annotated[Path, typer.Option(help="Folder for trainings and report.")] = Path("compared"),
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Compare algorithms; the same command goes on where it was stopped.

    One training serves the two honest protocols. An error of one algorithm is told and does not
    end the others.
    """
    del debug
    from isthmus.fedrec import interactions
    from isthmus.fedrec.compare import CompareOptions, entries, wanted_protocols
    from isthmus.fedrec.compare import compare as go
    from isthmus.fedrec.compare.page import write_report
    from isthmus.fedrec.options import parse_columns
    from isthmus.fedrec.runner import see_writable

    rules = wanted_protocols(_words(protocols))
    rows, failures = entries(_words(algorithms))
    see_writable(out)
    named = parse_columns(column or [])
    found = interactions(data, least=min_interactions, columns=named, say=_say)
    options = CompareOptions(
        out, tuple(range(seeds)), rounds, every, threads, memory << 20, metric, reference
    )
    console = Console(stderr=True)
    board = Board(rows, rules, options.seeds, console)
    live = Live(board, console=console, refresh_per_second=4, transient=True)
    with live if console.is_terminal else nullcontext():
        compared = go(found, rows, rules, options, failures, board.told)
    page = write_report(out / REPORT, compared)
    if output is Format.json:
        typer.echo(json.dumps(compared.to_json(), indent=2))
        return
    width = None if Console().is_terminal else 160
    Console(width=width).print(result_table(compared))
    for one in compared.leaks:
        if one.leaks:
            typer.echo(f"warning: {one.sentence}")
    for note in compared.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Report: {page}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def result_table(found: Comparison) -> Table:
    """HR@10 and NDCG@10 of each row under each protocol; what failed stands in the last column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("algorithm", no_wrap=True)
    for name in found.protocols:
        table.add_column(f"{name}\nHR@10 / NDCG@10", justify="right")
    table.add_column("")
    wrong = {one.name: f"{one.where}: {one.error}" for one in found.failures if one.where}
    for row in found.rows:
        cells = []
        for name in found.protocols:
            score = row.scores.get(name)
            metrics = [] if score is None else [score.metrics["hr@10"], score.metrics["ndcg@10"]]
            cells.append(" / ".join(_mean(one.mean, one.deviation) for one in metrics) or "–")
        note = f"[red]{escape(wrong[row.name])}[/]" if row.name in wrong else ""
        table.add_row(escape(row.label), *cells, note)
    for one in found.failures:
        if not one.where:
            empty = ["–"] * len(found.protocols)
            table.add_row(escape(one.name), *empty, f"[red]{escape(one.error)}[/]")
    return table


def _mean(mean: float, deviation: float | None) -> str:
    return f"{mean:.3f}" + ("" if deviation is None else f" ±{deviation:.3f}")


class Board:
    """The live table: a line an algorithm, its figures so far and what it is doing."""

    def __init__(
        self,
        rows: list[Entry],
        rules: list[EvalProtocol],
        seeds: tuple[int, ...],
        console: Console,
    ) -> None:
        self._labels = {row.name: row.label for row in rows}
        self._names = [one.name for one in rules]
        self._seeds, self._console = seeds, console
        self._values: dict[tuple[str, str], dict[int, float]] = {}
        self._doing: dict[str, str] = {}

    def told(
        self,
        cell: Cell,
        state: Literal["begins", "runs", "ended", "kept", "failed"],
        result: RunResult | None,
        error: str,
    ) -> None:
        """Take in what happens to a training."""
        name = cell.entry.name
        self._labels.setdefault(name, cell.entry.label)
        if result is not None:
            for protocol, outcome in result.outcomes.items():
                if outcome.chosen:
                    found = self._values.setdefault((name, protocol), {})
                    found[cell.seed] = outcome.best.test["ndcg@10"]
        self._doing[name] = self._note(cell, state, result, error)
        if not self._console.is_terminal and state != "runs":
            self._console.print(
                f"{cell.entry.label}, {cell.where}: {escape(error) or state}",
                highlight=False,
                soft_wrap=True,
            )

    def _note(self, cell: Cell, state: str, result: RunResult | None, error: str) -> str:
        if state == "failed":
            return f"[red]{escape(error)}[/]"
        if state in ("ended", "kept"):
            last = cell.seed == self._seeds[-1] and cell.rules[-1].name == self._names[-1]
            return "[green]done[/]" if last else "[dim]waits[/]"
        number = result.rounds[-1].number if result else 0
        return f"seed {cell.seed}, {cell.rules[0].name}: round {number}"

    def __rich__(self) -> Table:
        """The table as it stands."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("algorithm", no_wrap=True)
        for name in self._names:
            table.add_column(f"{name}\nNDCG@10 (seeds)", justify="right")
        table.add_column("now")
        for name, label in self._labels.items():
            cells = []
            for protocol in self._names:
                values = self._values.get((name, protocol), {})
                mean = sum(values.values()) / max(1, len(values))
                cells.append(f"{mean:.3f} ({len(values)})" if values else "–")
            table.add_row(escape(label), *cells, self._doing.get(name, "[dim]waits[/]"))
        return table
