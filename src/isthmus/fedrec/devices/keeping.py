"""What a shard keeps of its clients between rounds: in memory, and in its folder if it has one.

The last two of the rounds that the server keeps as well, so that after a crash of either side both
can go on from the same round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from isthmus.errors import StorageError
from isthmus.fedrec.devices.wire import Order
from isthmus.fedrec.method import Arrays
from isthmus.files import replacing

KEPT = 2


@dataclass(frozen=True, eq=False)
class Kept:
    """The clients' private state after a round."""

    mark: str
    start: str
    """The server's start in which the round was trained, see `Order`."""
    number: int
    arrays: Arrays


class Keeper:
    """Keeps the state of the last two rounds that it was given."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._kept = self._load()

    @property
    def last_start(self) -> str:
        """The server's start that the newest state belongs to, empty without one."""
        return self._kept[-1].start if self._kept else ""

    def put(self, one: Kept) -> None:
        """Keep this round as well.

        Raises:
            StorageError: the folder cannot be written.
        """
        copied = {name: array.copy() for name, array in one.arrays.items()}
        one = Kept(one.mark, one.start, one.number, copied)
        before = [k for k in self._kept if k.mark == one.mark and k.number < one.number]
        self._kept = [*before[1 - KEPT :], one]
        if self._folder is not None:
            self._save(self._folder, one)

    def find(self, order: Order) -> Kept | None:
        """From where to go on under this order; None: from the beginning.

        The server has not started anew: our newest round. It has: the round that it stands at, or
        what we have from before it.
        """
        of_run = [k for k in self._kept if k.mark == order.mark]
        if order.start == self.last_start:
            return of_run[-1] if of_run else None
        return next((k for k in reversed(of_run) if k.number <= order.done), None)

    def _save(self, folder: Path, one: Kept) -> None:
        text = json.dumps({"mark": one.mark, "start": one.start, "number": one.number})
        with replacing(folder / f"{one.number:08d}.clients") as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            save_file(one.arrays, path, {"kept": text})
        wanted = {f"{k.number:08d}.clients" for k in self._kept}
        for path in folder.glob("*.clients"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def _load(self) -> list[Kept]:
        paths = sorted(self._folder.glob("*.clients")) if self._folder else []
        return [_read(path) for path in paths]


def _read(path: Path) -> Kept:
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {})["kept"])
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            return Kept(str(said["mark"]), str(said["start"]), int(said["number"]), arrays)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged", mend="Remove it; its clients then begin anew."
        ) from error
