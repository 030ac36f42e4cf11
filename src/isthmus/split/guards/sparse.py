"""A part of each row: its largest values, or columns drawn at random.

What is not sent may be remembered and added later (error feedback: Seide et al., "1-bit stochastic
gradient descent", Interspeech 2014; Stich, Cordonnier and Jaggi, "Sparsified SGD with memory",
NeurIPS 2018, algorithm 1; Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019). Those
memories are keyed by the parameter. A cut has none: its rows are other samples in each batch. What
stays from batch to batch is a column, so the memory is the mean error of each column, [width]: the
mean over the samples of what arrives then follows the mean of what was meant, which is the gradient
of the partner's last bias, and no row's error is charged to another sample in full. A memory for
each sample is as large as the cut of the whole table and an epoch old when it is used. The
measurements are in `docs/guards.md`; activations are better off without any memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from isthmus.errors import JobError
from isthmus.link import Array
from isthmus.split.guards.base import Arrays, Floats, Layout, Slot, TensorGuard
from isthmus.split.guards.noise import generator_state, load_generator
from isthmus.split.guards.packing import Indices, columns_bytes, pack_columns, unpack_columns

_MEMORY = "memory/"


class _Sparse(TensorGuard):
    """What top-k and random-k share: the memory, and when all of a matrix is sent."""

    lossy = True

    def __init__(self, rate: float, *, feedback: bool) -> None:
        self.rate = rate
        self.feedback = feedback
        self._memory: dict[str, Floats] = {}

    def kept(self, width: int) -> int:
        """Values sent of a row of `width`: at least one."""
        return min(width, max(1, round(self.rate * width)))

    @abstractmethod
    def address(self, rows: int, width: int) -> Layout:
        """What says which columns are sent."""

    @abstractmethod
    def select(self, x: Floats, kept: int) -> tuple[Arrays, Indices]:
        """The content of `address`, and the columns int64 [rows, kept]."""

    @abstractmethod
    def selected(self, parts: Arrays, rows: int, width: int) -> Indices:
        """The columns that a partner selected, int64 [rows, kept], all below `width`."""

    def factor(self, width: int) -> np.float32:
        """What the values sent are multiplied with."""
        del width
        return np.float32(1.0)

    def parts(self, rows: int, width: int) -> Layout:
        """See `TensorGuard.parts`."""
        if self._whole(rows, width):
            return {"values": Slot(np.dtype(np.float32), (rows, width), True)}
        values = Slot(np.dtype(np.float32), (rows, self.kept(width)), True)
        return {"values": values, **self.address(rows, width)}

    def encode_matrix(self, name: str, x: Floats, learn: bool) -> Arrays:
        """See `TensorGuard.encode_matrix`."""
        rows, width = x.shape
        if self._whole(rows, width):
            return {"values": x}
        remember = self.feedback and learn
        if remember and name in self._memory:
            x = x + self._recall(name, width)
        address, columns = self.select(x, self.kept(width))
        values = np.take_along_axis(x, columns, 1) * self.factor(width)
        if remember and rows:
            self._memory[name] = (x - _scatter(values, columns, width)).mean(0)
        return {"values": values, **address}

    def decode_matrix(self, parts: Arrays, rows: int, width: int) -> Array:
        """See `TensorGuard.decode_matrix`."""
        if self._whole(rows, width):
            return parts["values"]
        return _scatter(parts["values"], self.selected(parts, rows, width), width)

    def state(self) -> Arrays:
        """See `Guard.state`."""
        return {_MEMORY + name: memory.copy() for name, memory in self._memory.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        for name, memory in state.items():
            if not name.startswith(_MEMORY) or memory.dtype != np.float32 or memory.ndim != 1:
                raise JobError("a checkpoint holds the state of another guard")
        self._memory = {name[len(_MEMORY) :]: memory.copy() for name, memory in state.items()}

    def reset(self) -> None:
        """See `Guard.reset`."""
        self._memory = {}

    def _whole(self, rows: int, width: int) -> bool:
        """Whether the matrix is sent as it is, because that takes no more bytes."""
        sparse = 4 * rows * self.kept(width)
        sparse += sum(slot.nbytes for slot in self.address(rows, width).values())
        return sparse >= 4 * rows * width

    def _recall(self, name: str, width: int) -> Floats:
        memory = self._memory[name]
        if memory.shape != (width,):
            raise JobError(f"the memory of {name!r} is {len(memory)} wide, the cut is {width}")
        return memory


class TopK(_Sparse):
    """The values of each row that are largest by magnitude.

    Args:
        rate: the part of a row that is sent, in (0, 1).
        feedback: remember the mean error of each column and add it to the next batch: right for
            gradients, wrong for activations.
    """

    def address(self, rows: int, width: int) -> Layout:
        """See `_Sparse.address`."""
        size = columns_bytes(rows, width, self.kept(width))
        return {"columns": Slot(np.dtype(np.uint8), (size,))}

    def select(self, x: Floats, kept: int) -> tuple[Arrays, Indices]:
        """See `_Sparse.select`."""
        width = x.shape[1]
        columns = np.argpartition(np.abs(x), width - kept, 1)[:, width - kept :]
        columns.sort(1)
        return {"columns": pack_columns(columns, width)}, columns

    def selected(self, parts: Arrays, rows: int, width: int) -> Indices:
        """See `_Sparse.selected`."""
        return unpack_columns(parts["columns"], rows, width, self.kept(width))


class RandomK(_Sparse):
    """Columns drawn anew for each row; only a seed says which.

    A row's columns follow each other, from a random start, in an order of the columns drawn for the
    batch. So each value is sent with the probability kept / width, and a batch costs one
    permutation and a number a row.

    Args:
        rate: the part of a row that is sent, in (0, 1).
        rng: draws the seeds. They are sent: it must be this guard's own.
        unbiased: send the values times width / kept, so that the mean is right. Their variance is
            then larger: right for gradients, wrong for activations.
        feedback: as for `TopK`; not together with `unbiased`.
    """

    def __init__(
        self,
        rate: float,
        rng: np.random.Generator,
        *,
        unbiased: bool = False,
        feedback: bool = False,
    ) -> None:
        if unbiased and feedback:
            raise JobError("random-k is either unbiased or has a memory")
        super().__init__(rate, feedback=feedback)
        self.unbiased = unbiased
        self._rng = rng

    def factor(self, width: int) -> np.float32:
        """See `_Sparse.factor`."""
        return np.float32(width / self.kept(width) if self.unbiased else 1.0)

    def address(self, rows: int, width: int) -> Layout:
        """See `_Sparse.address`."""
        return {"seed": Slot(np.dtype(np.uint64), (1,))}

    def select(self, x: Floats, kept: int) -> tuple[Arrays, Indices]:
        """See `_Sparse.select`."""
        seed = self._rng.integers(2**64, size=1, dtype=np.uint64)
        rows, width = x.shape
        return {"seed": seed}, _drawn(int(seed[0]), rows, width, kept)

    def selected(self, parts: Arrays, rows: int, width: int) -> Indices:
        """See `_Sparse.selected`."""
        return _drawn(int(parts["seed"][0]), rows, width, self.kept(width))

    def state(self) -> Arrays:
        """See `Guard.state`."""
        return {**super().state(), "rng": generator_state(self._rng)}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        load_generator(self._rng, state.get("rng"))
        super().load_state({name: array for name, array in state.items() if name != "rng"})


def _drawn(seed: int, rows: int, width: int, kept: int) -> Indices:
    # Raw output alone: numpy keeps that of a bit generator the same for ever, unlike what its
    # distributions make of it, and partners may run different versions.
    raw: npt.NDArray[np.uint64] = np.random.Philox(key=seed).random_raw(width + rows)
    # Stable, so that equal numbers cannot make two orders.
    order = np.argsort(raw[:width], kind="stable")
    start = (raw[width:] % np.uint64(width)).astype(np.int64)
    columns: Indices = order[(start[:, None] + np.arange(kept)) % width]
    return columns


def _scatter(values: Array, columns: Indices, width: int) -> Floats:
    full = np.zeros((len(values), width), np.float32)
    np.put_along_axis(full, columns, values, 1)
    return full
