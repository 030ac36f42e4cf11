"""What the parties do, live: a bar each, or plain lines where there is no terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from isthmus.jobs.events import Event


@dataclass
class _Party:
    """A party's line: the tasks it is in, the innermost last."""

    line: TaskID
    open: dict[int, tuple[str, int | None]] = field(default_factory=dict)
    note: str = ""


class Display:
    """Shows the events of some parties; a context manager."""

    def __init__(self, parties: tuple[str, ...], console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.fields[party]}"),
            TextColumn("{task.description}", table_column=Column(min_width=28)),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._printed: set[str] = set()
        self._parties = {
            party: _Party(self._bars.add_task("starting", party=party, note="", total=None))
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
                state.open[id] = (name, total)
                self._describe(state, total=total, completed=0)
            case {"event": "at", "id": int(id), "done": int(done)} if id in state.open:
                self._bars.update(state.line, completed=done)
            case {"event": "note", "text": str(text)}:
                state.note = text
                self._bars.update(state.line, note=escape(text))
            case {"event": "end", "id": int(id)}:
                self._end(party, state, id)
            case {"event": "say", "text": str(text)}:
                self._console.print(f"[bold]{party}[/] {escape(text)}", highlight=False)
            case {"event": "done"}:
                self._bars.update(state.line, description="done", total=1, completed=1)

    def _end(self, party: str, state: _Party, id: int) -> None:
        if not self._console.is_terminal and id in state.open:
            self._print_end(party, state)
        state.open.pop(id, None)
        state.note = "" if not state.open else state.note
        total = next(reversed(state.open.values()), ("", None))[1]
        self._describe(state, total=total, completed=0)

    def _print_end(self, party: str, state: _Party) -> None:
        """A plain line: each step of each party, and once for all what is noted within a step."""
        names = " · ".join(name for name, _ in state.open.values())
        if len(state.open) > 1:
            line = f"{names}: {state.note}"
            if not state.note or line in self._printed:
                return
            self._printed.add(line)
        else:
            line = f"{names} done"
        self._console.print(f"{party} {escape(line)}", highlight=False)

    def _describe(self, state: _Party, *, total: int | None, completed: int) -> None:
        where = " · ".join(escape(name) for name, _ in state.open.values()) or "between steps"
        self._bars.reset(state.line, start=True, total=total, completed=completed)
        self._bars.update(state.line, description=where, note=escape(state.note))
