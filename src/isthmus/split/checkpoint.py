"""Checkpoints of one party: whole, recognisable by digest, of one run only.

A checkpoint is a safetensors file whose name carries the epoch and the digest of its content, so a
half-written or damaged file is never taken for a good one. The last two are kept: parties may stop
on either side of writing one, and resume from the newest epoch that all of them hold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from isthmus.files import write_bytes

_NAME = re.compile(r"epoch-(\d{6})\.([0-9a-f]{32})\.safetensors")
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A party's state at the end of an epoch."""

    epoch: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    """JSON values: history, best epoch, fingerprint of the run."""


class CheckpointFolder:
    """The checkpoints of one party's run.

    Args:
        folder: made when the first checkpoint is written.
        fingerprint: of the run; checkpoints of another run are not seen.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def save(self, epoch: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, then remove all but the last two.

        Raises:
            StorageError: it cannot be written; older ones are untouched.
        """
        metadata = {"fingerprint": self.fingerprint, "facts": json.dumps(facts)}
        dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(dense, metadata)
        write_bytes(self.folder / f"epoch-{epoch:06d}.{_digest(content)}.safetensors", content)
        for old in self._files()[:-_KEPT]:
            old.unlink(missing_ok=True)

    def epochs(self) -> list[int]:
        """The epochs of which there is a good checkpoint of this run."""
        return sorted({c.epoch for path in self._files() if (c := self._read(path))})

    def load(self, epoch: int) -> Checkpoint | None:
        """The checkpoint of `epoch`, if there is a good one."""
        for path in self._files():
            if _epoch(path) == epoch and (checkpoint := self._read(path)):
                return checkpoint
        return None

    def clear(self, after: int = 0) -> None:
        """Remove the checkpoints of epochs later than `after`."""
        for path in self._files():
            if _epoch(path) > after:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _read(self, path: Path) -> Checkpoint | None:
        match = _NAME.fullmatch(path.name)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if match is None or _digest(content) != match.group(2):
            return None
        try:
            size = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + size])["__metadata__"]
            if metadata["fingerprint"] != self.fingerprint:
                return None
            return Checkpoint(int(match.group(1)), load(content), json.loads(metadata["facts"]))
        except (ValueError, KeyError, TypeError, SafetensorError):
            # The digest is right, so somebody made it: it is no checkpoint of ours.
            return None


def pack(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Several groups of tensors as one, each name with its group before a slash."""
    return {f"{part}/{name}": t for part, tensors in parts.items() for name, t in tensors.items()}


def unpack(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The group `part` of what `pack` made."""
    prefix = f"{part}/"
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def module_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a module's parameters, buffers and generator states."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _epoch(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1
