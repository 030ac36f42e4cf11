"""The client step as plainly as it can be said: one client, one batch, one sample at a time.

Written from the papers' formulas in NumPy float64 with Python integers for the random streams; it
shares no code with the engine. An algorithm's test runs `train_client` for each client and does the
server's part by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
NEGATIVES, SHUFFLE = 1, 2


def mixed(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Stream:
    def __init__(self, seed, purpose, number, client):
        state = mixed((seed + GOLDEN) & MASK)
        for part in (purpose, number, client):
            state = mixed(((state ^ part) + GOLDEN) & MASK)
        self.state = state

    def below(self, bound):
        self.state = (self.state + GOLDEN) & MASK
        return ((mixed(self.state) >> 32) * bound) >> 32


def draw_samples(train, avoid, items, negatives, seed, number, client):
    """(item, label) of a round, in the order in which they are drawn."""
    stream, samples = Stream(seed, NEGATIVES, number, client), []
    wanted = min(negatives, items - len(avoid))
    for item in train:
        samples.append((item, 1.0))
        chosen = []
        while len(chosen) < wanted:
            other = stream.below(items)
            if other not in avoid and other not in chosen:
                chosen.append(other)
        samples += [(other, 0.0) for other in chosen]
    return samples


class Adam:
    def __init__(self, rate, decay=0.0):
        self.rate, self.decay, self.t = rate, decay, 0
        self.m = self.v = 0.0

    def step(self, values, gradient):
        g = gradient + self.decay * values
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return values - self.rate * m / (np.sqrt(v) + 1e-8)


class Sgd:
    def __init__(self, rate, decay=0.0):
        self.rate, self.decay = rate, decay

    def step(self, values, gradient):
        return values - self.rate * (gradient + self.decay * values)


def layers(network, dim):
    """The network of FedNCF: weights [inputs, outputs] and biases."""
    shapes, at, out = [(2 * dim, 16), (16, 8), (8, 1)], 0, []
    for inputs, outputs in shapes:
        w = network[at : at + inputs * outputs].reshape(inputs, outputs)
        at += inputs * outputs
        out.append((w, network[at : at + outputs]))
        at += outputs
    return out


def with_gradient(x, flat, widths):
    """Output of a network of ReLU layers and a linear output, its gradient by `flat` and by `x`."""
    at, values, weights = 0, [x], []
    for n, m in pairwise(widths):
        w, b = flat[at : at + n * m].reshape(n, m), flat[at + n * m : at + (n + 1) * m]
        at += (n + 1) * m
        z = values[-1] @ w + b
        values.append(z if at == len(flat) else np.maximum(z, 0))
        weights.append(w)
    d, parts = np.ones(1), []
    for w, below in zip(weights[::-1], values[-2::-1], strict=True):
        parts = [np.outer(below, d).ravel(), d, *parts]
        d = (w @ d) * ((below > 0) if below is not x else 1)
    return values[-1][0], np.concatenate(parts), d


def sigma(z):
    return 1 / (1 + math.exp(-z))


def score(kind, row, user, network, extra=(), item=0):
    half = len(row) // 2
    if kind == "fcf":
        return row @ user
    if kind == "fedrap":
        return (row[:half] + row[half:]) @ user[:-1] + user[-1]
    if kind == "gpfedrec":
        d = len(row)
        x = np.concatenate([user[:d], row])
        return with_gradient(x, user[d:], (2 * d, d, d // 2, d // 4, 1))[0]
    if kind == "fedem":
        own, apart = row[:half], row[half:] - row[:half]
        if not user[-1]:
            return own @ user[:half]
        x = np.concatenate([own, apart])
        rho = sigma(with_gradient(x, user[half:-1], (2 * half, 16, 8, 1))[0])
        return (own + rho * apart) @ user[:half]
    if kind == "pfedmoe":
        gate = user[half] + user[half + 1] * extra[1 + item] + user[half + 2 :] @ row[:half]
        return (row[:half] + (1 - sigma(gate)) * row[half:]) @ user[:half]
    if kind in ("pfedrec", "cofedrec"):
        return row @ user[:-1] + user[-1]
    x = np.concatenate([user, row])
    (w1, b1), (w2, b2), (w3, b3) = layers(network, len(row))
    a1 = np.maximum(x @ w1 + b1, 0)
    a2 = np.maximum(a1 @ w2 + b2, 0)
    return (a2 @ w3 + b3)[0]


def gradients(kind, row, user, network, error, extra=(), item=0):
    """Of the score times `error`, with respect to row, user and network."""
    half, none = len(row) // 2, np.zeros(0)
    if kind == "fcf":
        return error * user, error * row, none
    if kind == "fedrap":
        w = error * user[:-1]
        return np.tile(w, 2), error * np.append(row[:half] + row[half:], 1.0), none
    if kind == "gpfedrec":
        d = len(row)
        x = np.concatenate([user[:d], row])
        _, by_net, by_x = with_gradient(x, user[d:], (2 * d, d, d // 2, d // 4, 1))
        return error * by_x[d:], error * np.concatenate([extra[0] * by_x[:d], by_net]), none
    if kind == "fedem":
        own, apart, p = row[:half], row[half:] - row[:half], user[:half]
        flat = np.zeros(len(user) - half)
        if not user[-1]:
            return error * np.append(p, 0 * p), error * np.append(own, flat), none
        x = np.concatenate([own, apart])
        z, by_net, by_x = with_gradient(x, user[half:-1], (2 * half, 16, 8, 1))
        rho = sigma(z)
        by_z = (p @ apart) * rho * (1 - rho)
        by_row = (1 - rho) * p + by_z * (by_x[:half] - by_x[half:])
        by_user = [own + rho * apart, by_z * by_net, [0.0]]
        return error * np.append(by_row, 0 * p), error * np.concatenate(by_user), none
    if kind == "pfedmoe":
        shared, own, p, g = row[:half], row[half:], user[:half], user[half + 2 :]
        b = 1 - sigma(user[half] + user[half + 1] * extra[1 + item] + g @ shared)
        by_z = -(p @ own) * b * (1 - b)
        by_user = [shared + b * own, [by_z, by_z * extra[1 + item]], by_z * shared]
        return (
            error * np.append(p + by_z * g, b * p), error * np.concatenate(by_user), none
        )  # fmt: skip
    if kind in ("pfedrec", "cofedrec"):
        return error * user[:-1], error * np.append(row, 1.0), np.zeros(0)
    x = np.concatenate([user, row])
    (w1, b1), (w2, b2), (w3, _) = layers(network, len(row))
    z1 = x @ w1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ w2 + b2
    a2 = np.maximum(z2, 0)
    d2 = error * w3[:, 0] * (z2 > 0)
    d1 = (w2 @ d2) * (z1 > 0)
    parts = [np.outer(x, d1), d1, np.outer(a1, d2), d2, error * a2, [error]]
    dx = w1 @ d1
    return dx[len(user) :], dx[: len(user)], np.concatenate([np.ravel(one) for one in parts])


def penalty(kind, table, ids, batch, extra):
    """What is added to a batch's loss, and its gradient by the table."""
    half, none = table.shape[1] // 2, np.zeros_like(table)
    if not len(extra):
        return 0.0, none
    if kind == "fedrap":
        value, entries = 0.0, len(batch) * half
        for item, _ in batch:
            c, apart = table[item, :half], table[item, half:] - table[item, :half]
            value += (extra[1] * np.abs(c).sum() - extra[0] * (apart**2).sum()) / entries
            none[item, :half] += (2 * extra[0] * apart + extra[1] * np.sign(c)) / entries
            none[item, half:] -= 2 * extra[0] * apart / entries
        return value, none
    if kind == "pfedmoe":
        none[ids, half:] = extra[0] * table[ids, half:]
        return extra[0] / 2 * (table[ids, half:] ** 2).sum(), none
    if kind == "cofedrec":
        some = [item for item, _ in batch[: int(extra[2])]]
        # By differences: slow, but nothing can be derived wrongly.
        for item in set(some):
            for j in range(table.shape[1]):
                up, down = table.copy(), table.copy()
                up[item, j] += 1e-6
                down[item, j] -= 1e-6
                none[item, j] = (contrast(up, some, extra) - contrast(down, some, extra)) / 2e-6
        return contrast(table, some, extra), none
    return 0.0, none


def contrast(table, some, extra):
    """CoFedRec's supervised contrastive term over the samples `some`."""
    groups, total = extra[3:], 0.0
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    for item in some:
        others = [other for other in some if other != item]
        by = {o: table[item] @ table[o] * extra[1] for o in others}
        own = [by[o] for o in others if groups[o] == groups[item]]
        if own:
            total += math.log(sum(math.exp(by[o]) for o in others)) - np.mean(own)
    return extra[0] * total


@dataclass
class Client:
    items: np.ndarray
    """[M, d], its whole table."""
    user: np.ndarray
    network: np.ndarray
    touched: dict = field(default_factory=dict)
    """Item to how often it was among the samples."""
    loss: float = 0.0


def train_client(
    kind, training, train, avoid, start, *, seed, number, client, reference=None, pull=(0.0, 0.0),
    extra=(),
):  # fmt: skip
    """One client's round from `start` (a Client); the result is a new one.

    Private rows stand behind the shared ones in `start.items`; `extra` as the engine's.

    `reference` is a pair of table and network; `pull` is (keep, to) of the engine's `Reference`.
    """
    table, user, network = (
        np.array(one, np.float64) for one in (start.items, start.user, start.network)
    )
    if reference is not None:
        reference = tuple(np.array(one, np.float64) for one in reference)
    drawn_in = 0 if training.negatives_kept else number
    samples = draw_samples(train, avoid, len(table), training.negatives, seed, drawn_in, client)
    touched = {}
    for item, _ in samples:
        touched[item] = touched.get(item, 0) + 1
    kind_of = Adam if training.optimiser == "adam" else Sgd
    of_rows = kind_of(training.rate, training.decay)
    of_user = kind_of(training.user_rate, training.decay)
    of_network = kind_of(training.network_rate, training.network_decay)
    ids = sorted(touched)
    stream = Stream(seed, SHUFFLE, number, client)
    total, seen, means = 0.0, 0, []
    for _ in range(training.epochs if samples else 0):
        for i in range(len(samples) - 1, 0, -1):
            j = stream.below(i + 1)
            samples[i], samples[j] = samples[j], samples[i]
        for at in range(0, len(samples), training.batch):
            batch = samples[at : at + training.batch]
            for want in ("user", "rows") if training.alternate else ("both",):
                g_rows, g_user = np.zeros_like(table), np.zeros_like(user)
                g_network, loss = np.zeros_like(network), 0.0
                for item, label in batch:
                    s = score(kind, table[item], user, network, extra, item)
                    probability = 1 / (1 + math.exp(-s))
                    loss -= math.log(probability if label else 1 - probability) / len(batch)
                    error = (probability - label) / len(batch)
                    dq, du, dn = gradients(kind, table[item], user, network, error, extra, item)
                    g_rows[item] += dq
                    g_user += du
                    g_network += dn
                if want != "user":
                    more, by_table = penalty(kind, table, ids, batch, extra)
                    loss, g_rows = loss + more, g_rows + by_table
                if reference is not None:
                    g_rows[ids] += pull[0] * table[ids] - pull[1] * reference[0][ids]
                    g_network += pull[0] * network - pull[1] * reference[1]
                if want != "rows":
                    user = of_user.step(user, g_user)
                    network = of_network.step(network, g_network)
                if want != "user":
                    table = table.copy()
                    moved = of_rows.step(table, g_rows)
                    table[ids] = moved[ids]
            total += loss * len(batch)
            seen += len(batch)
        means.append(total / seen)
        if len(means) > 1:
            change = abs(means[-1] - means[-2]) / abs(means[-2] + 1e-5)
            if change < training.tolerance:
                break
    return Client(table, user, network, touched, means[-1] if means else 0.0)
