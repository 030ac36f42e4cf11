"""The example job files that ship with the package."""

from __future__ import annotations

from importlib.resources import files

from isthmus.errors import JobError

NAMES = (
    "movielens",
    "movielens_entity",
    "movielens_three",
    "movielens_history_bob",
    "movielens_history_alice",
    "movielens_labels",
    "credit",
)


def example(name: str) -> str:
    """The text of an example job file. Raises JobError where there is none of that name."""
    if name not in NAMES:
        raise JobError(f"there is no example {name!r}", mend=f"There are: {', '.join(NAMES)}.")
    return (files("isthmus.jobs") / "templates" / f"{name}.yaml").read_text(encoding="utf-8")
