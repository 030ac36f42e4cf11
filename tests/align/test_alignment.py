import json

import numpy as np
import pytest

from isthmus.align import Alignment, AlignmentCounts
from isthmus.errors import StorageError

COUNTS = AlignmentCounts(
    rows=9,
    nulls=1,
    duplicates=2,
    keys=6,
    partners={"bob": 7},
    pairwise={"bob": 3},
    common=3,
    samples=4,
)
ALIGNMENT = Alignment(np.array([4, 0, 4, 2]), 3, COUNTS)


def test_an_alignment_survives_saving(tmp_path):
    ALIGNMENT.save(str(tmp_path / "align"))
    again = Alignment.load(str(tmp_path / "align"))
    assert again.rows.dtype == np.int64
    assert again.rows.tolist() == [4, 0, 4, 2]
    assert (again.entities, again.summary) == (3, COUNTS)
    assert len(again) == 4


def test_changed_rows_are_noticed(tmp_path):
    ALIGNMENT.save(tmp_path)
    path = tmp_path / "rows.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"rows\.npy is not the alignment"):
        Alignment.load(tmp_path)


@pytest.mark.parametrize("change", [{"summary": {"rows": 1}}, {"rows_sha256": None}, None])
def test_a_broken_description_is_noticed(tmp_path, change):
    ALIGNMENT.save(tmp_path)
    path = tmp_path / "alignment.json"
    about = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps(about | change))
    with pytest.raises(StorageError, match="is not the alignment"):
        Alignment.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"alignment\.json"):
        Alignment.load(tmp_path)
