"""What an earlier run left in a folder: shown where the same is asked for, else not overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.errors import JobError, StorageError
from isthmus.fedrec.protocols import EvalProtocol
from isthmus.fedrec.results import RunResult

FILE = "result.json"
MARK = "data_mark"
"""Beside the result in its file: a digest of the interactions."""
_FOLLOWS = ("title", "kind", "leaves", "protects", "epsilon", "epsilon_round")
"""What follows from other options."""
_NAMED = 4


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two runs were asked for otherwise, each as `seed 0, here 1`; numbers inside by name."""
    out = []
    for name in dict.fromkeys([*there, *here]):
        old, new = there.get(name), here.get(name)
        if old == new or name in _FOLLOWS:
            continue
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            out += differences(old or {}, new or {})
        else:
            out.append(f"{name} {_told(old)}, here {_told(new)}")
    return out


def listed(found: Sequence[str]) -> str:
    """The first few differences in one line."""
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + more


def earlier(
    folder: Path,
    head: Mapping[str, Any],
    protocols: Sequence[EvalProtocol],
    rounds: int,
    every: int,
    mark: str = "",
) -> RunResult | None:
    """The result of a finished run in `folder` that was asked for the same; None if there is none.

    Args:
        folder: where the run at hand would write.
        head: what it is asked for, see `runner.head`.
        protocols: how it is judged; the finished run may have been judged by more.
        rounds: its rounds, judged `every` so many.
        mark: of its interactions, empty where they are elsewhere.

    Raises:
        JobError: the finished run is of other options or other data.
        StorageError: its result cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text("utf-8"))
        found = RunResult.from_json(value)
        there = head_of(value) | {"rounds": len(found.rounds)}
        judged = [[one.number for one in each.judgements] for each in found.outcomes.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{path} cannot be read", mend="Name another --out, or take --force to replace it."
        ) from error
    here = json.loads(json.dumps(dict(head), default=str))
    other = differences(there, here | {"rounds": rounds})
    wanted = [one.name for one in protocols]
    if not set(wanted) <= found.outcomes.keys():
        other.append(f"protocol {', '.join(found.outcomes)}, here {', '.join(wanted)}")
    numbers = [n for n in range(1, rounds + 1) if n % every == 0 or n == rounds]
    if len(found.rounds) == rounds and any(one != numbers for one in judged):
        other.append(f"judged in {len(judged[0])} rounds, here in {len(numbers)}")
    if not other and mark and value.get(MARK, mark) != mark:
        other.append("other interactions in data of the same name and size")
    if other:
        raise JobError(
            f"{folder} holds a finished run of other options: {listed(other)}",
            mend="Name another --out, or take --force to put this run in its place.",
        )
    return replace(found, outcomes={name: found.outcomes[name] for name in wanted})


def head_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says that its run was asked for."""
    return {k: v for k, v in value.items() if k not in ("rounds", "outcomes", "notes", MARK)}


def _told(value: Any) -> str:
    return "not set" if value is None else str(value)
