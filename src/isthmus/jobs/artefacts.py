"""What a job leaves behind at one party: a plain folder a step, sealed by a marker when finished.

::

    runs/<job>-<hash8>/<party>/
        align/ encode/ train/ evaluate/ predict/     files of each step, and done.json when finished
        pooled/                                      only after `isthmus run`
        report.html report.json log.jsonl transcript.jsonl

The party's folder is made for its owner alone (mode 0700).
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from isthmus.errors import StorageError
from isthmus.files import storage_error, write_json

MARKER = "done.json"


@dataclass(frozen=True)
class Marker:
    """Says that a step is finished, and with which files."""

    step: str
    token: str
    """Drawn anew for each execution of the step and the same at every party: files of two parties
    belong together only where their tokens are equal."""
    seconds: float
    """How long the step took here."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file, by its path inside the step's folder."""


_MARKER = TypeAdapter(Marker)


@dataclass(frozen=True)
class StepFolder:
    """The folder of one step."""

    path: Path

    @property
    def name(self) -> str:
        """The step's name."""
        return self.path.name

    def file(self, name: str) -> Path:
        """A file of the step."""
        return self.path / name

    def marker(self) -> Marker | None:
        """The marker if the step is finished and its files are as it left them."""
        try:
            marker = _MARKER.validate_json(self.file(MARKER).read_bytes(), strict=True)
        except (OSError, ValueError):
            return None
        return marker if self._intact(marker) else None

    @property
    def is_sealed(self) -> bool:
        """Whether the step was finished once, be its files as it left them or not."""
        return self.file(MARKER).exists()

    def seal(self, token: str, seconds: float) -> None:
        """Mark the step finished; raises StorageError."""
        marker = Marker(self.name, token, round(seconds, 3), _digests(self.path))
        write_json(self.file(MARKER), asdict(marker))

    def unseal(self) -> None:
        """The step is no longer finished; its files stay."""
        self.file(MARKER).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the step's files. Raises StorageError."""
        try:
            self.unseal()
            if self.path.exists():
                shutil.rmtree(self.path)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def create(self) -> None:
        """Make the folder. Raises StorageError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def read_json(self, name: str) -> Any:
        """A JSON file of the step. Raises StorageError."""
        path = self.file(name)
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StorageError(
                f"cannot read {path}", mend="Run the job again without --resume."
            ) from error

    def _intact(self, marker: Marker) -> bool:
        try:
            return all(_sha256(self.file(name)) == sha for name, sha in marker.files.items())
        except OSError:
            return False


@dataclass(frozen=True)
class PartyFolder:
    """All that one party keeps of one job."""

    path: Path

    def create(self) -> None:
        """Make the folder, readable by its owner alone; one that is there stays as it is, less what
        a killed process left half-written.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            for left in self.path.rglob(".*.part"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def step(self, name: str) -> StepFolder:
        """The folder of a step."""
        return StepFolder(self.path / name)

    def file(self, name: str) -> Path:
        """A file beside the steps' folders."""
        return self.path / name

    def remove(self, name: str) -> None:
        """Remove a file beside the steps' folders, if it is there. Raises StorageError."""
        try:
            self.file(name).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.file(name), error) from error


@contextmanager
def disk_of(folder: Path) -> Iterator[None]:
    """A full disk is a StorageError, whoever wrote: a log or transcript that no step knows of."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_error(folder, error) from error
        raise


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
