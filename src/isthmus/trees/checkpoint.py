"""Checkpoints of a fit: whole, recognisable by digest, of one fit only; the last two are kept."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from isthmus.errors import StorageError
from isthmus.files import file_digest, files_named, remove_files, storage_error, write_digested

Arrays = Mapping[str, npt.NDArray[Any]]

FOLDER = "checkpoints"
"""Inside the session's folder."""
_FORMAT = "isthmus.trees.checkpoint/1"
_NAME = re.compile(r"round-(\d{6})\.([0-9a-f]{32})\.safetensors")
_NEW = "new.safetensors"
_KEPT = 2
_RUN = re.compile(r"[0-9a-f]{16}")
_MOST_ROUNDS = 1 << 20


@dataclass(frozen=True, order=True)
class Point:
    """The end of a round, when nothing is in flight."""

    rounds: int = 0
    """Rounds done; 0 is the beginning."""
    run: str = ""
    """Drawn when a fit begins anew and the same at all parties: only checkpoints of one run fit
    together."""

    @classmethod
    def of(cls, given: object) -> Point | None:
        """What a partner sent as `[rounds, run]`; None where it is something else."""
        match given:
            case [int(rounds), str(run)] if type(rounds) is int and _RUN.fullmatch(run):
                return cls(rounds, run) if 0 <= rounds <= _MOST_ROUNDS else None
        return None

    def told(self) -> list[Any]:
        """For a message."""
        return [self.rounds, self.run]


@dataclass(frozen=True)
class Checkpoint:
    """One party's state at a point."""

    point: Point
    arrays: Arrays
    facts: Mapping[str, Any]
    """JSON values."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one party's fit.

    Args:
        folder: made when the first is written. None: none are.
        fingerprint: of the fit; those of another are not seen.
    """

    folder: Path | None
    fingerprint: str
    _found: dict[Point, Path] = field(default_factory=dict, repr=False)

    def points(self) -> list[Point]:
        """Where one can go on from, oldest first. Raises StorageError."""
        self._found.clear()
        for path in self._files():
            found = self._read(path)
            if found is not None:
                self._found[found.point] = path
        return sorted(self._found)

    def load(self, point: Point) -> Checkpoint:
        """The checkpoint of one of the `points`. Raises StorageError."""
        found = self._read(self._found[point])
        if found is None:
            raise StorageError(
                f"the checkpoint of round {point.rounds} was there a moment ago and cannot be read",
                mend="Run the same command again: an older one is used.",
            )
        return found

    def save(self, point: Point, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, then remove all but the last two. Raises StorageError."""
        if self.folder is None:
            return
        metadata = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "point": json.dumps(point.told()),
            "facts": json.dumps(facts),
        }
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}

        def write(temporary: Path) -> None:
            temporary.write_bytes(save(whole, metadata))

        write_digested(
            self.folder / _NEW,
            write,
            lambda digest: f"round-{point.rounds:06d}.{digest}.safetensors",
        )
        remove_files(self._files()[:-_KEPT])

    def clear(self, after: Point) -> None:
        """Remove all that is not of this run, or later than `after`. Raises StorageError."""
        kept = {p for one, p in self._found.items() if one.run == after.run and one <= after}
        left = [] if self.folder is None else self.folder.glob(f"*{_NEW}*")
        remove_files([*(path for path in self._files() if path not in kept), *left])

    def _files(self) -> list[Path]:
        return [] if self.folder is None else files_named(self.folder, _NAME)

    def _read(self, path: Path) -> Checkpoint | None:
        match = _NAME.fullmatch(path.name)
        try:
            if match is None or file_digest(path) != match.group(2):
                return None
            with safe_open(path, framework="numpy") as file:
                known = file.metadata() or {}
                if (known["format"], known["fingerprint"]) != (_FORMAT, self.fingerprint):
                    return None
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            point = Point.of(json.loads(known["point"]))
            if point is None or point.rounds != int(match.group(1)):
                return None
            return Checkpoint(point, arrays, json.loads(known["facts"]))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            # Or the digest is right, and somebody made it: no checkpoint of ours.
            return None


def clear_checkpoints(folder: Path | None) -> None:
    """Remove all checkpoints of the fit of a session with this folder. Raises StorageError."""
    if folder is not None:
        try:
            if (folder / FOLDER).exists():
                shutil.rmtree(folder / FOLDER)
        except OSError as error:
            raise storage_error(folder / FOLDER, error) from error


def fingerprint(facts: Mapping[str, Any], arrays: Iterable[npt.NDArray[Any]]) -> str:
    """A digest of all that makes a fit what it is."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
