"""Schedules by their names in a job: `exact`, `microbatch:4`, `pipeline:3`."""

from __future__ import annotations

from isthmus.errors import JobError
from isthmus.split.schedules.base import Schedule
from isthmus.split.schedules.exact import Exact, Microbatch
from isthmus.split.schedules.pipeline import Pipeline

_MOST = 64
"""Messages a batch, or batches in flight."""


def make_schedule(name: str) -> Schedule:
    """The schedule called `name`: `exact`, `microbatch:4`, `pipeline:3`.

    Raises:
        JobError: there is none of that name, or its number makes no sense.
    """
    kind, _, number = name.partition(":")
    if kind == "exact" and not number:
        return Exact()
    if kind not in ("microbatch", "pipeline"):
        raise JobError(
            f"there is no schedule {name!r}",
            mend="Choose exact, microbatch:4 (messages a batch) or pipeline:3 (batches in flight).",
        )
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= _MOST:
        raise JobError(
            f"the schedule {name!r} needs a number from 1 to {_MOST}", mend=f"Such as {kind}:4."
        )
    return Microbatch(int(number)) if kind == "microbatch" else Pipeline(int(number))
