"""The best few directions of a batch: [batch, width] as a product of two narrow matrices.

Vogels, Karimireddy and Jaggi, "PowerSGD", NeurIPS 2019, algorithm 1: one step of subspace iteration
a batch, started from the last batch's result. There the matrix is a weight's gradient, averaged
over workers; here it has one sender, so no product need be linear in it, and the right factor is
made orthonormal rather than the left, which is longer. The error of a batch is not remembered,
since its rows do not come back; what does come back is the basis of the columns, and that is the
guard's state.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isthmus.errors import JobError
from isthmus.link import Array
from isthmus.split.guards.base import Arrays, Floats, Layout, Slot, TensorGuard, finite
from isthmus.split.guards.noise import generator_state, load_generator

_COLD_STEPS = 4
_BASIS = "basis/"


class LowRank(TensorGuard):
    """The projection of a batch's rows on `rank` directions, found by subspace iteration.

    Args:
        rank: directions a tensor, at least 1; a tensor for which that saves nothing is sent whole.
        rng: draws the first basis.
    """

    lossy = True

    def __init__(self, rank: int, rng: np.random.Generator) -> None:
        self.rank = rank
        self._rng = rng
        self._basis: dict[str, Floats] = {}

    def parts(self, rows: int, width: int) -> Layout:
        """See `TensorGuard.parts`."""
        dtype = np.dtype(np.float32)
        if self._whole(rows, width):
            return {"values": Slot(dtype, (rows, width), True)}
        return {
            "left": Slot(dtype, (rows, self.rank), True),
            "right": Slot(dtype, (width, self.rank), True),
        }

    def encode_matrix(self, name: str, x: Floats, learn: bool) -> Arrays:
        """See `TensorGuard.encode_matrix`."""
        width = x.shape[1]
        if self._whole(*x.shape):
            return {"values": x}
        basis = self._basis.get(name)
        if basis is not None and basis.shape != (width, self.rank):
            raise JobError(f"the basis of {name!r} is {basis.shape}, the cut is {width} wide")
        steps = 1
        if basis is None:
            basis, steps = self._draw(width), _COLD_STEPS
        # Divided first: squares of small gradients would vanish in float32, of large ones overflow.
        largest = np.abs(x).max(initial=0.0)
        unit = x / largest if largest > 0 else x
        for _ in range(steps):
            basis = np.linalg.qr(unit.T @ (unit @ basis)).Q
        if learn:
            self._basis[name] = basis
        return {"left": x @ basis, "right": basis}

    def decode_matrix(self, parts: Arrays, rows: int, width: int) -> Array:
        """See `TensorGuard.decode_matrix`."""
        if self._whole(rows, width):
            return parts["values"]
        with np.errstate(over="ignore", invalid="ignore"):
            product: Floats = parts["left"] @ parts["right"].T
        return product

    def state(self) -> Arrays:
        """See `Guard.state`."""
        bases = {_BASIS + name: basis.copy() for name, basis in self._basis.items()}
        return {**bases, "rng": generator_state(self._rng)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        load_generator(self._rng, state.get("rng"))
        bases = {name: basis for name, basis in state.items() if name != "rng"}
        for name, basis in bases.items():
            if not name.startswith(_BASIS) or basis.dtype != np.float32 or not finite(basis):
                raise JobError("a checkpoint holds the state of another guard")
        self._basis = {name[len(_BASIS) :]: basis.copy() for name, basis in bases.items()}

    def reset(self) -> None:
        """See `Guard.reset`."""
        self._basis = {}

    def _draw(self, width: int) -> Floats:
        return self._rng.standard_normal((width, self.rank), dtype=np.float32)

    def _whole(self, rows: int, width: int) -> bool:
        return self.rank >= width or self.rank * (rows + width) >= rows * width
