"""Arrays on disk as .npy files that are written row block by row block and read as memory maps."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from isthmus.errors import StorageError
from isthmus.files import replacing

Append = Callable[[NDArray[np.generic]], None]
"""Writes the next block of rows."""


@contextmanager
def writing_array(path: Path, rows: int, columns: int, dtype: DTypeLike) -> Iterator[Append]:
    """Write an array [rows, columns] in blocks; it appears under `path` only when it is whole.

    The blocks are written, not stored through a memory map: on a full disk a write fails with an
    error, a store into a map kills the process with SIGBUS.

    Raises:
        StorageError: the disk is full, or fewer or more rows than announced were written.
    """
    dtype = np.dtype(dtype)
    written = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (rows, columns),
        }
        np.lib.format.write_array_header_1_0(file, header)

        def append(block: NDArray[np.generic]) -> None:
            nonlocal written
            if block.size:
                file.write(np.ascontiguousarray(block, dtype=dtype).data)
            written += len(block)

        yield append
        if written != rows:
            raise StorageError(f"{path} got {written} of {rows} rows")


def open_array(path: Path, dtype: DTypeLike) -> NDArray[np.generic]:
    """The array of `path` as a read-only memory map.

    Raises:
        StorageError: the file is missing, broken, cut short, or of another dtype.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise StorageError(f"{path} is missing or not a whole .npy file") from error
    if array.dtype != np.dtype(dtype) or array.ndim != 2:
        raise StorageError(f"{path} is {array.dtype} {list(array.shape)}, not {np.dtype(dtype)}")
    return np.asarray(array)


class MappedPages:
    """Gives pages of memory-mapped arrays back before they fill the process's memory.

    A page that was read once counts as the process's own until the system needs it elsewhere. Given
    back, it stays in the system's cache for as long as there is room, and comes again when it is
    read. Small arrays, arrays in memory, arrays that may be written, and systems without `/proc`
    are left alone.

    Args:
        arrays: of which some may be memory maps.
        limit: bytes of mapped files that the process may hold.
    """

    def __init__(self, arrays: Sequence[NDArray[np.generic]], limit: int = 1 << 30) -> None:
        large = sum(array.nbytes for array in arrays) > limit and _STATM.exists()
        # Those that may be written can hold changes that no file has.
        found = (_mapping(array) for array in arrays if not array.flags.writeable)
        self._maps = [m for m in found if m is not None] if large else []
        self._limit = limit
        self._rows = 0

    def touched(self, rows: int) -> None:
        """Say that `rows` rows have been read since the last call."""
        if not self._maps:
            return
        self._rows += rows
        if self._rows < _LOOK_EVERY:
            return
        self._rows = 0
        if int(_STATM.read_text().split()[2]) * mmap.PAGESIZE > self._limit:
            for mapping in self._maps:
                mapping.madvise(mmap.MADV_DONTNEED)


_STATM = Path("/proc/self/statm")
_LOOK_EVERY = 8192
"""Rows; a row that is read brings up to 64 KiB of neighbours with it."""


def _mapping(array: NDArray[np.generic]) -> mmap.mmap | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
