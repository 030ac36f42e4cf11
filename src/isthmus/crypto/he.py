"""Additive homomorphic encryption of whole numbers, thousands in a ciphertext: BFV by SEAL.

Fan and Vercauteren, IACR ePrint 2012/144, as in Microsoft SEAL, by TenSEAL (the extra `vertical`).
Rings of degree 8192 with SEAL's 128-bit coefficient modulus: a ciphertext has `SLOTS` numbers
modulo the prime `MODULUS` of 50 bits, and can be added to others, added to plain numbers and
multiplied, slot by slot, with plain numbers. All of it is exact, so fixed point is too.

**Security.** The holder of the public key alone learns nothing of what is encrypted (ring learning
with errors, 128 bits), as long as it is semi-honest and sees nothing that was decrypted but what a
protocol shows it. The holder of the secret key sees all slots of what it decrypts, so the other one
adds a mask uniform modulo `MODULUS` to every slot that is not meant for it (`masks`): a masked slot
is uniform whatever was in it. A ciphertext's noise tells of what it was multiplied with, and the
key holder can see it. TenSEAL has no function that floods noise; `products` adds an encryption of
zero times two random vectors, whose noise is tens of bits larger than that of the products. That is
a heuristic without a proof, and no help against a key holder that encrypts with larger noise.

Public keys and ciphertexts of a partner are looked through (`seal_bytes`) and then read by SEAL.
Parameters are never taken from a partner: of what it sends as its public key, only the key itself
is read, with the parameters of this module. Ciphertexts must be as fresh ones are: of two
polynomials, at the first modulus level, not in NTT form.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto import seal_bytes
from isthmus.errors import BadMessage, JobError

Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]

SLOTS = 8192
MODULUS = 1125899906826241
"""The largest prime below 2^50 that is 1 modulo 2 SLOTS."""
HALF = MODULUS // 2
"""Numbers from -HALF to HALF can be told apart."""
_MOST_KEY, _MOST_CIPHER = 1 << 20, 1 << 19
"""Bytes of a public key and of a ciphertext, at most; fresh ones have 541,800 and 432,500."""
_UNPACKED = 1 << 22
"""Bytes that either may unpack to, counting whole blocks; fresh ones have about a million."""
_ONE_OF_SLOTS = b"\x80\x40"
"""The number SLOTS, as the sizes of a vector's one ciphertext: field 1 of TenSEAL's vector."""


class HeKey:
    """A secret key and its public one.

    Args:
        threads: that SEAL may use.
    """

    def __init__(self, threads: int = 1) -> None:
        self._context = _fresh(threads)

    def public(self) -> Bytes:
        """The public key, uint8 [about 540,000], for `HePublic`."""
        shown = self._context.copy()
        shown.make_context_public()
        data = shown.serialize(
            save_public_key=True, save_secret_key=False,
            save_galois_keys=False, save_relin_keys=False,
        )  # fmt: skip
        return np.frombuffer(data, np.uint8)

    def encrypt(self, values: Longs) -> Cipher:
        """Up to SLOTS numbers, int64, each within HALF; the other slots are 0."""
        return _encrypted(self._context, values)

    def decrypt(self, cipher: Cipher) -> Longs:
        """All slots, int64 [SLOTS], within HALF."""
        found = cipher.vector.decrypt(self._context.secret_key())
        return np.array(found, np.int64)

    def read(self, data: Bytes) -> Cipher:
        """A ciphertext that a partner sent. Raises BadMessage."""
        return _read(self._context, data)


class HePublic:
    """A partner's public key.

    Args:
        data: from `HeKey.public`.
        threads: that SEAL may use.

    Raises:
        BadMessage: it is no key, or one of other parameters.
    """

    def __init__(self, data: Bytes, threads: int = 1) -> None:
        if not 0 < data.size <= _MOST_KEY or data.dtype != np.uint8 or data.ndim != 1:
            raise BadMessage("the public key has no possible size")
        wrong = BadMessage("what was sent is no public key")
        try:
            context = _tenseal().context_from(_in_own_form(data.tobytes()), n_threads=threads)
        except (ValueError, RuntimeError, TypeError, MemoryError) as error:
            raise wrong from error
        if not context.has_public_key() or context.is_private():
            raise wrong
        self._context = context

    @property
    def context(self) -> Any:
        """TenSEAL's, for `he_sums`."""
        return self._context

    def encrypt(self, values: Longs) -> Cipher:
        """Up to SLOTS numbers, int64, each within HALF; the other slots are 0."""
        return _encrypted(self._context, values)

    def read(self, data: Bytes) -> Cipher:
        """A ciphertext that a partner sent. Raises BadMessage."""
        return _read(self._context, data)


@dataclass(frozen=True, eq=False)
class Cipher:
    """SLOTS encrypted numbers."""

    vector: Any

    def __add__(self, other: Cipher) -> Cipher:
        return Cipher(self.vector + other.vector)

    def plus(self, values: Longs) -> Cipher:
        """Plain numbers added, int64 [SLOTS]."""
        return Cipher(self.vector + plain(values))

    def times(self, values: Longs) -> Cipher:
        """Each slot times its plain number, int64 [SLOTS], not all of them 0."""
        return Cipher(self.vector * plain(values))

    def tensor(self) -> Bytes:
        """For a link, uint8 [about 432,500]."""
        return np.frombuffer(self.vector.serialize(), np.uint8)


def masks(count: int) -> Longs:
    """Numbers uniform modulo MODULUS from the system's source of secrets, int64 [count]."""
    out = np.empty(0, np.int64)
    while len(out) < count:
        drawn = np.frombuffer(secrets.token_bytes(8 * (count - len(out) + 8)), np.int64)
        drawn = drawn & ((1 << 50) - 1)
        out = np.concatenate([out, drawn[drawn < MODULUS]])
    return centred(out[:count])


def centred(values: Longs) -> Longs:
    """Numbers modulo MODULUS as those within HALF, int64."""
    return np.asarray((values + HALF) % MODULUS - HALF, np.int64)


def pack(ciphers: Sequence[Cipher]) -> dict[str, NDArray[Any]]:
    """Ciphertexts as the tensors of one message: `bytes` uint8 and `sizes` int64."""
    parts = [one.tensor() for one in ciphers]
    sizes = np.array([part.size for part in parts], np.int64)
    return {"bytes": np.concatenate(parts) if parts else np.empty(0, np.uint8), "sizes": sizes}


def unpack(key: HeKey | HePublic, tensors: dict[str, NDArray[Any]], count: int) -> list[Cipher]:
    """The `count` ciphertexts that a partner sent.

    Raises:
        BadMessage: they are another number, or no ciphertexts of this key's parameters.
    """
    data, sizes = tensors.get("bytes"), tensors.get("sizes")
    if data is None or sizes is None or data.dtype != np.uint8 or sizes.dtype != np.int64:
        raise BadMessage("ciphertexts come as bytes and sizes")
    fits = (
        data.ndim == 1 and sizes.shape == (count,) and ((sizes > 0) & (sizes <= _MOST_CIPHER)).all()
    )
    if not fits or int(sizes.sum()) != data.size:
        raise BadMessage(f"{count} ciphertexts were expected, and something else came")
    ends = np.cumsum(sizes)
    return [key.read(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def cipher_of(public: HePublic, seal: bytes) -> Cipher:
    """A ciphertext of our own making, as SEAL writes it."""
    content = seal_bytes.field(1, _ONE_OF_SLOTS) + seal_bytes.field(2, seal)
    return Cipher(_tenseal().bfv_vector_from(public.context, content))


def _encrypted(context: Any, values: Longs) -> Cipher:
    return Cipher(_tenseal().bfv_vector(context, plain(values)))


def plain(values: Longs) -> list[int]:
    """SLOTS numbers for SEAL, those after `values` 0. Raises ValueError where one is too large."""
    if len(values) > SLOTS or (len(values) and int(np.abs(values).max()) > HALF):
        raise ValueError(f"{len(values)} numbers, or one beyond {HALF}, in {SLOTS} slots")
    filled = np.zeros(SLOTS, np.int64)
    filled[: len(values)] = values
    found: list[int] = filled.tolist()
    return found


def _read(context: Any, data: Bytes) -> Cipher:
    if not 0 < data.size <= _MOST_CIPHER:
        raise BadMessage("a ciphertext has no possible size")
    content = data.tobytes()
    number, sizes, rest = seal_bytes.first_field(content)
    place, one, end = seal_bytes.first_field(rest)
    if (number, sizes, place, end) != (1, _ONE_OF_SLOTS, 2, b""):
        raise BadMessage("what was sent is no ciphertext of this many slots")
    seal_bytes.check_object(one, _UNPACKED)
    try:
        vector = _tenseal().bfv_vector_from(context, content)
        fresh = _is_as_fresh(context, vector)
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise BadMessage("what was sent is no ciphertext") from error
    if not fresh:
        raise BadMessage("a ciphertext is of another size, modulus level or form than a fresh one")
    return Cipher(vector)


def _is_as_fresh(context: Any, vector: Any) -> bool:
    parts = vector.ciphertext()
    if vector.size() != SLOTS or len(parts) != 1 or parts[0].size() != 2:
        return False
    first = context.seal_context().data.first_parms_id()
    # SEAL stops where a product of one that hides nothing comes out.
    return (
        parts[0].parms_id() == first
        and not parts[0].is_ntt_form()
        and not parts[0].is_transparent()
    )


def _fresh(threads: int) -> Any:
    tenseal = _tenseal()
    return tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        poly_modulus_degree=SLOTS,
        plain_modulus=MODULUS,
        n_threads=threads,
    )


@cache
def _own_form() -> tuple[bytes, bytes]:
    """What TenSEAL writes before and after the key itself: this module's parameters and flags."""
    parameters, _, settings = _context_parts(HeKey().public().tobytes())
    return parameters, settings


def _context_parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """A public context's parameters, its key, and the settings that follow. Raises BadMessage."""
    first, parameters, rest = seal_bytes.first_field(data)
    second, public, end = seal_bytes.first_field(rest)
    third, key, settings = seal_bytes.first_field(public)
    if (first, second, third, end) != (1, 2, 1, b""):
        raise BadMessage("what was sent is no public key")
    return parameters, key, settings


def _in_own_form(data: bytes) -> bytes:
    """The public context that has a partner's key, and nothing else of the partner's."""
    parameters, settings = _own_form()
    key = _context_parts(data)[1]
    seal_bytes.check_object(key, _UNPACKED)
    public = seal_bytes.field(1, key) + settings
    return seal_bytes.field(1, parameters) + seal_bytes.field(2, public)


def _tenseal() -> Any:
    try:
        import tenseal
    except ImportError as error:
        raise JobError(
            "homomorphic encryption needs the package tenseal, which is not installed",
            mend="Run `pip install 'isthmus[vertical]'`.",
        ) from error
    return tenseal
