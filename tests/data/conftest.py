import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def raw_data():
    """The folder with raw public data sets; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("ISTHMUS_DATA", default))
    if not (folder / "ml-100k").is_dir():
        pytest.skip(f"no raw data sets in {folder}")
    return folder


@contextmanager
def _no_file_above(size: int):
    """Writes past `size` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full_disk():
    return _no_file_above
