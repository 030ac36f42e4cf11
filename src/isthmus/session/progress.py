"""How long work tells how far it is; what shows it (bars, logs, nothing) is the caller's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: int = 1) -> None:
        """`amount` more units are done."""

    def note(self, text: str) -> None:
        """A short remark beside the bar, such as the last validation AUC."""


class Progress(Protocol):
    """Where work reports to."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """Show `name` as running until the block ends; `total` in units of `Task.advance`."""
        yield _SILENT_TASK

    def say(self, text: str) -> None:
        """One line worth reading, such as 'waiting for alice'."""


class _SilentTask:
    def advance(self, amount: int = 1) -> None:
        del amount

    def note(self, text: str) -> None:
        del text


_SILENT_TASK = _SilentTask()


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """See `Progress.task`."""
        del name, total
        yield _SILENT_TASK

    def say(self, text: str) -> None:
        """See `Progress.say`."""
        del text
