"""Blind signatures: they verify, they show nothing, and made-up keys and answers are refused."""

import threading

import gmpy2
import numpy as np
import pytest

from isthmus.crypto import rsa
from isthmus.crypto.rsa import BITS, BYTES, EXPONENT, BadKey, BadNumber, RsaRequester, RsaSigner
from isthmus.errors import IsthmusError

IDS = [b"", b"a", b"b" * 300, b"\x00"]


@pytest.fixture(scope="module")
def signer():
    return RsaSigner()


@pytest.fixture(scope="module")
def requester(signer):
    return RsaRequester(signer.modulus, signer.prove())


def row(value):
    return np.frombuffer(int(value).to_bytes(BYTES, "big"), dtype=np.uint8)


def value(numbers):
    return int.from_bytes(numbers.tobytes(), "big")


def test_both_sides_come_to_the_same_tags(signer, requester):
    blinded, blinding = requester.blind(IDS)
    tags = requester.tags(signer.sign(blinded), blinding)
    assert tags.shape == (4, 16)
    assert (tags == signer.tags(IDS)).all()
    assert len({tag.tobytes() for tag in tags}) == 4
    assert (signer.tags([b"c"]) != tags).any()


def test_one_id_alone_and_another_key(signer, requester):
    other = RsaSigner()
    blinded, blinding = requester.blind(IDS[:1])
    tag = requester.tags(signer.sign(blinded), blinding)
    assert (tag == signer.tags(IDS[:1])).all()
    assert (tag != other.tags(IDS[:1])).any()


def test_what_is_asked_is_new_each_time_and_below_the_modulus(requester):
    first, second = (requester.blind(IDS)[0] for _ in range(2))
    assert not set(map(bytes, first)) & set(map(bytes, second))
    top = requester._modulus.tobytes()
    assert all(bytes(number) < top for number in first)


def test_the_hash_fills_the_whole_range(signer):
    # Of 64 numbers uniform below n, some are in each quarter but for 64 0.75^64 = 2^-24.
    hashes = rsa._hashes(signer.modulus, [bytes([i]) for i in range(64)])
    quarters = {int(4 * number // value(signer.modulus)) for number in hashes}
    assert quarters == {0, 1, 2, 3}
    assert len(set(hashes)) == 64


def test_several_threads_sign_at_once(signer, requester):
    blinded, blinding = requester.blind(IDS)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(signer.sign(blinded))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((answer == answers[0]).all() for answer in answers)
    assert (requester.tags(answers[0], blinding) == signer.tags(IDS)).all()


def test_a_fault_in_one_half_does_not_leave(signer):
    broken = RsaSigner.__new__(RsaSigner)
    broken.__dict__.update(signer.__dict__)
    broken._dp = signer._dp + 2
    with pytest.raises(IsthmusError, match="came out wrong"):
        broken.tags([b"a"])


@pytest.mark.parametrize("wrong", ["zero", "modulus", "above", "another", "swapped"])
def test_answers_that_are_not_the_signature(signer, requester, wrong):
    blinded, blinding = requester.blind(IDS)
    signed = signer.sign(blinded).copy()
    n = value(signer.modulus)
    made = {"zero": row(0), "modulus": row(n), "above": row(2**BITS - 1), "another": row(2)}
    if wrong == "swapped":
        signed = signed[::-1]
    else:
        signed[1] = made[wrong]
    with pytest.raises(BadNumber):
        requester.tags(signed, blinding)


@pytest.mark.parametrize("number", ["zero", "modulus"])
def test_numbers_out_of_range_are_not_signed(signer, number):
    asked = row(0) if number == "zero" else signer.modulus
    with pytest.raises(BadNumber, match="out of range"):
        signer.sign(asked[None])


def test_keys_of_another_size_even_or_with_a_small_factor(signer):
    n, proof = value(signer.modulus), signer.prove()
    with pytest.raises(BadKey, match="has 3071 bits"):
        RsaRequester(row(n >> 1), proof)
    with pytest.raises(BadKey, match="has 0 bits"):
        RsaRequester(row(0), proof)
    with pytest.raises(BadKey, match="small factor"):
        RsaRequester(row(n - 1), proof)
    for prime in (3, 1048573):  # the smallest odd one, and the largest below 2^20
        with pytest.raises(BadKey, match="small factor"):
            RsaRequester(row((n // (2 * prime)) * 2 * prime + prime), proof)


def test_proofs_of_another_key_or_out_of_range(signer):
    n, proof = signer.modulus, signer.prove()
    for change in (0, value(n), 1):
        changed = proof.copy()
        changed[7] = row(change)
        with pytest.raises(BadKey):
            RsaRequester(n, changed)
    with pytest.raises(BadKey):
        RsaRequester(n, proof[::-1].copy())
    with pytest.raises(BadKey):
        RsaRequester(n, RsaSigner().prove() % 128)


def test_a_key_under_which_blinding_would_show_something_cannot_be_proved(signer):
    # A prime p with e | p - 1: only one in e numbers has a root, and r^e hides no other.
    base = gmpy2.mpz(3) << 1534
    p = base - base % (2 * EXPONENT) + 1
    while not gmpy2.is_prime(p):
        p += 2 * EXPONENT
    q = next(q for q in (signer._p, signer._q) if (p * q).bit_length() == BITS)
    n, order = p * q, (p - 1) * (q - 1) // EXPONENT
    root = gmpy2.invert(EXPONENT, order)
    challenges = rsa._challenges(row(n))
    assert sum(gmpy2.powmod(c, order, n) == 1 for c in challenges) < 8
    proof = np.stack([row(gmpy2.powmod(c, root, n)) for c in challenges])
    with pytest.raises(BadKey, match="not proved to be a permutation"):
        RsaRequester(row(n), proof)


def test_a_key_that_shares_a_factor_with_a_hash_is_refused(monkeypatch, requester):
    n = value(requester._modulus)
    monkeypatch.setattr(rsa, "_hashes", lambda *_: [gmpy2.mpz(5), gmpy2.mpz(n)])
    with pytest.raises(BadKey, match="nobody honest takes"):
        requester.blind([b"a", b"b"])


def test_a_key_that_shares_a_factor_with_a_random_number_is_refused(monkeypatch, signer, requester):
    # As it comes to be under a modulus of many primes above 2^20, which can be proved.
    monkeypatch.setattr(rsa.secrets, "randbelow", lambda _: int(signer._p) - 1)
    with pytest.raises(BadKey, match="nobody honest takes"):
        requester.blind([b"a", b"b"])
