"""FedRAP's score function: a private linear layer on a shared row plus a private one.

Rows are [C_i, D_i], the private vector is [w, b]. `extra` holds lambda and mu, or nothing.
"""

from __future__ import annotations

import math

import numpy as np

from isthmus.fedrec.backbones import Backbone, Initial
from isthmus.fedrec.compiled import inlined
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.kernels.local import ROWS_ONLY, USER_ONLY


@inlined
def _apart(samples, rows, g_rows, dim, apart, sparse):
    """Adds the gradient of `-apart mean (D - C)^2 + sparse mean |C|`; returns that value.

    Means over the entries of the samples' rows, a row as often as it is among them.
    """
    value, share = 0.0, np.float32(1.0 / (len(samples) * dim))
    apart, sparse = apart * share, sparse * share
    for k in samples:
        for j in range(dim):
            c, d = rows[k, j], rows[k, dim + j]
            value += sparse * abs(c) - apart * (d - c) * (d - c)
            pull = np.float32(2) * apart * (d - c)
            g_rows[k, dim + j] -= pull
            g_rows[k, j] += pull + sparse * np.sign(c)
    return value


@inlined
def _gradient(
    want, samples, labels, ids, rows, user, network, extra, g_rows, g_user, g_network, scratch
):
    loss, dim = 0.0, user.size - 1
    share = np.float32(1.0 / len(samples))
    for at in range(len(samples)):
        k = samples[at]
        s = np.float32(0)
        for j in range(dim):
            s += (rows[k, j] + rows[k, dim + j]) * user[j]
        s += user[dim]
        power = np.float32(math.exp(-abs(s)))
        loss += max(s, np.float32(0)) - s * labels[at] + math.log1p(power)
        sigma = (np.float32(1) if s >= 0 else power) / (np.float32(1) + power)
        error = (sigma - labels[at]) * share
        if want != ROWS_ONLY:
            for j in range(dim):
                g_user[j] += error * (rows[k, j] + rows[k, dim + j])
            g_user[dim] += error
        if want != USER_ONLY:
            for j in range(dim):
                g_rows[k, j] += error * user[j]
                g_rows[k, dim + j] += error * user[j]
    loss /= len(samples)
    if extra.size > 1 and want != USER_ONLY:
        loss += _apart(samples, rows, g_rows, dim, extra[0], extra[1])
    return loss


@inlined
def _score(item, row, user, network, extra, scratch):
    dim = user.size - 1
    s = np.float32(0)
    for j in range(dim):
        s += (row[j] + row[dim + j]) * user[j]
    return s + user[dim]


def _initial(rng: np.random.Generator, items: int, sizes: Sizes, deviation: float) -> Initial:
    table = rng.standard_normal((items, sizes.shared), np.float32) * np.float32(deviation)
    bound = 1 / math.sqrt(sizes.shared)
    user = rng.uniform(-bound, bound, sizes.user).astype(np.float32)
    return Initial(table, np.zeros(0, np.float32), user)


BACKBONE = Backbone(
    "fedrap", lambda dim: Sizes(dim, dim, dim + 1, 0, 0), _initial, _gradient, _score
)
