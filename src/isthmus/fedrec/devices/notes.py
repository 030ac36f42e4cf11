"""Who took part in a round on devices, and the error where they were too few."""

from __future__ import annotations

from dataclasses import dataclass, field

from isthmus.errors import TrainError


@dataclass
class RoundNotes:
    """Who took part in a round."""

    number: int
    wanted: int
    """Clients that the method drew."""
    trained: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    """Shards whose clients did not count, and why."""
    absent: int = 0
    """Clients wanted that no shard stands for at present."""


def too_few(note: RoundNotes, least: int, *, resumable: bool) -> TrainError:
    """Too few clients took part in a round."""
    why = "; ".join(f"{name} {reason}" for name, reason in note.left_out.items())
    again = "--resume goes on from the last checkpoint." if resumable else "nothing is kept yet."
    return TrainError(
        f"only {note.trained} of {note.wanted} clients took part in round {note.number}, and "
        f"{least} are the least" + (f": {why}" if why else ""),
        mend=f"See to the shards that are missing; {again}",
    )
