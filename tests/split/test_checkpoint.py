"""The files of checkpoints: what is kept, what is passed over, and what a full disk does."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.split.test_recovery import OFTEN, OPTIONS, assert_same, federate, files
from tests.split.toy import make_toy

from isthmus.errors import StorageError
from isthmus.split.checkpoint import CheckpointFolder, Point

RUN, OTHER = "a" * 16, "b" * 16


def write(folder, step, best=(), epoch=0, run=RUN, mark="mark", size=3):
    tensors = {"x": torch.full((size,), float(step))}
    return CheckpointFolder(folder, mark).save(Point(step, run), epoch, tensors, {"a": 1}, best)


def steps(folder, mark="mark"):
    return [point.step for point in CheckpointFolder(folder, mark).points()]


def test_what_is_written_is_read(tmp_path):
    tensors = {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }
    tensors["again"] = tensors["bytes"]
    folder = CheckpointFolder(tmp_path / "deep" / "folder", "mark")
    folder.save(Point(5, RUN), 1, tensors, {"a": [1, None, float("-inf")]})
    (point,) = folder.points()
    found = folder.load(point)
    assert (found.point, found.best, found.facts) == (
        Point(5, RUN),
        0,
        {"a": [1, None, float("-inf")]},
    )
    for name, tensor in found.tensors().items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name])
    assert folder.load(Point(5, OTHER)) is None
    assert folder.load(Point(6, RUN)) is None


def test_the_last_two_and_the_last_two_best_are_kept(tmp_path):
    best = []
    for step in range(1, 11):
        if step in (2, 3, 5):
            best = [*best, step][-2:]
        write(tmp_path, step, best)
    assert steps(tmp_path) == [3, 5, 9, 10]
    assert len(list(tmp_path.iterdir())) == 4


def test_what_builds_on_a_lost_best_epoch_is_passed_over(tmp_path):
    write(tmp_path, 1, [1])
    second = write(tmp_path, 2, [1, 2])
    write(tmp_path, 3, [1, 2])
    write(tmp_path, 4, [1, 2])
    assert steps(tmp_path) == [1, 2, 3, 4]
    second.write_bytes(b"")
    assert steps(tmp_path) == [1]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_last(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-9])


def nearly_nothing(path):
    path.write_bytes(path.read_bytes()[:5])


def empty(path):
    path.write_bytes(b"")


def folder_instead(path):
    path.unlink()
    path.mkdir()


def points_nowhere(path):
    path.unlink()
    path.symlink_to(path)


def another_runs(path):
    step = int(path.name.split(".")[1].removeprefix("step-"))
    path.unlink()
    write(path.parent, step, mark="other")


SPOILERS = [
    flip, flip_last, cut_off, nearly_nothing, empty, folder_instead, points_nowhere, another_runs,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILERS)
@pytest.mark.parametrize("party", ["alice", "bob"])
def test_where_one_partys_newest_is_bad_all_use_the_one_before(tmp_path, finished, spoil, party):
    toy, undisturbed, reference = finished
    shutil.copytree(undisturbed, tmp_path / "run")
    newest = files(tmp_path / "run", party)[-1]
    assert ".step-0000000021." in newest.name
    spoil(newest)
    results, modules = federate(toy, tmp_path / "run", OFTEN)
    assert {result.resumed_step for result in results.values()} == {20}
    assert_same(modules, reference)


def test_where_all_are_bad_training_begins_anew(tmp_path, finished):
    toy, undisturbed, reference = finished
    shutil.copytree(undisturbed, tmp_path / "run")
    for path in files(tmp_path / "run", "alice"):
        cut_off(path)
    results, modules = federate(toy, tmp_path / "run", OFTEN)
    assert results["bob"].resumed_step == 0
    assert_same(modules, reference)


def test_where_the_best_epoch_is_lost_the_best_before_is_used(tmp_path, finished):
    toy, undisturbed, reference = finished
    folder = CheckpointFolder(undisturbed / "bob" / "checkpoints", "")
    names = [int(path.name.split(".")[1][5:]) for path in folder._files()]
    assert 21 in names  # the best epoch's, as it happens
    shutil.copytree(undisturbed, tmp_path / "run")
    for name in ("step-0000000021", "step-0000000020"):
        for path in (tmp_path / "run" / "bob" / "checkpoints").glob(f"*{name}*"):
            flip(path)
    results, modules = federate(toy, tmp_path / "run", OFTEN)
    assert results["bob"].resumed_step == 14
    assert_same(modules, reference)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run's folder and models."""
    folder = tmp_path_factory.mktemp("finished")
    toy = make_toy()
    _, reference = federate(toy, folder, OFTEN)
    return toy, folder, reference


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"\x02" + b"\0" * 7 + b"{}", b"\xff" * 40])
def test_a_file_that_only_looks_like_a_checkpoint_is_passed_over(tmp_path, content):
    digest = hashlib.sha256(content).hexdigest()[:32]
    (tmp_path / f"epoch-000001.step-0000000001.{digest}.safetensors").write_bytes(content)
    assert steps(tmp_path) == []


def test_a_checkpoint_under_another_points_name_is_passed_over(tmp_path):
    path = write(tmp_path, 3)
    path.rename(path.with_name(path.name.replace("step-0000000003", "step-0000000009")))
    assert steps(tmp_path) == []


def test_clearing_removes_what_is_later_of_other_runs_or_half_written(tmp_path):
    kept = write(tmp_path, 3)
    write(tmp_path, 9)
    other = write(tmp_path / "x", 2, run=OTHER)
    other.rename(tmp_path / other.name)
    (tmp_path / "x").rmdir()
    (tmp_path / ".new.safetensors.4711.part").write_bytes(b"half")
    (tmp_path / "new.safetensors").write_bytes(b"whole, without its name")
    (tmp_path / "notes.txt").write_text("the user's")
    folder = CheckpointFolder(tmp_path, "mark")
    folder.clear(after=Point(3, RUN))
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept.name, "notes.txt"]
    folder.clear(after=Point(0, OTHER))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_checkpoint_that_may_not_be_read_is_passed_over(as_nobody):
    folder = as_nobody
    write(folder, 1)
    write(folder, 2).chmod(0)
    assert steps(folder) == [1]


def test_a_folder_that_may_not_be_used_is_one_clear_error(as_nobody):
    folder = as_nobody
    write(folder, 1)
    folder.chmod(0o500)
    with pytest.raises(StorageError, match="cannot write"):
        write(folder, 2)
    with pytest.raises(StorageError, match="cannot write"):
        CheckpointFolder(folder, "mark").clear(after=Point(0, RUN))
    assert steps(folder) == [1]
    folder.chmod(0)
    with pytest.raises(StorageError, match=r"cannot read .*Permission denied.*remove it to train"):
        steps(folder)


@pytest.fixture
def as_nobody(tmp_path):
    """A folder of a user for whom permissions count; the process is that user."""
    if os.geteuid():
        yield tmp_path
        return
    # Not below `tmp_path`: pytest closes what lies above it to other users.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                pytest.skip("temporary folders are closed to other users here")
            yield folder
        finally:
            os.seteuid(0)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_leaves_the_older_ones_whole(small_disk):
    write(small_disk, 1, size=25_000)
    write(small_disk, 2, size=25_000)
    with pytest.raises(StorageError, match="no space left on the disk"):
        write(small_disk, 3, size=30_000)
    assert steps(small_disk) == [1, 2]
    assert len(list(small_disk.iterdir())) == 2


def test_a_run_that_filled_the_disk_goes_on_when_there_is_room(small_disk):
    toy = make_toy()
    options = replace(OFTEN, epochs=2)
    _, reference = federate(toy, None, options)
    filler = small_disk / "filler"
    size = 300_000
    while True:
        filler.write_bytes(bytes(size))
        try:
            federate(toy, small_disk / "run", options)
            break
        except StorageError as error:
            if "no space left" not in error.message:
                raise
            size -= 40_000
    assert size < 300_000
    results, modules = federate(toy, small_disk / "run", options)
    assert results["bob"].resumed_step == 14
    assert_same(modules, reference)


def test_a_run_of_whole_epochs_keeps_the_last_two(tmp_path):
    federate(make_toy(), tmp_path, replace(OPTIONS, epochs=4))
    names = [path.name[:12] for path in files(tmp_path, "bob")]
    assert names[-2:] == ["epoch-000003", "epoch-000004"]
    assert len(names) <= 4
