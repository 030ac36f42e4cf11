"""PFedRec's score function: a private linear layer on the item's row, no user vector."""

from __future__ import annotations

import math

import numpy as np

from isthmus.fedrec.backbones import Backbone, Initial
from isthmus.fedrec.compiled import inlined
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.kernels.local import ROWS_ONLY, USER_ONLY


@inlined
def _gradient(
    want, samples, labels, ids, rows, user, network, extra, g_rows, g_user, g_network, scratch
):
    # user = [w, b]
    dim, loss, grown = user.size - 1, 0.0, 1.0
    zero, one = np.float32(0), np.float32(1)
    share = np.float32(1.0 / len(samples))
    for at in range(len(samples)):
        k = samples[at]
        s = zero
        for j in range(dim):
            s += rows[k, j] * user[j]
        s += user[dim]
        power = np.float32(math.exp(-abs(s)))
        error = ((one if s >= 0 else power) / (one + power) - labels[at]) * share
        if want != ROWS_ONLY:
            for j in range(dim):
                g_user[j] += error * rows[k, j]
            g_user[dim] += error
        if want != USER_ONLY:
            # The loss that counts is that of the second phase.
            loss += max(s, zero) - s * labels[at]
            # One logarithm of a product for many: each factor is at most 2.
            grown *= 1.0 + power  # type: ignore[assignment]
            if at % 512 == 511:
                loss += math.log(grown)
                grown = 1.0
            for j in range(dim):
                g_rows[k, j] += error * user[j]
    return (loss + math.log(grown)) / len(samples)


@inlined
def _exp(x):
    """e^x for x <= 0, float32, to a few units of the last place; branch-free: many at a time."""
    x = max(x, np.float32(-87))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693147181)
    p = np.float32(1.9875691e-4)
    p = p * r + np.float32(1.3981999e-3)
    p = p * r + np.float32(8.3334519e-3)
    p = p * r + np.float32(4.1665796e-2)
    p = p * r + np.float32(1.6666665e-1)
    p = p * r + np.float32(0.5)
    p = p * r * r + r + np.float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@inlined
def _products(samples, rows, user, out):
    dim = user.size - 1
    for at in range(len(samples)):
        k, s = samples[at], np.float32(0)
        for j in range(dim):
            s += rows[k, j] * user[j]
        out[at] = s + user[dim]


@inlined
def _descend(samples, labels, rows, user, rate, user_rate, errors):
    dim, size, loss = user.size - 1, len(samples), 0.0
    zero, one, share = np.float32(0), np.float32(1), np.float32(1.0 / len(samples))
    _products(samples, rows, user, errors)
    total, move = zero, np.float32(user_rate) * share
    for at in range(size):
        s = errors[at]
        power = _exp(-abs(s))
        errors[at] = move * ((one if s >= 0 else power) / (one + power) - labels[at])
        total += errors[at]
    for at in range(size):
        k = samples[at]
        for j in range(dim):
            user[j] -= errors[at] * rows[k, j]
    user[dim] -= total
    _products(samples, rows, user, errors)
    move = np.float32(rate) * share
    for first in range(0, size, 512):
        grown = 1.0
        for at in range(first, min(first + 512, size)):
            s = errors[at]
            power = _exp(-abs(s))
            loss += max(s, zero) - s * labels[at]
            # One logarithm of a product for many: each factor is at most 2.
            grown *= 1.0 + power
            errors[at] = move * ((one if s >= 0 else power) / (one + power) - labels[at])
        loss += math.log(grown)
    for at in range(size):
        k, error = samples[at], errors[at]
        for j in range(dim):
            rows[k, j] -= error * user[j]
    return loss / size


@inlined
def _score(item, row, user, network, extra, scratch):
    s = np.float32(0)
    for j in range(user.size - 1):
        s += row[j] * user[j]
    return s + user[user.size - 1]


def _initial(rng: np.random.Generator, items: int, sizes: Sizes, deviation: float) -> Initial:
    table = rng.standard_normal((items, sizes.shared), np.float32) * np.float32(deviation)
    # PyTorch's start of a linear layer.
    bound = 1 / math.sqrt(sizes.shared)
    user = rng.uniform(-bound, bound, sizes.user).astype(np.float32)
    return Initial(table, np.zeros(0, np.float32), user)


BACKBONE = Backbone(
    "pfedrec", lambda dim: Sizes(dim, 0, dim + 1, 0, 0), _initial, _gradient, _score, _descend
)
