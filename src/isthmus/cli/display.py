"""What the parties do, live: a bar each, or plain lines where there is no terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from isthmus.jobs.events import Event

INNER = "epochs"
"""The task of a training's steps: the one around it has the name worth showing."""


@dataclass
class _Party:
    """A party's line: the tasks it is in, the innermost last."""

    line: TaskID
    open: dict[int, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The names of the tasks it is in, each once."""
        names = list(dict.fromkeys(self.open.values()))
        return " · ".join(name for name in names if name != INNER or len(names) == 1)


class Display:
    """Shows the events of some parties; a context manager.

    On a terminal a party has one line, whose bar and clock are those of the step it is in.
    """

    def __init__(self, parties: tuple[str, ...], console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.fields[party]}", table_column=Column(no_wrap=True)),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=14)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            TimeElapsedColumn(),
            TextColumn(
                "{task.fields[note]}",
                style="dim",
                table_column=Column(no_wrap=True, min_width=23),
            ),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            expand=True,
        )
        self._printed: set[str] = set()
        # A total from the start: a bar without one pulses.
        self._parties = {
            party: _Party(self._bars.add_task("starting", party=party, note="", total=1))
            for party in parties
        }

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, party: str, event: Event) -> None:
        """Show one event of `party`."""
        state = self._parties[party]
        match event:
            case {"event": "task", "id": int(id), "name": str(name), "total": total}:
                self._begin(state, id, name, total)
            case {"event": "at", "id": int(id), "done": int(done)} if id in state.open:
                self._bars.update(state.line, completed=done)
            case {"event": "note", "text": str(text)}:
                self._note(party, state, text)
            case {"event": "end", "id": int(id)}:
                self._end(party, state, id, done=event.get("ok") is not False)
            case {"event": "say", "text": str(text)}:
                self._say(f"[bold]{party}[/] {escape(text)}")
            case {"event": "done"}:
                self._bars.update(state.line, description="done", total=1, completed=1)

    def _begin(self, state: _Party, id: int, name: str, total: int | None) -> None:
        if not state.open:
            # The clock is the step's; what goes on within it moves the bar alone.
            self._bars.reset(state.line)
        state.open[id] = name
        self._bars.update(
            state.line,
            description=escape(state.where),
            note="",
            total=total or 1,
            completed=0,
        )

    def _note(self, party: str, state: _Party, text: str) -> None:
        self._bars.update(state.line, note=escape(text))
        who = "" if len(self._parties) > 1 else f"{party} "
        self._print_once(f"{who}{state.where}: {text}")

    def _end(self, party: str, state: _Party, id: int, *, done: bool) -> None:
        if len(state.open) == 1 and id in state.open and done:
            self._print_plain(f"{party} {state.where} done")
        state.open.pop(id, None)
        if state.open:
            self._bars.update(state.line, description=escape(state.where))

    def _print_once(self, line: str) -> None:
        """What all parties note alike is one line for all of them."""
        if line not in self._printed:
            self._printed.add(line)
            self._print_plain(line)

    def _print_plain(self, line: str) -> None:
        if not self._console.is_terminal:
            self._say(escape(line))

    def _say(self, markup: str) -> None:
        # A file or a pipe has no width: only a terminal's lines are broken.
        self._console.print(markup, highlight=False, soft_wrap=not self._console.is_terminal)
