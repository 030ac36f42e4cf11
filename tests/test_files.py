import errno
import os
import re

import pytest

from isthmus.errors import StorageError
from isthmus.files import (
    file_digest,
    files_named,
    remove_files,
    replacing,
    storage_error,
    write_bytes,
    write_digested,
    write_json,
    write_text,
)


def test_a_file_appears_whole(tmp_path):
    write_json(tmp_path / "deep" / "facts.json", {"a": [1, None]})
    assert (tmp_path / "deep" / "facts.json").read_text() == (
        '{\n  "a": [\n    1,\n    null\n  ]\n}\n'
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["facts.json"]


def test_an_error_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "facts.txt"
    write_text(path, "old")

    def half_way():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        half_way()
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["facts.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_file_and_the_mend(tmp_path, code):
    path = tmp_path / "facts.txt"

    def fill():
        with replacing(path):
            raise OSError(code, os.strerror(code))

    with pytest.raises(StorageError, match=r"no space left .*facts.txt.*Free some space"):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="runs"):
        write_bytes(tmp_path / "runs" / "a" / "b", b"x")


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"auc": float("nan")})
    assert not list(tmp_path.iterdir())


def test_other_errors_name_the_file_and_the_cause(tmp_path):
    text = str(storage_error(tmp_path / "x", OSError(errno.EACCES, "Permission denied")))
    assert "x" in text
    assert "Permission denied" in text


def test_a_file_named_by_its_digest_is_found_again_and_removed(tmp_path):
    path = write_digested(
        tmp_path / "new", lambda to: to.write_text("whole"), lambda digest: f"part.{digest}"
    )
    assert path.name == f"part.{file_digest(path)}"
    assert path.read_text() == "whole"
    (tmp_path / "part.other").write_text("not ours")
    pattern = re.compile(r"part\.[0-9a-f]{32}")
    assert files_named(tmp_path, pattern) == [path]
    remove_files([path, path])
    assert files_named(tmp_path, pattern) == []
    assert files_named(tmp_path / "none", pattern) == []


def test_a_digested_file_that_cannot_be_written_leaves_nothing(tmp_path):
    def full(to):
        to.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="no space left"):
        write_digested(tmp_path / "new", full, lambda digest: digest)
    assert list(tmp_path.iterdir()) == []
