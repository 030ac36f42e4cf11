"""Sums of ciphertexts times plain numbers, several times as fast as one product after the other.

Most of a product's time in SEAL goes into transforms: of the ciphertext and of the plain numbers
into NTT form, and back. Here each ciphertext and each row of plain numbers is transformed once,
however many products it is in, products are added up in NTT form, and a sum is transformed back
once. The result is the ciphertext that `Cipher.times` and `+` make, to the bit.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto.he import Cipher, HePublic, cipher_of, plain

Longs = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Turned:
    """A ciphertext in NTT form: about half a megabyte."""

    seal: Any


@dataclass(frozen=True, eq=False)
class Factor:
    """SLOTS plain numbers in NTT form: about a quarter of a megabyte."""

    seal: Any


class Sums:
    """Makes sums under one key.

    Args:
        public: the key.
    """

    def __init__(self, public: HePublic) -> None:
        import tenseal.sealapi as seal

        self._public, self._seal = public, seal
        context = public.context.seal_context().data
        self._first = context.first_parms_id()
        self._evaluator, self._encoder = seal.Evaluator(context), seal.BatchEncoder(context)

    def turned(self, cipher: Cipher) -> Turned:
        """A ciphertext, to be multiplied."""
        out = self._seal.Ciphertext()
        self._evaluator.transform_to_ntt(cipher.vector.ciphertext()[0], out)
        return Turned(out)

    def factor(self, values: Longs) -> Factor | None:
        """Up to SLOTS numbers, int64, each within HALF, to multiply with; None if all are 0."""
        if not values.any():
            return None
        encoded, out = self._seal.Plaintext(), self._seal.Plaintext()
        self._encoder.encode(plain(values), encoded)
        self._evaluator.transform_to_ntt(encoded, self._first, out)
        return Factor(out)

    def sum(self) -> Sum:
        """A new one, of nothing."""
        return Sum(self._public, self._seal, self._evaluator)


class Sum:
    """One sum, as it is added up; made by `Sums.sum`."""

    def __init__(self, public: HePublic, seal: Any, evaluator: Any) -> None:
        self._public, self._seal, self._evaluator = public, seal, evaluator
        self._total: Any = None

    def add(self, one: Turned, factor: Factor | None) -> None:
        """Add a product; None, numbers that are all 0, adds nothing."""
        if factor is None:
            return
        product = self._seal.Ciphertext()
        self._evaluator.multiply_plain(one.seal, factor.seal, product)
        if self._total is None:
            self._total = product
        else:
            self._evaluator.add_inplace(self._total, product)

    def added_to(self, cipher: Cipher) -> Cipher:
        """The sum and a ciphertext more; the sum is used up."""
        if self._total is None:
            return cipher
        self._evaluator.transform_from_ntt_inplace(self._total)
        # TenSEAL hands ciphertexts over through files alone.
        with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
            path = Path(folder) / "sum"
            self._total.save(str(path))
            data = path.read_bytes()
        self._total = None
        return cipher_of(self._public, data) + cipher
