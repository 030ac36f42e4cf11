"""Ctrl-C and requests to end: an exception like any other, so that partners are told."""

from __future__ import annotations

import signal

AGAIN = "The same command with --resume"


class Interrupted(SystemExit):
    """A signal asks this process to end; its code is 128 and the signal's number, as in shells."""


def stop_on_signals() -> None:
    """Make SIGINT and SIGTERM raise `Interrupted` in the main thread."""
    # One that started us in the background may have made us deaf to Ctrl-C, and is respected.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)


def stopped_line(again: str = AGAIN, *, begun: bool = True) -> str:
    """What a user who stopped a job is told; `again` is the command to go on with, if anything was
    `begun` that it can go on from.
    """
    return f"Stopped. {again} goes on from here." if begun else "Stopped."


def go_on(mend: str, again: str = AGAIN, where: str = "") -> str:
    """`mend` and how to go on after it; `where`, such as " at every party", says who must."""
    if "--resume" in mend:
        return mend
    return f"{mend} {again}{where} goes on where it stopped.".strip()


def _stop(number: int, frame: object) -> None:
    del frame
    # The terminal has told all processes already when the launcher asks its own to end: a second
    # request must not cut short what is said to the partners.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted(128 + number)
