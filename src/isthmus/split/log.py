"""Epochs as JSON lines and, where asked for, TensorBoard events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from isthmus.errors import JobError
from isthmus.files import storage_error
from isthmus.split.options import EpochRecord

_DRAWN = (
    *("train_loss", "valid_auc", "valid_log_loss", "valid_loss"),
    *("learning_rate", "seconds"),
)


class EpochLog:
    """Writes `metrics.jsonl`, a line an epoch, and TensorBoard events beside it.

    Args:
        folder: None writes nothing.
        tensorboard: whether to write events into `folder/tensorboard`.
        history: the epochs of the run so far, when it continues from a checkpoint.
    """

    def __init__(
        self, folder: Path | None, tensorboard: bool, history: Sequence[EpochRecord]
    ) -> None:
        self._file: IO[str] | None = None
        self._events: Any = None
        if folder is None:
            return
        self._path = folder / "metrics.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise storage_error(self._path, error) from error
        if tensorboard:
            self._events = _writer(folder / "tensorboard")
        for record in history:
            self.write(record)

    def write(self, record: EpochRecord) -> None:
        """Add an epoch."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(asdict(record)) + "\n")
            self._file.flush()
        except OSError as error:
            raise storage_error(self._path, error) from error
        if self._events is not None:
            for name in _DRAWN:
                value = getattr(record, name)
                if value is not None:
                    self._events.add_scalar(name, value, record.epoch)

    def __enter__(self) -> EpochLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failure:
                # A line that a full disk did not take is still in the buffer; that has been told.
                if error is None:
                    raise storage_error(self._path, failure) from failure
        if self._events is not None:
            self._events.close()


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise JobError(
            "TensorBoard events were asked for, but the package tensorboard is not installed",
            mend="Run `pip install 'isthmus[tensorboard]'`, or leave out `tensorboard`.",
        ) from error
    return SummaryWriter(str(folder))
