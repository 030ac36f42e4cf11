"""Arrays on disk: written in blocks, and their pages given back."""

import sys
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.arrays import MappedPages, open_array, writing_array
from isthmus.errors import StorageError

ROWS = 1 << 18


def stored(path, rows=ROWS):
    with writing_array(path, rows, 4, np.int32) as append:
        for start in range(0, rows, 1000):
            size = min(1000, rows - start)
            append(np.arange(start * 4, (start + size) * 4, dtype=np.int32).reshape(size, 4))
    return open_array(path, np.int32)


def resident(path):
    """Bytes of the file that this process has mapped and holds."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    total = 0
    for line in lines:
        if line.endswith(str(path)):
            total += next(int(text.split()[1]) for text in lines if text.startswith("Rss:")) * 1024
    return total


def test_blocks_make_one_array(tmp_path):
    array = stored(tmp_path / "x.npy", 2500)
    np.testing.assert_array_equal(array, np.arange(10_000).reshape(2500, 4))


def test_an_array_with_rows_missing_does_not_appear(tmp_path):
    with (
        pytest.raises(StorageError, match="1 of 2 rows"),
        writing_array(tmp_path / "x.npy", 2, 1, np.int32) as append,
    ):
        append(np.zeros((1, 1), np.int32))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_that_were_read_are_given_back(tmp_path):
    array = stored(tmp_path / "x.npy")
    pages = MappedPages([array], limit=1 << 20)
    total = int(array.sum(dtype=np.int64))
    assert resident(tmp_path / "x.npy") >= array.nbytes
    pages.touched(100)
    assert resident(tmp_path / "x.npy") >= array.nbytes, "it looks too often"
    pages.touched(ROWS)
    assert resident(tmp_path / "x.npy") < 1 << 17
    assert int(array.sum(dtype=np.int64)) == total


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_small_arrays_keep_their_pages(tmp_path):
    array = stored(tmp_path / "x.npy")
    assert array.sum(dtype=np.int64)
    MappedPages([array], limit=1 << 23).touched(ROWS)
    MappedPages([np.zeros((1 << 20, 4))], limit=1 << 20).touched(ROWS)
    assert resident(tmp_path / "x.npy") >= array.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_changes_that_no_file_has_are_kept(tmp_path):
    stored(tmp_path / "x.npy")
    array = np.asarray(np.load(tmp_path / "x.npy", mmap_mode="c"))
    pages = MappedPages([array], limit=1 << 20)
    array[:100] = -1
    assert array.sum(dtype=np.int64)
    pages.touched(ROWS)
    assert (array[:100] == -1).all()
