"""Small networks for many clients at once: every array has the clients in front, no autograd.

A client's parameters are one row of a matrix [n, P], so that servers mix models as rows. A network
is an extractor (here one dense layer; `convolutions` has another) with what stands behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.images.data import Longs, Reals

Shapes = tuple[tuple[int, ...], ...]
Kept = tuple[NDArray[Any], ...]
"""What an extractor keeps of the way there for the way back."""


@dataclass(frozen=True)
class Extractor(ABC):
    """From images to a representation of `width`."""

    shape: tuple[int, ...]
    """Of an image."""
    width: int

    @property
    def inputs(self) -> int:
        """D."""
        return int(np.prod(self.shape))

    @property
    @abstractmethod
    def shapes(self) -> Shapes:
        """Of the parameters; matrices are [in, out]."""

    @abstractmethod
    def apply(self, parts: Sequence[Reals], x: Reals) -> tuple[Reals, Kept]:
        """The representation of images [n, B, D], float [n, B, width]."""

    @abstractmethod
    def back(self, parts: Sequence[Reals], kept: Kept, error: Reals) -> list[Reals]:
        """Gradients of the parameters, each [n, *shape], from that of the representation."""


@dataclass(frozen=True)
class Dense(Extractor):
    """`relu(x A + a)`."""

    @property
    def shapes(self) -> Shapes:
        """A, a."""
        return (self.inputs, self.width), (self.width,)

    def apply(self, parts: Sequence[Reals], x: Reals) -> tuple[Reals, Kept]:
        """Keeps images and representation."""
        hidden = np.maximum(linear(x, *parts), 0)
        return hidden, (x, hidden)

    def back(self, parts: Sequence[Reals], kept: Kept, error: Reals) -> list[Reals]:
        """By hand, checked against differences in the tests."""
        x, hidden = kept
        error = error * (hidden > 0)
        return [_outer(x, error), error.sum(1)]


@dataclass(frozen=True)
class Network(ABC):
    """An extractor and what gives the logits of C classes."""

    extractor: Extractor
    classes: int

    @property
    @abstractmethod
    def shapes(self) -> Shapes:
        """Of the parameters, in their order in a row; those of the shared part first."""

    @property
    def shared(self) -> int:
        """How many numbers of a row are exchanged; all of them unless a network says otherwise."""
        return self.size

    @property
    def size(self) -> int:
        """P."""
        return _count(self.shapes)

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


def _count(shapes: Shapes) -> int:
    return sum(int(np.prod(one)) for one in shapes)


def _outer(a: Reals, b: Reals) -> Reals:
    """Sum over the batch of outer products: [n, B, i], [n, B, j] to [n, i, j]."""
    return np.asarray(np.einsum("nbi,nbj->nij", a, b))


def linear(x: Reals, weight: Reals, bias: Reals) -> Reals:
    """`x A + a` for each client, [n, B, i] to [n, B, j]."""
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


def _as_rows(parts: Sequence[Reals]) -> Reals:
    """float64 [n, P]."""
    flat = [np.asarray(one, np.float64).reshape(len(one), -1) for one in parts]
    return np.concatenate(flat, axis=1)


@dataclass(frozen=True)
class Plain(Network):
    """An extractor and a linear head: what all methods but pFedMoE train."""

    @property
    def shapes(self) -> Shapes:
        """Extractor, head."""
        return (*self.extractor.shapes, (self.extractor.width, self.classes), (self.classes,))

    def logits(self, rows: Reals, x: Reals) -> Reals:
        """The head of the representation."""
        *parts, c, d = self.parts(rows)
        return linear(self.extractor.apply(parts, x)[0], c, d)

    def gradient(self, rows: Reals, x: Reals, y: Longs) -> tuple[Reals, Reals]:
        """By hand, checked against differences in the tests."""
        *parts, c, d = self.parts(rows)
        hidden, kept = self.extractor.apply(parts, x)
        loss, error = _loss(linear(hidden, c, d), y)
        below = self.extractor.back(parts, kept, np.einsum("nbj,nij->nbi", error, c))
        return loss, _as_rows([*below, _outer(hidden, error), error.sum(1)])


@dataclass(frozen=True)
class Mixture(Network):
    """pFedMoE's: a shared extractor G, a private F, a private gate and a private head.

    `(a_G, a_F) = softmax(gate(x))`, `R = a_G G(x) + a_F F(x)`, `logits = h(R)` (Yi et al. 2024,
    arXiv 2402.01350). The gate is linear, sigmoid, linear; the paper's switchable normalisation
    before it is left out, as inputs are standardised. F has G's shape: clients are alike here.
    """

    gate: int = 16

    @property
    def shapes(self) -> Shapes:
        """G; F, head, gate."""
        one, c, g = self.extractor, self.classes, self.gate
        behind = (one.width, c), (c,), (one.inputs, g), (g,), (g, 2), (2,)
        return (*one.shapes, *one.shapes, *behind)

    @property
    def shared(self) -> int:
        """G's parameters."""
        return _count(self.extractor.shapes)

    def logits(self, rows: Reals, x: Reals) -> Reals:
        """The head of the mixture."""
        g, f, behind = self._split(rows)
        common, own = (self.extractor.apply(one, x)[0] for one in (g, f))
        share = self._gate(behind, x)[1]
        return linear(_mixed(common, own, share), behind[0], behind[1])

    def _split(self, rows: Reals) -> tuple[list[Reals], list[Reals], list[Reals]]:
        """G's parts, F's, and those of head and gate."""
        parts, count = self.parts(rows), len(self.extractor.shapes)
        return parts[:count], parts[count : 2 * count], parts[2 * count :]

    def _gate(self, behind: Sequence[Reals], x: Reals) -> tuple[Reals, Reals]:
        """The gate's hidden units and its two shares."""
        units = 1 / (1 + np.exp(-np.clip(linear(x, behind[2], behind[3]), -50, 50)))
        return units, _softmax(linear(units, behind[4], behind[5]))

    def gradient(self, rows: Reals, x: Reals, y: Longs) -> tuple[Reals, Reals]:
        """By hand, checked against differences in the tests."""
        g, f, behind = self._split(rows)
        common, of_common = self.extractor.apply(g, x)
        own, of_own = self.extractor.apply(f, x)
        units, share = self._gate(behind, x)
        mixed = _mixed(common, own, share)
        loss, error = _loss(linear(mixed, behind[0], behind[1]), y)
        back = np.einsum("nbj,nij->nbi", error, behind[0])
        by_share = np.stack([(back * common).sum(-1), (back * own).sum(-1)], axis=-1)
        by_gate = share * (by_share - (share * by_share).sum(-1, keepdims=True))
        by_units = np.einsum("nbj,nij->nbi", by_gate, behind[4]) * units * (1 - units)
        found = [
            *self.extractor.back(g, of_common, back * share[..., :1]),
            *self.extractor.back(f, of_own, back * share[..., 1:]),
            _outer(mixed, error), error.sum(1), _outer(x, by_units), by_units.sum(1),
            _outer(units, by_gate), by_gate.sum(1),
        ]  # fmt: skip
        return loss, _as_rows(found)


def _mixed(common: Reals, own: Reals, share: Reals) -> Reals:
    return np.asarray(share[..., :1] * common + share[..., 1:] * own)
