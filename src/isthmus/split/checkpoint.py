"""Checkpoints of one party: whole, recognisable by digest, of one run only.

A checkpoint is a safetensors file whose name carries the point it was written at and the digest of
its content, so a half-written or damaged file is never taken for a good one. The last two are kept,
since parties may stop on either side of writing one, and those of the last two best epochs: they
hold the parameters that a run ends with, so that no other file need repeat them.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from isthmus.files import file_digest, files_named, remove_files, write_digested

_NAME = re.compile(r"epoch-(\d{6})\.step-(\d{10})\.([0-9a-f]{32})\.safetensors")
_NEW = "new.safetensors"
_KEPT = 2
_HEADER = 1 << 26
"""Bytes that a checkpoint's header may have."""
_OS_ERROR = re.compile(r"os error (\d+)")


@dataclass(frozen=True, order=True)
class Point:
    """A point of a run at which nothing is in flight."""

    step: int
    """Updates made so far, over all epochs; 0 is the beginning."""
    run: str = ""
    """Drawn when a run begins anew and the same at all parties: only checkpoints of one run fit
    together."""


@dataclass(frozen=True)
class Checkpoint:
    """A party's state at one point of a run, without its tensors."""

    path: Path
    point: Point
    best: int
    """The step after the best epoch so far: its checkpoint holds the best parameters. 0 if there is
    none yet."""
    facts: dict[str, Any]
    """JSON values: what a run knows beside its tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, in memory that may be the file's: copy what is to stay."""
        return load_file(self.path)


class CheckpointFolder:
    """The checkpoints of one party's run.

    Args:
        folder: made when the first checkpoint is written.
        fingerprint: of the run; checkpoints of another run are not seen.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self._found: dict[Point, Checkpoint] = {}

    def save(
        self,
        point: Point,
        epoch: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        best: Collection[int] = (),
    ) -> Path:
        """Write a checkpoint, then remove all but the last two and those of the best epochs.

        Args:
            point: where the run is.
            epoch: whole epochs done.
            tensors: the state.
            facts: JSON values.
            best: the steps after the last best epochs: their checkpoints are kept; the newest of
                them holds the parameters that this one builds on.

        Raises:
            StorageError: it cannot be written; older ones are untouched.
        """
        marks = {"step": point.step, "run": point.run, "best": max(best, default=0)}
        metadata = {
            "fingerprint": self.fingerprint,
            "marks": json.dumps(marks),
            "facts": json.dumps(facts),
        }
        path = write_digested(
            self.folder / _NEW,
            lambda temporary: _write(_apart(tensors), temporary, metadata),
            lambda digest: f"epoch-{epoch:06d}.step-{point.step:010d}.{digest}.safetensors",
        )
        files = self._files()
        kept = {path, *files[-_KEPT:], *(f for f in files if _step(f) in best)}
        remove_files(set(files) - kept)
        return path

    def points(self) -> list[Point]:
        """The points of this run that can be gone back to, oldest first.

        Raises:
            StorageError: the folder cannot be read.
        """
        self._found = {c.point: c for path in self._files() if (c := self._read(path))}
        found = self._found
        # A best epoch that is lost takes with it what was written after it.
        return sorted(p for p, c in found.items() if not c.best or Point(c.best, p.run) in found)

    def load(self, point: Point) -> Checkpoint | None:
        """The checkpoint of `point`, if there is a good one."""
        for path in self._files():
            checkpoint = self._read(path) if _step(path) == point.step else None
            if checkpoint is not None and checkpoint.point == point:
                return checkpoint
        return None

    def clear(self, after: Point) -> None:
        """Remove what is later than `after`, what is damaged or of other runs if `after` is one of
        the `points`, and what a killed party left half-written.

        Raises:
            StorageError: a file cannot be removed.
        """
        old = [path for path in self._files() if _step(path) > after.step]
        if after.step:
            if after not in self._found:
                self.points()
            kept = {c.path for p, c in self._found.items() if p.run == after.run}
            old += [path for path in self._files() if path not in kept and path not in old]
        if self.folder.is_dir():
            old += [*self.folder.glob(f".{_NEW}.*.part"), *self.folder.glob(_NEW)]
        remove_files(old)

    def _files(self) -> list[Path]:
        return files_named(self.folder, _NAME)

    def _read(self, path: Path) -> Checkpoint | None:
        match = _NAME.fullmatch(path.name)
        try:
            if match is None or file_digest(path) != match.group(3):
                return None
            metadata = _metadata(path)
            marks = json.loads(metadata["marks"])
            point = Point(marks["step"], marks["run"])
            if metadata["fingerprint"] != self.fingerprint or point.step != int(match.group(2)):
                return None
            return Checkpoint(path, point, marks["best"], json.loads(metadata["facts"]))
        except (OSError, ValueError, KeyError, TypeError):
            # It cannot be read; or the digest is right, so somebody made it: no checkpoint of ours.
            return None


def pack(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Several groups of tensors as one, each name with its group before a slash."""
    return {f"{part}/{name}": t for part, tensors in parts.items() for name, t in tensors.items()}


def unpack(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The group `part` of what `pack` made."""
    prefix = f"{part}/"
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as a file takes them: dense, in main memory, none sharing another's."""
    apart, seen = {}, set()
    for name, tensor in tensors.items():
        dense = tensor.detach().cpu().contiguous()
        place = dense.untyped_storage().data_ptr()
        apart[name] = dense.clone() if place in seen else dense
        seen.add(place)
    return apart


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        # Straight from the tensors' memory: a copy of a large table would not fit beside it.
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        told = _OS_ERROR.search(str(error))
        raise OSError(int(told.group(1)) if told else errno.EIO, str(error)) from error


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _HEADER:
            raise ValueError("no header is that long")
        metadata = json.loads(file.read(size))["__metadata__"]
    if not isinstance(metadata, dict):
        raise TypeError("the metadata are none")
    return metadata


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match.group(2)) if match else -1
