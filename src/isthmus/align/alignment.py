"""What alignment gives each party: the rows of the common samples, and the counts it has seen."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isthmus.errors import StorageError
from isthmus.files import write_bytes, write_json

_ROWS = "rows.npy"
_ABOUT = "alignment.json"


@dataclass(frozen=True, kw_only=True)
class AlignmentCounts:
    """What this party may say about an alignment: its own table, and what it learnt of others."""

    rows: int
    """Rows of the own table."""
    nulls: int
    """Rows dropped because a part of their id was missing."""
    duplicates: int
    """Rows dropped because an earlier row had the same id."""
    keys: int
    """Distinct ids this party came with."""
    partners: Mapping[str, int]
    """Distinct ids of each partner: a feature party sees the label party's, which sees all."""
    pairwise: Mapping[str, int] = field(default_factory=dict)
    """At the label party: ids in common with each feature party on its own."""
    common: int
    """Ids that all parties have; where the label party's rows are kept, at a feature party those
    that it shares with the label party."""
    samples: int
    """Aligned samples: `common`, or with entity keys the label party's events of common ids, or
    where the label party's rows are kept as many as those."""
    unmatched: int = 0
    """Samples without a row here, where the label party's rows are kept."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """The common samples in the agreed order, as rows of the own table."""

    rows: npt.NDArray[np.int64]
    """int64 `[samples]`: the own row of each sample. Rows repeat at a feature party of n:1 keys.
    Where the label party's rows are kept, -1 for a sample that a feature party does not have."""
    entities: int
    """Number of ids that all parties have; see `AlignmentCounts.common`."""
    summary: AlignmentCounts
    """Counts for the report."""
    warnings: tuple[str, ...] = ()
    """What looks wrong about the ids, in sentences for this party alone; never an id."""

    def __len__(self) -> int:
        return len(self.rows)

    def save(self, folder: str | Path) -> None:
        """Write `rows.npy` and `alignment.json` into `folder`.

        Raises:
            StorageError: the folder cannot be written.
        """
        folder = Path(folder)
        buffer = io.BytesIO()
        np.save(buffer, self.rows, allow_pickle=False)
        content = buffer.getvalue()
        write_bytes(folder / _ROWS, content)
        about = {
            "entities": self.entities,
            "rows_sha256": hashlib.sha256(content).hexdigest(),
            "summary": asdict(self.summary),
            "warnings": list(self.warnings),
        }
        write_json(folder / _ABOUT, about)

    @staticmethod
    def load(folder: str | Path) -> Alignment:
        """Read what `save` wrote.

        Raises:
            StorageError: a file is missing, or is not what was written.
        """
        folder = Path(folder)
        path = folder / _ABOUT
        try:
            about = json.loads(path.read_text("utf-8"))
            content = (folder / _ROWS).read_bytes()
            if hashlib.sha256(content).hexdigest() != about["rows_sha256"]:
                raise _corrupt(folder / _ROWS)
            rows = np.load(io.BytesIO(content), allow_pickle=False).astype(np.int64, copy=False)
            counts = AlignmentCounts(**about["summary"])
            return Alignment(rows, about["entities"], counts, tuple(about["warnings"]))
        except OSError as error:
            raise StorageError(f"cannot read {error.filename}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _corrupt(path) from error


def _corrupt(path: Path) -> StorageError:
    return StorageError(
        f"{path} is not the alignment that was written",
        mend="Remove its folder and run the job again to align anew.",
    )
