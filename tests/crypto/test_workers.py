import io
import subprocess
import sys

import numpy as np
import pytest

from isthmus.crypto import (
    LowOrderPoint,
    PointWorkers,
    default_workers,
    hash_to_points,
    multiply,
    new_secret,
)
from isthmus.crypto import workers as workers_module
from isthmus.crypto.requests import HEADER, MULTIPLY, REPLY, pack_ids, serve, unpack_ids
from isthmus.errors import IsthmusError

IDS = [b"", b"7", "Zoë".encode(), *(b"user-%d" % i for i in range(50))]
LOW = np.zeros((1, 32), dtype=np.uint8)


def test_children_compute_the_same_as_this_process_and_end():
    secret = new_secret()
    expected = multiply(secret, hash_to_points(IDS))
    with PointWorkers(2) as workers:
        futures = [workers.mask_ids(secret, IDS) for _ in range(5)]
        twice = workers.multiply(secret, expected)
        low = workers.multiply(secret, LOW)
        assert all(np.array_equal(f.result(), expected) for f in futures)
        assert np.array_equal(twice.result(), multiply(secret, expected))
        with pytest.raises(LowOrderPoint):
            low.result()
        again = workers.mask_ids(secret, IDS[:3])  # the child that refused goes on
        assert np.array_equal(again.result(), expected[:3])
    assert [child.returncode for child in workers._all] == [0, 0]


def test_a_child_that_dies_is_a_clear_error():
    with PointWorkers(1) as workers:
        workers._all[0].kill()
        workers._all[0].wait()
        with pytest.raises(IsthmusError, match="ended early"):
            workers.mask_ids(new_secret(), IDS).result()


def test_a_child_that_dies_in_an_answer_is_a_clear_error(monkeypatch):
    def half_an_answer():
        code = f"import sys; sys.stdout.buffer.write({REPLY.pack(0, 64)!r} + bytes(32))"
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(workers_module, "_start", half_an_answer)
    with PointWorkers(1) as workers, pytest.raises(IsthmusError, match="ended early"):
        workers.multiply(new_secret(), hash_to_points([b"a", b"b"])).result()


def test_without_children_the_work_is_done_here():
    secret = new_secret()
    with PointWorkers(0) as workers:
        assert np.array_equal(
            workers.mask_ids(secret, IDS).result(), multiply(secret, hash_to_points(IDS))
        )
        with pytest.raises(LowOrderPoint):
            workers.multiply(secret, LOW).result()


def test_the_child_answers_until_its_input_ends():
    points = hash_to_points([b"a", b"b"])
    secret = new_secret()
    request = HEADER.pack(MULTIPLY, 2, 64) + secret + points.tobytes()
    low = HEADER.pack(MULTIPLY, 1, 32) + secret + LOW.tobytes()
    out = io.BytesIO()
    serve(io.BytesIO(request + low), out)
    expected = REPLY.pack(0, 64) + multiply(secret, points).tobytes() + REPLY.pack(1, 0)
    assert out.getvalue() == expected


def test_ids_survive_packing():
    assert unpack_ids(pack_ids(IDS), len(IDS)) == IDS
    assert unpack_ids(pack_ids([]), 0) == []


def test_few_ids_start_no_process():
    assert default_workers(1_000) == 0
    assert default_workers(1_000_000) >= 1
