"""The process's exit code for each class of error; documented in docs/jobs.md."""

from __future__ import annotations

UNEXPECTED = 1
INTERRUPTED = 130

BY_CODE = {
    "job": 2,
    "data": 3,
    "identity": 4,
    "align": 5,
    "train": 6,
    "storage": 7,
    "link": 8,
    "metric": 9,
    "stopped": INTERRUPTED,
}


def exit_code(code: str) -> int:
    """The exit code of an error's stable code: `data.schema` counts as `data`."""
    return BY_CODE.get(code.partition(".")[0], UNEXPECTED)
