"""The files of histories, mapped into memory when they are read.

For the n-th history `<n>.items.npy` int32 [events, 1] and `<n>.spans.npy` int64 [samples, 2].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.data.arrays import open_array, writing_array
from isthmus.data.features import Layout
from isthmus.data.histories import Histories
from isthmus.errors import DataError, StorageError


def save_histories(folder: Path, histories: Sequence[Histories]) -> None:
    """Write `histories` in the order of the layout. Raises StorageError."""
    for number, history in enumerate(histories):
        items = history.items[:, None]
        spans = np.stack([history.start, history.end], axis=1)
        for name, array in (("items", items), ("spans", spans)):
            path = folder / f"{number}.{name}.npy"
            with writing_array(path, len(array), array.shape[1], array.dtype) as add:
                add(array)


def load_histories(folder: Path, layout: Layout) -> tuple[Histories, ...]:
    """The histories of `layout`, as `save_histories` wrote them.

    Raises:
        StorageError: a file is missing, broken, or does not belong to the others.
    """
    return tuple(_load(folder, number, field.name) for number, field in enumerate(layout.histories))


def _load(folder: Path, number: int, name: str) -> Histories:
    items = open_array(folder / f"{number}.items.npy", np.int32).astype(np.int32, copy=False)
    spans = open_array(folder / f"{number}.spans.npy", np.int64).astype(np.int64, copy=False)
    try:
        return Histories(name, items.reshape(-1), spans[:, 0], spans[:, -1])
    except DataError as error:
        raise StorageError(f"the histories in {folder} do not belong together: {error}") from error
