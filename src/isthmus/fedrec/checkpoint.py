"""A run's checkpoint: method state, chosen ranks and the result so far, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from isthmus.errors import JobError, StorageError
from isthmus.fedrec.finished import differences, head_of, listed
from isthmus.fedrec.method import Arrays
from isthmus.fedrec.results import RunResult
from isthmus.files import replacing

FILE = "checkpoint.safetensors"


def fingerprint(facts: dict[str, Any]) -> str:
    """What must be equal for a run to go on from a checkpoint."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(
    folder: Path, head: dict[str, Any], result: RunResult, state: Arrays, kept: Arrays
) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    arrays = {f"state.{name}": one for name, one in state.items()}
    arrays |= {f"kept.{name}": one for name, one in kept.items()}
    text = {
        "mark": fingerprint(head),
        "head": json.dumps(head, default=str),
        "result": json.dumps(result.to_json()),
    }
    with replacing(folder / FILE) as path:
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, text)


def load(folder: Path, head: dict[str, Any]) -> tuple[RunResult, Arrays, Arrays] | None:
    """The checkpoint in `folder`, None if there is none: result so far, state and kept arrays.

    Args:
        folder: of the run.
        head: what the run at hand is asked for.

    Raises:
        JobError: it belongs to another run, or to an earlier version.
        StorageError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            text = file.metadata() or {}
            if text.get("mark") != fingerprint(head):
                raise _other(path, json.loads(text.get("head") or text["result"]), head)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        result = RunResult.from_json(json.loads(text["result"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged", mend="Remove it and start again.") from error
    parts = [
        {name[len(head) :]: one for name, one in arrays.items() if name.startswith(head)}
        for head in ("state.", "kept.")
    ]
    return result, parts[0], parts[1]


def stopped_after(folder: Path) -> int:
    """The round of the checkpoint in `folder`, 0 if there is none that can be read."""
    try:
        with safe_open(folder / FILE, framework="numpy") as file:
            result = json.loads((file.metadata() or {})["result"])
        return int(result["rounds"][-1]["number"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError):
        return 0


def _other(path: Path, there: dict[str, Any], here: dict[str, Any]) -> JobError:
    """Why the checkpoint of a run that was asked for `there` is none for `here`."""
    there = head_of(there)
    here = json.loads(json.dumps(here, default=str))
    anew = "Leave out --resume to begin anew, or choose another --out."
    known = {name: one for name, one in here.items() if name in there}
    other = differences(there, known)
    newer = _newer(there, here)
    if newer and not [one for one in other if one.partition(" ")[0] not in newer]:
        return JobError(
            f"{path} was written by an earlier version, which did not have {', '.join(newer)}",
            mend=f"That version can go on from it. {anew}",
        )
    if not other:
        return JobError(f"{path} was written by another version, with other fields", mend=anew)
    return JobError(f"{path} belongs to a run with other settings: {listed(other)}", mend=anew)


def _newer(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The fields that only `here` has, of the parts that both have."""
    out: list[str] = []
    for part in ("values", "privacy"):
        old, new = there.get(part) or {}, here.get(part) or {}
        out += [name for name in new if name not in old] if old else []
    return out


def save_ranks(folder: Path, kept: Arrays) -> None:
    """Write the clients' test ranks of the chosen rounds, `ranks.safetensors`: int32 [U] each."""
    with replacing(folder / "ranks.safetensors") as path:
        save_file(kept, path)
