import hashlib

import numpy as np
import pytest

from isthmus.crypto import LowOrderPoint, hash_to_points, multiply, new_secret

P, A = 2**255 - 19, 486662


def as_points(*points):
    return np.frombuffer(b"".join(points), dtype=np.uint8).reshape(-1, 32)


def is_square(value):
    return pow(value, (P - 1) // 2, P) in (0, 1)


def test_multiplication_is_x25519_of_rfc_7748():
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert multiply(scalar, as_points(point)).tobytes().hex() == product


def test_an_id_becomes_its_first_hash_that_is_on_the_curve():
    ids = [b"", b"7", b"alice", *(b"%d" % i for i in range(50))]
    tries = []
    for value, point in zip(ids, hash_to_points(ids), strict=True):
        for n in range(256):
            tag = b"isthmus.curve25519.try.sha256.v3\x00" + bytes([n])
            u = int.from_bytes(hashlib.sha256(tag + value).digest(), "little") % 2**255
            if is_square(u**3 + A * u**2 + u):
                break
        assert int.from_bytes(point.tobytes(), "little") == u
        tries.append(n)
    assert max(tries) > 1


def test_every_point_is_on_the_curve_and_not_on_its_twist():
    points = hash_to_points([b"%d" % i for i in range(300)])
    us = [int.from_bytes(row.tobytes(), "little") for row in points]
    assert all(is_square(u**3 + A * u**2 + u) for u in us)
    assert len(set(us)) == 300


def test_masks_commute_and_secrets_differ():
    a, b = new_secret(), new_secret()
    points = hash_to_points([b"%d" % i for i in range(20)])
    assert a != b
    assert np.array_equal(multiply(a, multiply(b, points)), multiply(b, multiply(a, points)))
    assert not (multiply(a, points) == multiply(b, points)).all(axis=1).any()


@pytest.mark.parametrize("u", [0, 1, P - 1, P, P + 1])
def test_a_point_of_low_order_is_refused(u):
    low = u.to_bytes(32, "little")
    good = hash_to_points([b"x"])[0].tobytes()
    with pytest.raises(LowOrderPoint):
        multiply(new_secret(), as_points(good, low))


def test_no_ids_give_no_points():
    assert hash_to_points([]).shape == (0, 32)
    assert multiply(new_secret(), hash_to_points([])).shape == (0, 32)
