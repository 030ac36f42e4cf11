"""Blind RSA signatures in batches: the holder of the key signs ids that it cannot read.

After Chaum (CRYPTO 1982), with a full-domain hash H (Bellare and Rogaway, EUROCRYPT 1996): the
requester sends m = H(x) r^e, with r drawn at random; the signer answers m^d; the requester divides
by r and has H(x)^d, which nobody but the signer can make. `RsaSigner` and `RsaRequester` are
functions from arrays to arrays, by gmpy2.

H is MGF1 with SHA-512 (RFC 8017, B.2.1) over the modulus, a tag of our own and the id, 16 bytes
longer than the modulus and reduced by it, so that it is uniform but for 2^-128.

**What a requester can rely on.** m hides x whatever the signer does, if y -> y^e is a permutation
of the numbers that share no factor with the modulus n; then m is uniform. Of a made-up n it might
not be. So n comes with the e-th roots of `PROOFS` numbers that are a hash of n (Goldberg, Reyzin,
Sagga and Baldimtsi, "Efficient Noninteractive Certification of RSA Moduli and Beyond", ASIACRYPT
2019): where e, which is prime, divides the order of the group, at most one number in e has a root,
and all have one with a probability of 65537^-8 = 2^-128. n must have exactly 3072 bits, be odd and
have no factor below 2^20; a hash that shares a factor with n is refused.

**What a signer can rely on.** It signs as many numbers as it wants to, and nothing else: to make
one more signature than it gave is the one-more-RSA problem (Bellare, Namprempre, Pointcheval and
Semanko, 2003). Its powers are those of `gmpy2.powmod_sec`, whose time does not depend on the
numbers; the root is put together of its halves modulo p and q, and checked before it leaves, since
a fault in one half would give a factor away.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256, sha512
from itertools import accumulate
from typing import Any

import gmpy2
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric import rsa
from gmpy2 import mpz

from isthmus.errors import IsthmusError

Bytes = npt.NDArray[np.uint8]

BITS = 3072
BYTES = BITS // 8
"""Bytes of a modulus, a number and a signature, big-endian."""
EXPONENT = 65537
PROOFS = 8
TAG_BYTES = 16
_LEAST_FACTOR = 1 << 20
_ID, _ROOT, _OUT = (b"isthmus.rsa." + name + b".v1\x00" for name in (b"id", b"root", b"out"))


class BadKey(ValueError):
    """A public key that nobody honest makes."""


class BadNumber(ValueError):
    """A number out of range, or an answer that is not the signature asked for."""


class RsaSigner:
    """A fresh key, and what its holder does with it."""

    def __init__(self) -> None:
        key = rsa.generate_private_key(EXPONENT, BITS).private_numbers()
        self._n, self._p, self._q = map(mpz, (key.public_numbers.n, key.p, key.q))
        self._dp, self._dq, self._q_inverse = map(mpz, (key.dmp1, key.dmq1, key.iqmp))
        self.modulus: Bytes = _pack([self._n])[0]
        """uint8 `[384]`."""

    def prove(self) -> Bytes:
        """That the public key is a permutation, uint8 `[8, 384]`."""
        return _pack(self._roots(_challenges(self.modulus)))

    def sign(self, blinded: Bytes) -> Bytes:
        """Each number to the power of d, uint8 `[n, 384]`.

        Args:
            blinded: uint8 `[n, 384]`.

        Raises:
            BadNumber: one is 0, or not below the modulus.
        """
        return _pack(self._roots(_unpack(blinded, self._n)))

    def tags(self, ids: Sequence[bytes]) -> Bytes:
        """A hash of the signature of each id, uint8 `[n, 16]`."""
        return _tags(self._roots(_hashes(self.modulus, ids)))

    def _roots(self, values: Sequence[Any]) -> list[Any]:
        # So that several threads can work at once; a power takes a millisecond.
        with gmpy2.context(allow_release_gil=True):
            return [self._root(value) for value in values]

    def _root(self, value: Any) -> Any:
        at_q = gmpy2.powmod_sec(value % self._q, self._dq, self._q)
        at_p = gmpy2.powmod_sec(value % self._p, self._dp, self._p)
        root = at_q + (at_p - at_q) * self._q_inverse % self._p * self._q
        if gmpy2.powmod(root, EXPONENT, self._n) != value:
            raise IsthmusError("an RSA signature came out wrong: is this machine's memory sound?")
        return root


@dataclass(frozen=True)
class Blinding:
    """What a requester keeps of a batch until the answer comes."""

    asked: Sequence[Any]
    inverses: Sequence[Any]


class RsaRequester:
    """Asks the holder of a public key for signatures of ids that it does not show.

    Args:
        modulus: uint8 `[384]`.
        proof: uint8 `[8, 384]`, of `RsaSigner.prove`.

    Raises:
        BadKey: the modulus is of another size, even, has a small factor, or is not proved.
    """

    def __init__(self, modulus: Bytes, proof: Bytes) -> None:
        self._modulus = modulus
        self._n = mpz(int.from_bytes(modulus.tobytes(), "big"))
        _check_size(self._n)
        try:
            roots = _unpack(proof, self._n)
        except BadNumber as error:
            raise BadKey("the proof of the RSA key is out of range") from error
        raised = gmpy2.powmod_base_list(roots, EXPONENT, self._n)
        if raised != _challenges(modulus):
            raise BadKey("the RSA key is not proved to be a permutation")

    def blind(self, ids: Sequence[bytes]) -> tuple[Bytes, Blinding]:
        """The hash of each id times a random number, uint8 `[n, 384]`, and what undoes it.

        Raises:
            BadKey: a hash, or a random number, shares a factor with the modulus.
        """
        n = self._n
        hashes = _hashes(self._modulus, ids)
        if gmpy2.gcd(list(accumulate(hashes, lambda a, b: a * b % n))[-1], n) != 1:
            raise BadKey("the RSA key has a factor that nobody honest takes")
        factors = [mpz(1 + secrets.randbelow(int(n) - 1)) for _ in ids]
        raised = gmpy2.powmod_base_list(factors, EXPONENT, n)
        asked = [a * b % n for a, b in zip(hashes, raised, strict=True)]
        return _pack(asked), Blinding(asked, self._inverses(factors))

    def tags(self, signed: Bytes, blinding: Blinding) -> Bytes:
        """A hash of the signature of each id, uint8 `[n, 16]`: that of `RsaSigner.tags`.

        Args:
            signed: uint8 `[n, 384]`, the signer's answer.
            blinding: what came of `blind`.

        Raises:
            BadNumber: an answer is not the signature of what was asked.
        """
        answers = _unpack(signed, self._n)
        raised = gmpy2.powmod_base_list(answers, EXPONENT, self._n)
        if raised != list(blinding.asked):
            raise BadNumber("an answer is not the signature asked for")
        return _tags([a * b % self._n for a, b in zip(answers, blinding.inverses, strict=True)])

    def _inverses(self, factors: Sequence[Any]) -> list[Any]:
        """1 / r of each factor, with one inversion for all (Montgomery's trick)."""
        n = self._n
        products = list(accumulate(factors, lambda a, b: a * b % n))
        try:
            rest = gmpy2.invert(products[-1], n)
        except ZeroDivisionError as error:
            raise BadKey("the RSA key has a factor that nobody honest takes") from error
        inverses = []
        for i in range(len(factors) - 1, 0, -1):
            inverses.append(rest * products[i - 1] % n)
            rest = rest * factors[i] % n
        return [rest, *reversed(inverses)]


def _hashes(modulus: Bytes, ids: Sequence[bytes]) -> list[Any]:
    prefix = _ID + modulus.tobytes()
    n = int.from_bytes(modulus.tobytes(), "big")
    return [mpz(_expand(prefix + value) % n) for value in ids]


def _challenges(modulus: Bytes) -> list[Any]:
    """The numbers whose roots prove a key."""
    prefix, n = _ROOT + modulus.tobytes(), int.from_bytes(modulus.tobytes(), "big")
    return [mpz(_expand(prefix + bytes([i])) % n) for i in range(PROOFS)]


def _expand(seed: bytes) -> int:
    """MGF1 with SHA-512 (RFC 8017, B.2.1), 16 bytes more than a modulus."""
    start, size = sha512(seed).digest(), BYTES + 16
    blocks = [sha512(start + i.to_bytes(4, "big")).digest() for i in range(-(-size // 64))]
    return int.from_bytes(b"".join(blocks)[:size], "big")


def _check_size(n: Any) -> None:
    if n.bit_length() != BITS:
        raise BadKey(f"the RSA key has {n.bit_length()} bits, agreed was {BITS}")
    if gmpy2.gcd(n, _small_primes()) != 1:
        raise BadKey("the RSA key has a small factor")


@cache
def _small_primes() -> Any:
    """The product of all primes below 2^20."""
    return gmpy2.primorial(_LEAST_FACTOR)


def _tags(signatures: Sequence[Any]) -> Bytes:
    raw = b"".join(
        sha256(_OUT + int(value).to_bytes(BYTES, "big")).digest()[:TAG_BYTES]
        for value in signatures
    )
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, TAG_BYTES)


def _pack(values: Sequence[Any]) -> Bytes:
    raw = b"".join(int(value).to_bytes(BYTES, "big") for value in values)
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, BYTES)


def _unpack(rows: Bytes, n: Any) -> list[Any]:
    """Raises BadNumber where one is 0 or not below n."""
    values = [mpz(int.from_bytes(row.tobytes(), "big")) for row in rows]
    if not all(0 < value < n for value in values):
        raise BadNumber("a number is out of range")
    return values
