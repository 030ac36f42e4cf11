"""Which numbers are squares modulo 2^255 - 19, for thousands of them at once.

The Jacobi symbol by division steps (Bernstein and Yang, "Fast constant-time gcd computation and
modular inversion", 2019) in the all-positive form of libsecp256k1 (`posdivsteps`): 30 steps look at
the low words of f and g only and gather a 2 x 2 matrix, which is then applied to the whole
numbers. All of it is plain uint64 arithmetic on numpy arrays, about twenty times as fast as
`pow(v, (p - 1) // 2, p)`. Not constant in time in the number of blocks, so not for secrets that a
partner can time; here the inputs are hashes of the party's own ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

P = 2**255 - 19
_LIMBS = 9  # of 30 bits: 270 bits, room for f and g, which stay below 2^256
_STEPS = 30
_MASK = np.uint64(2**30 - 1)
_LOW = np.uint64(2**32 - 1)
_SHIFT = np.uint64(30)
_HIGH = np.uint64(32)
_MOST_BLOCKS = 40  # about 20 are needed
_FEW = 16  # as many are done one by one as fast as by another block

_Words = npt.NDArray[np.uint64]
_Signed = npt.NDArray[np.signedinteger[Any]]


def are_squares(values: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Whether each of `values` (0 <= v < p) is a non-zero square modulo p = 2^255 - 19.

    Returns:
        bool `[n]`.
    """
    symbol = np.full(len(values), -1, dtype=np.int8)
    todo = np.flatnonzero(np.fromiter((v != 0 for v in values), dtype=bool, count=len(values)))
    g = _limbs([values[i] for i in todo.tolist()])
    f = np.repeat(_limbs([P]), len(todo), axis=1)
    eta = np.full(len(todo), -1, dtype=np.int32)
    sign = np.zeros(len(todo), dtype=np.int32)
    for _ in range(_MOST_BLOCKS):
        if len(todo) < _FEW:
            break
        f, g = _block(f, g, eta, sign)
        done = (f[0] == 1) & ~f[1:].any(axis=0)
        if not done.any():
            continue
        symbol[todo[done]] = np.where(sign[done] & 2, -1, 1)
        keep = ~done
        todo, eta, sign = todo[keep], eta[keep], sign[keep]
        # Not f[:, keep]: its rows would not lie in one piece.
        f, g = f.compress(keep, axis=1), g.compress(keep, axis=1)
    for i in todo.tolist():
        symbol[i] = 1 if pow(values[i], (P - 1) // 2, P) == 1 else -1
    squares: npt.NDArray[np.bool_] = symbol == 1
    return squares


def _limbs(values: Sequence[int]) -> _Words:
    """The numbers as uint64 `[9, n]`, 30 bits a limb, lowest first."""
    raw = b"".join(value.to_bytes(40, "little") for value in values)
    words: Any = np.frombuffer(raw, dtype="<u8").reshape(len(values), 5).T.astype(np.uint64)
    limbs = np.empty((_LIMBS, len(values)), dtype=np.uint64)
    for i in range(_LIMBS):
        word, bit = divmod(30 * i, 64)
        limbs[i] = words[word] >> np.uint64(bit)
        if bit > 34:
            limbs[i] |= words[word + 1] << np.uint64(64 - bit)
        limbs[i] &= _MASK
    return limbs


def _block(
    f: _Words, g: _Words, eta: npt.NDArray[np.int32], sign: npt.NDArray[np.int32]
) -> tuple[_Words, _Words]:
    """30 division steps; `eta` and `sign` (the symbol's sign in bit 1) change in place."""
    # 32 bits suffice: 29 are shifted away before the last look at f modulo 8.
    low_f = (f[0] | (f[1] << _SHIFT)).astype(np.uint32).view(np.int32)
    low_g = (g[0] | (g[1] << _SHIFT)).astype(np.uint32).view(np.int32)
    # The matrix rows (u, v) and (q, r), two non-negative 32-bit numbers to a word.
    upper = np.full(len(eta), 1, dtype=np.int64)
    lower = np.full(len(eta), 1 << 32, dtype=np.int64)
    odd, swap, t = (np.empty_like(low_f) for _ in range(3))
    wide, wide_t = (np.empty_like(upper) for _ in range(2))
    for _ in range(_STEPS):
        np.bitwise_and(low_g, 1, out=odd)
        np.negative(odd, out=odd)
        np.right_shift(eta, 31, out=swap)
        np.bitwise_and(swap, odd, out=swap)
        # (f/g) = -(g/f) where both are 3 modulo 4.
        np.bitwise_and(low_f, low_g, out=t)
        np.bitwise_and(t, swap, out=t)
        np.bitwise_xor(sign, t, out=sign)
        _swap(low_f, low_g, swap, t)
        np.bitwise_xor(eta, swap, out=eta)
        np.subtract(eta, swap, out=eta)
        eta -= 1
        low_g += np.bitwise_and(low_f, odd, out=t)
        # (2/f) = -1 where f is 3 or 5 modulo 8.
        np.right_shift(low_f, 1, out=t)
        np.bitwise_xor(t, low_f, out=t)
        np.bitwise_xor(sign, t, out=sign)
        low_g >>= 1
        np.copyto(wide, swap)
        _swap(upper, lower, wide, wide_t)
        np.copyto(wide, odd)
        lower += np.bitwise_and(upper, wide, out=wide)
        upper <<= 1
    return _apply(upper.view(np.uint64), f, g), _apply(lower.view(np.uint64), f, g)


def _swap(a: _Signed, b: _Signed, where: _Signed, t: _Signed) -> None:
    np.bitwise_xor(a, b, out=t)
    np.bitwise_and(t, where, out=t)
    np.bitwise_xor(a, t, out=a)
    np.bitwise_xor(b, t, out=b)


def _apply(row: _Words, f: _Words, g: _Words) -> _Words:
    """(u f + v g) / 2^30, which is exact."""
    u, v = row & _LOW, row >> _HIGH
    out = np.empty_like(f)
    carry = (u * f[0] + v * g[0]) >> _SHIFT
    for i in range(1, _LIMBS):
        carry += u * f[i] + v * g[i]
        out[i - 1] = carry & _MASK
        carry >>= _SHIFT
    out[_LIMBS - 1] = carry
    return out
