"""What the server makes of pair sums: weights of what comes after, and of what stands beside."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from isthmus.fedrec.algorithms._pairs import Doubles, Sparse, multiply_into, times
from isthmus.fedrec.algorithms.ease import ease_weights
from isthmus.fedrec.method import Arrays
from isthmus.fedrec.population import Floats

ITERATIONS = 12
"""Of the subspace; more changed no figure."""


class Weights(ABC):
    """S, B and V of ordered pairs, in one of two forms."""

    popular: Floats
    """How many clients have each item, float32 [M]."""
    broad: Floats
    """What `broaden` made, float32 [M, k]."""

    @abstractmethod
    def _together(self, block: Floats) -> Floats:
        """`block` [k, M] times how often items come together, symmetric, its diagonal 0."""

    def broaden(self, components: int, rng: np.random.Generator) -> None:
        """Make `broad`: the leading eigenvectors of D^-1/2 (N + D) D^-1/2, N how often items come
        together and D their counts, by subspace iteration (Halko, Martinsson, Tropp 2011, 4.4).
        """
        inner, _ = self._scales()
        block = rng.standard_normal((min(components, len(inner)), len(inner))).astype(np.float32)
        for _ in range(ITERATIONS):
            step = self._together(block * inner) * inner + block * (inner > 0)
            block = np.linalg.qr(step.T)[0].T
        self.broad = np.ascontiguousarray(block.T, np.float32)

    def around(self, history: Floats) -> Floats:
        """Scores h D^-1/2 V V' D^1/2, float32 [n, M]: what goes with a history by and large."""
        inner, outer = self._scales()
        inside = times((history * inner).astype(np.float32), self.broad)
        return np.asarray(times(inside, np.ascontiguousarray(self.broad.T)) * outer, np.float32)

    def _scales(self) -> tuple[Floats, Floats]:
        outer = np.sqrt(self.popular)
        inner = np.divide(1, outer, out=np.zeros_like(outer), where=outer > 0)
        return inner, outer

    @abstractmethod
    def solve(self, ordered_ridge: float, both_ridge: float) -> None:
        """Make S and B for these ridges; a ridge of 0 leaves that one out."""

    @abstractmethod
    def after(self, history: Floats) -> Floats:
        """Scores h S, float32 [n, M], of decayed histories [n, M]."""

    @abstractmethod
    def beside(self, history: Floats) -> Floats:
        """Scores x B, float32 [n, M], of interaction rows [n, M]."""

    @abstractmethod
    def state(self) -> Arrays:
        """The arrays that `restored` takes."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Numbers of four bytes that a client is told."""

    @property
    @abstractmethod
    def size_tried(self) -> int:
        """The same for another ridge of one part, to a client that judges it."""


class WholeWeights(Weights):
    """Both matrices whole.

    Args:
        ordered: C, float64 [M, M], or empty without order.
        both: G, float64 [M, M], symmetric.
        decay: that of the histories.
    """

    def __init__(self, ordered: Doubles, both: Doubles, decay: float) -> None:
        self._sums = (ordered, both)
        self._decay = decay
        self._solved = (0.0, 0.0)
        self.popular = np.maximum(np.diag(both), 0).astype(np.float32)
        self.s = self.b = self.broad = np.zeros((0, 0), np.float32)

    def _together(self, block: Floats) -> Floats:
        both = self._sums[1]
        return np.asarray(block @ both - block * np.diag(both), np.float32)

    def solve(self, ordered_ridge: float, both_ridge: float) -> None:
        """By factorisation; what was solved for the same ridge before is kept."""
        ordered, both = self._sums
        if both_ridge > 0 and both_ridge != self._solved[1]:
            self.b = ease_weights(both, both_ridge)
        if ordered_ridge > 0 and ordered_ridge != self._solved[0]:
            self.s = next_item_weights(ordered, np.diag(both), self._decay, ordered_ridge)
        self._solved = (ordered_ridge, both_ridge)

    def after(self, history: Floats) -> Floats:
        """Scores h S."""
        return times(history, self.s)

    def beside(self, history: Floats) -> Floats:
        """Scores x B."""
        return times(history, self.b)

    def state(self) -> Arrays:
        """S, B, V and the items' counts."""
        return {"s": self.s, "b": self.b, "popular": self.popular, "broad": self.broad}

    @staticmethod
    def restored(state: Arrays, decay: float) -> WholeWeights:
        """From `state()`, ready to score."""
        out = WholeWeights(np.zeros((0, 0)), np.zeros((0, 0)), decay)
        out.s, out.b, out.popular = state["s"], state["b"], state["popular"]
        out.broad = state["broad"]
        return out

    @property
    def size(self) -> int:
        """S, B and V."""
        return self.s.size + self.b.size + self.broad.size

    @property
    def size_tried(self) -> int:
        """One of the two."""
        return self.b.size


class SparseWeights(Weights):
    """One Jacobi step instead of a solution: rows of the sums, scaled.

    Args:
        pairs: C.
        popular: float32 [M].
        decay: that of the histories.
    """

    def __init__(self, pairs: Sparse, popular: Floats, decay: float) -> None:
        self._pairs, self._turned = pairs, pairs.transposed()
        self._decay = decay
        self._ridges = (0.0, 0.0)
        self.popular = popular
        self.broad = np.zeros((0, 0), np.float32)

    def _together(self, block: Floats) -> Floats:
        return self._times(block, self._pairs, self._turned)

    def solve(self, ordered_ridge: float, both_ridge: float) -> None:
        """The ridges are used as scores are made."""
        self._ridges = (float(ordered_ridge), float(both_ridge))

    def after(self, history: Floats) -> Floats:
        """Scores h diag(popular / (1 - decay^2) + ridge)^-1 C."""
        diagonal = self.popular / (1 - self._decay**2) + self._ridges[0]
        return self._times(history / np.maximum(diagonal, 1e-9), self._pairs)

    def beside(self, history: Floats) -> Floats:
        """Scores x diag(popular + ridge)^-1 (C + C')."""
        scaled = history / np.maximum(self.popular + self._ridges[1], 1e-9)
        return self._times(scaled, self._pairs, self._turned)

    def _times(self, history: Floats, *matrices: Sparse) -> Floats:
        out = np.zeros(history.shape, np.float32)
        for one in matrices:
            multiply_into(out, history.astype(np.float32), one.indptr, one.items, one.values)
        return out

    def state(self) -> Arrays:
        """C by rows, V, the items' counts and the ridges."""
        one = self._pairs
        return {
            "indptr": one.indptr, "items": one.items, "values": one.values,
            "popular": self.popular, "ridges": np.array(self._ridges), "broad": self.broad,
        }  # fmt: skip

    @staticmethod
    def restored(state: Arrays, decay: float) -> SparseWeights:
        """From `state()`, ready to score."""
        pairs = Sparse(state["indptr"], state["items"], state["values"])
        out = SparseWeights(pairs, state["popular"], decay)
        out.solve(float(state["ridges"][0]), float(state["ridges"][1]))
        out.broad = state["broad"]
        return out

    @property
    def size(self) -> int:
        """Item and value of each pair of C, V, and the items' counts."""
        return 2 * len(self._pairs.values) + self.broad.size + len(self.popular)

    @property
    def size_tried(self) -> int:
        """A ridge."""
        return 1


def next_item_weights(ordered: Doubles, popular: Doubles, decay: float, ridge: float) -> Floats:
    """S = (A + ridge I)^-1 C, float32 [M, M], with A made of C and the items' counts."""
    a = decay * (ordered + ordered.T)
    a[np.diag_indices(len(a))] += popular
    a /= 1 - decay**2
    a[np.diag_indices(len(a))] += ridge
    return np.linalg.solve(a, ordered).astype(np.float32)
