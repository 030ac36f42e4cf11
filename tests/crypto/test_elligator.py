"""The map to the curve by gmpy2 is libsodium's."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_from_uniform

from isthmus.crypto import curve25519, hash_to_points
from isthmus.crypto.elligator import P, map_to_curve
from isthmus.crypto.gmp import find_gmpy2, need_gmpy2
from isthmus.errors import JobError


def by_libsodium(digest):
    y = int.from_bytes(crypto_core_ed25519_from_uniform(digest), "little") & (2**255 - 1)
    return (1 + y) * pow(1 - y, -1, P) % P


@settings(deadline=None)
@given(st.lists(st.integers(1, P - 1).map(lambda r: r.to_bytes(32, "little")), max_size=8))
def test_it_is_the_map_of_libsodium(digests):
    expected = [by_libsodium(digest) for digest in digests]
    assert map_to_curve(find_gmpy2(), digests) == expected


@pytest.mark.parametrize("r", [1, 2, P - 1, P + 1, 2**254, 2**255 - 1, 2**256 - 1])
def test_numbers_at_the_ends(r):
    digest = r.to_bytes(32, "little")
    assert map_to_curve(find_gmpy2(), [digest]) == [by_libsodium(digest)]


def test_parties_with_and_without_gmpy2_hash_alike(monkeypatch):
    ids = [os.urandom(9) for _ in range(40)]
    fast = hash_to_points(ids)
    monkeypatch.setattr(curve25519, "find_gmpy2", lambda: None)
    assert (hash_to_points(ids) == fast).all()
    assert hash_to_points([]).shape == (0, 32)


def test_where_it_is_missing_and_needed_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("isthmus.crypto.gmp.find_gmpy2", lambda: None)
    with pytest.raises(JobError, match="protocol rsa-blind needs the package gmpy2") as caught:
        need_gmpy2("protocol rsa-blind")
    assert "isthmus[psi]" in str(caught.value.mend)
