"""The demo's folder: whether it may be written to, and whether its job file is still its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from isthmus.errors import JobError, StorageError
from isthmus.files import write_json, write_text

MARK = ".isthmus-demo.json"
"""Says that the demo made a folder, and which job file it last wrote there."""

CAROL = ("Occupation", "Zip-code")
"""Columns that the third organisation has and the first one has not."""


@dataclass(frozen=True)
class Mark:
    """What the mark holds."""

    keys: str
    """`row`, `entity`, `three`, `history_bob`, `history_alice` or `credit`: the demo's kinds."""
    job_sha256: str = ""
    """Of the job file that the demo last wrote."""


@dataclass(frozen=True)
class DemoFolder:
    """A folder that the demo may write to; see `claim`."""

    path: Path
    mark: Mark

    @property
    def job_file(self) -> Path:
        """The demo's job file."""
        return self.path / "job.yaml"

    def write_job(self, text: str) -> bool:
        """Write the job file, unless the one there was edited since; whether it was written.

        Raises:
            StorageError: it cannot be written.
        """
        if self.mark.job_sha256 and _sha256(self.job_file) not in ("", self.mark.job_sha256):
            return False
        write_text(self.job_file, text)
        _write(self.path, Mark(self.mark.keys, _sha256(self.job_file)))
        return True


def claim(path: Path, *, keys: str, force: bool) -> DemoFolder:
    """The folder at `path` for a demo of this kind of `keys`.

    Args:
        path: a folder that is not there yet, is empty, or was made by the same kind of demo.
        keys: the kind, see `Mark`.
        force: take any folder, and write the job file anew even if it was edited.

    Raises:
        JobError: the folder is somebody else's.
        StorageError: it cannot be written.
    """
    found = _read(path)
    if force:
        found = Mark(keys)
    elif found is None and _holds_something(path):
        raise JobError(
            f"the folder {path} is not empty, and the demo did not make it",
            mend="Choose another with --folder, or use this one with --force.",
        )
    elif found is not None and found.keys != keys:
        raise JobError(
            f"the folder {path} holds another kind of demo",
            mend="Choose another with --folder, or use this one with --force.",
        )
    mark = found or Mark(keys)
    _write(path, mark)
    return DemoFolder(path, mark)


def add_carol(folder: Path, *, seed: int) -> None:
    """Move some of alice's columns to a third organisation, which lacks a tenth of her rows.

    Args:
        folder: holds `alice/ratings.csv`; gets `carol/ratings.csv` in another order.
        seed: of the order, and of the rows that carol lacks.

    Raises:
        DataError, StorageError: a table cannot be read or written.
    """
    import numpy as np

    from isthmus.data.tables import load_table, write_table

    path = folder / "alice" / "ratings.csv"
    people = load_table(path, text=CAROL)
    order = np.random.default_rng(seed).permutation(len(people))
    write_table(
        people[order[len(order) // 10 :]].select("ID", *CAROL), folder / "carol" / path.name
    )
    write_table(people.drop(CAROL), path)


def _holds_something(path: Path) -> bool:
    try:
        return path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise StorageError(f"cannot look into {path}: {error.strerror}") from error


def _read(path: Path) -> Mark | None:
    try:
        return Mark(**json.loads((path / MARK).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, mark: Mark) -> None:
    write_json(path / MARK, asdict(mark))


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
