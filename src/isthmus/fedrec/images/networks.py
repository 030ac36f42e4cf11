"""Small networks for many clients at once: every array has the clients in front, no autograd.

A client's parameters are one row of a matrix [n, P], so that servers mix models as rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from isthmus.fedrec.images.data import Longs, Reals


@dataclass(frozen=True)
class Network(ABC):
    """D inputs, a representation of `width`, C classes."""

    inputs: int
    width: int
    classes: int

    @property
    @abstractmethod
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the parameters, in their order in a row; those of the shared part first."""

    @property
    def shared(self) -> int:
        """How many numbers of a row are exchanged; all of them unless a network says otherwise."""
        return self.size

    @property
    def size(self) -> int:
        """P."""
        return sum(int(np.prod(one)) for one in self.shapes)

    def initial(self, rng: np.random.Generator) -> Reals:
        """One row: He's start for matrices, zeros for biases, float64 [P]."""
        parts = [
            rng.normal(0, np.sqrt(2 / one[0]), one).ravel() if len(one) == 2 else np.zeros(one)
            for one in self.shapes
        ]
        return np.concatenate(parts)

    def parts(self, rows: Reals) -> list[Reals]:
        """Views of the parameters, each [n, *shape]."""
        out, at = [], 0
        for shape in self.shapes:
            end = at + int(np.prod(shape))
            out.append(rows[:, at:end].reshape(len(rows), *shape))
            at = end
        return out

    @abstractmethod
    def logits(self, rows: Reals, x: Reals) -> Reals:
        """float64 [n, B, C] for images [n, B, D]."""

    @abstractmethod
    def gradient(self, rows: Reals, x: Reals, y: Longs) -> tuple[Reals, Reals]:
        """Mean cross-entropy of each client, [n], and its gradient, [n, P]; y int64 [n, B]."""


def _outer(a: Reals, b: Reals) -> Reals:
    """Sum over the batch of outer products: [n, B, i], [n, B, j] to [n, i, j]."""
    return np.asarray(np.einsum("nbi,nbj->nij", a, b))


def _linear(x: Reals, weight: Reals, bias: Reals) -> Reals:
    return np.asarray(np.einsum("nbi,nij->nbj", x, weight) + bias[:, None])


def _softmax(logits: Reals) -> Reals:
    power = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(power / power.sum(axis=-1, keepdims=True))


def _loss(logits: Reals, y: Longs) -> tuple[Reals, Reals]:
    """Mean cross-entropy [n] and its gradient by the logits."""
    sure = _softmax(logits)
    picked = np.take_along_axis(sure, y[..., None], axis=-1)[..., 0]
    error = sure
    np.put_along_axis(error, y[..., None], picked[..., None] - 1, axis=-1)
    loss = -np.log(np.maximum(picked, 1e-300)).mean(axis=1)
    return np.asarray(loss), error / y.shape[1]


@dataclass(frozen=True)
class Mlp(Network):
    """`h(relu(x A + a))`, an extractor and a head: what all methods but pFedMoE train."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Extractor, head."""
        d, r, c = self.inputs, self.width, self.classes
        return (d, r), (r,), (r, c), (c,)

    def logits(self, rows: Reals, x: Reals) -> Reals:
        """The head of the representation."""
        a, b, c, d = self.parts(rows)
        return _linear(np.maximum(_linear(x, a, b), 0), c, d)

    def gradient(self, rows: Reals, x: Reals, y: Longs) -> tuple[Reals, Reals]:
        """By hand, checked against differences in the tests."""
        a, b, c, d = self.parts(rows)
        hidden = np.maximum(_linear(x, a, b), 0)
        loss, error = _loss(_linear(hidden, c, d), y)
        back = np.einsum("nbj,nij->nbi", error, c) * (hidden > 0)
        found = [_outer(x, back), back.sum(1), _outer(hidden, error), error.sum(1)]
        return loss, np.concatenate([one.reshape(len(rows), -1) for one in found], axis=1)


@dataclass(frozen=True)
class Mixture(Network):
    """pFedMoE's: a shared extractor G, a private F, a private gate and a private head.

    `(a_G, a_F) = softmax(gate(x))`, `R = a_G G(x) + a_F F(x)`, `logits = h(R)` (Yi et al. 2024,
    arXiv 2402.01350). The gate is linear, sigmoid, linear; the paper's switchable normalisation
    before it is left out, as inputs are standardised. F has G's shape: clients are alike here.
    """

    gate: int = 16

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """G; F, head, gate."""
        d, r, c, g = self.inputs, self.width, self.classes, self.gate
        return (d, r), (r,), (d, r), (r,), (r, c), (c,), (d, g), (g,), (g, 2), (2,)

    @property
    def shared(self) -> int:
        """G's parameters."""
        return self.inputs * self.width + self.width

    def logits(self, rows: Reals, x: Reals) -> Reals:
        """The head of the mixture."""
        c, d = self.parts(rows)[4:6]
        return _linear(self._mixed(rows, x)[-1], c, d)

    def _mixed(self, rows: Reals, x: Reals) -> tuple[Reals, Reals, Reals, Reals, Reals]:
        """G(x), F(x), the gate's hidden units, its two shares, R."""
        p = self.parts(rows)
        common, own = np.maximum(_linear(x, p[0], p[1]), 0), np.maximum(_linear(x, p[2], p[3]), 0)
        units = 1 / (1 + np.exp(-np.clip(_linear(x, p[6], p[7]), -50, 50)))
        share = _softmax(_linear(units, p[8], p[9]))
        return common, own, units, share, share[..., :1] * common + share[..., 1:] * own

    def gradient(self, rows: Reals, x: Reals, y: Longs) -> tuple[Reals, Reals]:
        """By hand, checked against differences in the tests."""
        p = self.parts(rows)
        common, own, units, share, mixed = self._mixed(rows, x)
        loss, error = _loss(_linear(mixed, p[4], p[5]), y)
        back = np.einsum("nbj,nij->nbi", error, p[4])
        to_common = back * share[..., :1] * (common > 0)
        to_own = back * share[..., 1:] * (own > 0)
        by_share = np.stack([(back * common).sum(-1), (back * own).sum(-1)], axis=-1)
        by_gate = share * (by_share - (share * by_share).sum(-1, keepdims=True))
        by_units = np.einsum("nbj,nij->nbi", by_gate, p[8]) * units * (1 - units)
        found = [
            _outer(x, to_common), to_common.sum(1), _outer(x, to_own), to_own.sum(1),
            _outer(mixed, error), error.sum(1), _outer(x, by_units), by_units.sum(1),
            _outer(units, by_gate), by_gate.sum(1),
        ]  # fmt: skip
        return loss, np.concatenate([one.reshape(len(rows), -1) for one in found], axis=1)
