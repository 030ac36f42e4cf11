"""Schedules by their names in a job: `exact`, `microbatch:4`, `pipeline:3`, `auto`."""

from __future__ import annotations

import re
from collections.abc import Callable

from isthmus.errors import JobError
from isthmus.split.schedules.adaptive import Adaptive
from isthmus.split.schedules.auto import Auto
from isthmus.split.schedules.base import Schedule
from isthmus.split.schedules.exact import Exact, Microbatch
from isthmus.split.schedules.local import Local
from isthmus.split.schedules.pipeline import Pipeline

_MOST = 64
"""Messages a batch, batches in flight, or updates an exchange."""
_AUTO_BOUND = 8
_PATTERN = re.compile(r"([a-z]+)(?::([^+]*))?(?:\+(.*))?")
_NUMBERED: dict[str, tuple[int, tuple[str, ...], str]] = {
    "microbatch": (1, (), "messages a batch"),
    "pipeline": (1, ("uncorrected",), "batches in flight"),
    "local": (2, ("unweighted",), "updates an exchange"),
    "adaptive": (2, ("unweighted",), "updates an exchange while the loss stands still"),
    "auto": (1, (), "batches in flight at most"),
}
"""The least number, what may follow it, and what it counts."""


def make_schedule(name: str, say: Callable[[str], None] = lambda text: None) -> Schedule:
    """The schedule called `name`.

    Args:
        name: `exact`, `microbatch:4`, `pipeline:3`, `pipeline:3+uncorrected`, `local:4`,
            `local:4+unweighted`, `adaptive:4`, `auto` or `auto:16`.
        say: told what a schedule finds out.

    Raises:
        JobError: there is none of that name, or its number makes no sense.
    """
    match = _PATTERN.fullmatch(name)
    kind, number, variant = match.groups() if match else ("", None, None)
    if name == "exact":
        return Exact()
    if kind not in _NUMBERED:
        raise JobError(
            f"there is no schedule {name!r}",
            mend="Choose exact, auto, microbatch:4, pipeline:4, local:4 or adaptive:4.",
        )
    least, variants, counted = _NUMBERED[kind]
    if variant is not None and variant not in variants:
        known = f" but {', '.join(variants)}" if variants else ""
        raise JobError(
            f"there is no {variant!r} for the schedule {kind}",
            mend=f"Leave `+{variant}` out; there is nothing to add{known}.",
        )
    if number is None and kind == "auto":
        number = str(_AUTO_BOUND)
    is_number = number is not None and re.fullmatch("[0-9]{1,4}", number)
    count = int(number or 0) if is_number else 0
    if not least <= count <= _MOST:
        raise JobError(
            f"the schedule {name!r} needs a number from {least} to {_MOST}: {counted}",
            mend=f"Such as {kind}:4.",
        )
    if kind == "auto":
        return Auto(count, say)
    if kind == "microbatch":
        return Microbatch(count)
    if kind == "pipeline":
        return Pipeline(count, corrected=variant is None)
    made = Local if kind == "local" else Adaptive
    return made(count, weighted=variant is None)
