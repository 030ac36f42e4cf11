"""CoFedRec's loss: PFedRec's score function, and rows of one group turned to each other.

The private vector is [w, b]. `extra` holds the weight of an anchor, 1 / tau, how many samples
of a batch are contrasted, then the group of each item; or nothing.
"""

from __future__ import annotations

import math

import numpy as np

from isthmus.fedrec.backbones import Backbone, Initial
from isthmus.fedrec.compiled import inlined
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.kernels.local import ROWS_ONLY, USER_ONLY


@inlined
def _directions(samples, rows):
    """The samples' rows at length 1, and one over their lengths."""
    n, width = len(samples), rows.shape[1]
    units, shrink = np.empty((n, width), np.float32), np.empty(n, np.float32)
    for i in range(n):
        square = np.float32(0)
        for c in range(width):
            square += rows[samples[i], c] ** 2
        shrink[i] = np.float32(1 / max(math.sqrt(square), 1e-12))
        for c in range(width):
            units[i, c] = rows[samples[i], c] * shrink[i]
    return units, shrink


@inlined
def _anchor(i, samples, units, group, sharp, by):
    """Puts products of anchor i with the others, over tau, to `by`.

    Returns the log of their summed exponentials less their mean over i's group, that log, and how
    many of its group there are.
    """
    top, mean, partners, all_ = -np.inf, 0.0, 0, 0.0
    for j in range(len(samples)):
        if samples[j] == samples[i]:
            continue
        s = np.float32(0)
        for c in range(units.shape[1]):
            s += units[i, c] * units[j, c]
        by[j] = s * sharp
        top = max(top, by[j])
        if group[j] == group[i]:
            partners += 1
            mean += by[j]
    for j in range(len(samples)):
        if samples[j] != samples[i]:
            all_ += math.exp(by[j] - top)
    if partners == 0:
        return 0.0, 0.0, 0
    whole = top + math.log(all_)
    return whole - mean / partners, whole, partners


@inlined
def _contrast(samples, ids, rows, groups, weight, sharp, g_rows):
    """Adds the gradient of `weight` times the sum over anchors i of
    `log sum_{a != i} exp(e_i.e_a / tau) - mean_{z in Z(i)} e_i.e_z / tau`, e rows at length 1;
    returns that.

    Anchors, their Z(i) (the same group) and all that they are contrasted with are `samples`;
    a sample of the anchor's own item is no partner. Anchors with an empty Z(i) count 0.
    """
    n, width = len(samples), rows.shape[1]
    units, shrink = _directions(samples, rows)
    slopes, by = np.zeros((n, width), np.float32), np.empty(n, np.float32)
    group = groups[ids[samples]]
    total = 0.0
    for i in range(n):
        value, whole, partners = _anchor(i, samples, units, group, sharp, by)
        if partners == 0:
            continue
        total += value
        for j in range(n):
            if samples[j] == samples[i]:
                continue
            share = math.exp(by[j] - whole)
            if group[j] == group[i]:
                share -= 1.0 / partners
            slope = np.float32(share * weight) * sharp
            for c in range(width):
                slopes[i, c] += slope * units[j, c]
                slopes[j, c] += slope * units[i, c]
    for i in range(n):
        along = np.float32(0)
        for c in range(width):
            along += slopes[i, c] * units[i, c]
        for c in range(width):
            g_rows[samples[i], c] += (slopes[i, c] - along * units[i, c]) * shrink[i]
    return total * weight


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
            s += rows[k, j] * user[j]
        s += user[dim]
        power = np.float32(math.exp(-abs(s)))
        loss += max(s, np.float32(0)) - s * labels[at] + math.log1p(power)
        sigma = (np.float32(1) if s >= 0 else power) / (np.float32(1) + power)
        error = (sigma - labels[at]) * share
        if want != ROWS_ONLY:
            for j in range(dim):
                g_user[j] += error * rows[k, j]
            g_user[dim] += error
        if want != USER_ONLY:
            for j in range(dim):
                g_rows[k, j] += error * user[j]
    loss /= len(samples)
    if extra.size > 3 and want != USER_ONLY:
        some = samples[: min(len(samples), int(extra[2]))]
        loss += _contrast(some, ids, rows, extra[3:], extra[0], extra[1], g_rows)
    return loss


@inlined
def _score(item, row, user, network, extra, scratch):
    s = np.float32(0)
    for j in range(user.size - 1):
        s += row[j] * user[j]
    return s + user[user.size - 1]


def _initial(rng: np.random.Generator, items: int, sizes: Sizes, deviation: float) -> Initial:
    table = rng.standard_normal((items, sizes.shared), np.float32) * np.float32(deviation)
    bound = 1 / math.sqrt(sizes.shared)
    user = rng.uniform(-bound, bound, sizes.user).astype(np.float32)
    return Initial(table, np.zeros(0, np.float32), user)


BACKBONE = Backbone(
    "cofedrec", lambda dim: Sizes(dim, 0, dim + 1, 0, 0), _initial, _gradient, _score
)
