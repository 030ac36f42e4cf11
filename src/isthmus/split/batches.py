"""Which samples a step takes, the same at every party, and their preparation one batch ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, overload
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from isthmus.data.arrays import MappedPages
from isthmus.data.features import Features
from isthmus.data.split import Positions
from isthmus.models.batch import FeatureBatch, RowReader, make_batch
from isthmus.session import Session

Samples = npt.NDArray[np.int64]
WINDOW = 1 << 20
"""Rows permuted together."""
BLOCK = 1 << 10
"""Neighbours in the aligned order that are permuted in the same window."""


class PartyData(Protocol):
    """A party's inputs: anything that can make a batch for given samples of the aligned order."""

    def __len__(self) -> int:
        """Number of aligned samples."""

    def batch(self, samples: Samples, *, backward: bool) -> Any:
        """What the bottom model takes for `samples`; `backward` if a backward pass will follow."""


class FeatureData:
    """Encoded features as `PartyData`."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self._readers: WeakSet[RowReader] = WeakSet()
        histories = [array for history in features.histories for array in history.arrays]
        self._pages = MappedPages([features.index, features.values, *histories])

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, samples: Samples, *, backward: bool) -> FeatureBatch:
        """See `PartyData.batch`."""
        index, values = self.features.gather(samples)
        self._pages.touched(len(samples))
        layout, readers = self.features.layout, self._readers
        return make_batch(layout, index, values, backward=backward, readers=readers)


class EpochOrder:
    """All of `rows` in an order that every party draws alike, made piece by piece.

    Up to `window` rows are permuted as a whole. More are cut into blocks of neighbours; the blocks
    are permuted, and each window of them is permuted row by row when its turn comes: a hierarchical
    shuffle (Xu et al., "In-Database Machine Learning with CorgiPile", SIGMOD 2022), which reads a
    file in stretches and keeps no permutation of all rows. Where the order of the rows tells
    nothing about them, as in an aligned order, its batches are like those of a full shuffle.

    Args:
        session: draws the order.
        rows: positions, ascending.
        epoch: whose order it is.
        window: rows permuted together; a multiple of `block`.
        block: neighbours that stay in one window.
    """

    def __init__(
        self,
        session: Session,
        rows: Positions,
        epoch: int,
        *,
        window: int = WINDOW,
        block: int = BLOCK,
    ) -> None:
        self._session, self._rows, self._epoch = session, rows, epoch
        self._block, self._window = block, window
        self._made: dict[int, Samples] = {}
        if len(rows) <= window:
            self._starts = np.array([0, len(rows)])
            return
        count = -(-len(rows) // block)
        self._blocks = session.shared_rng("epoch", epoch).permutation(count)
        sizes = np.full(count, block)
        sizes[self._blocks == count - 1] = len(rows) - (count - 1) * block
        ends = np.cumsum(sizes)
        last = np.arange(window // block, count, window // block) - 1
        self._starts = np.concatenate(([0], ends[last], [len(rows)]))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def between(self, start: int, stop: int) -> Samples:
        """The rows from place `start` to before place `stop` of the order, int64."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        offset = int(self._starts[first])
        if stop <= self._starts[first + 1]:
            return self._piece(first)[start - offset : stop - offset]
        edge = int(self._starts[first + 1])
        return np.concatenate([self.between(start, edge), self.between(edge, stop)])

    def _piece(self, number: int) -> Samples:
        made = self._made.get(number)
        if made is None:
            # Whoever prepares is ahead of whoever counts: two windows are in use at a border.
            while len(self._made) > 1:
                del self._made[next(iter(self._made))]
            made = self._made[number] = self._make(number)
        return made

    def _make(self, number: int) -> Samples:
        names: tuple[object, ...] = ("epoch", self._epoch)
        rows = self._rows
        if len(rows) > self._window:
            per = self._window // self._block
            names = (*names, "window", number)
            blocks = self._blocks[number * per : (number + 1) * per].tolist()
            rows = np.concatenate([rows[b * self._block : (b + 1) * self._block] for b in blocks])
        return self._session.shared_rng(*names).permutation(rows).astype(np.int64, copy=False)


class Batches(Sequence[Samples]):
    """The batches of an epoch, each made when it is asked for.

    Args:
        order: of the epoch.
        size: samples a batch; the last may be shorter.
        numbers: which of the batches; None for all.
    """

    def __init__(self, order: EpochOrder, size: int, numbers: range | None = None) -> None:
        self._order, self._size = order, size
        self._numbers = range(-(-len(order) // size)) if numbers is None else numbers

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._numbers)

    @property
    def samples(self) -> int:
        """Rows in all of them; none is made for it."""
        if not self._numbers:
            return 0
        end = min(self._numbers[-1] * self._size + self._size, len(self._order))
        return end - self._numbers[0] * self._size

    @overload
    def __getitem__(self, at: int) -> Samples: ...
    @overload
    def __getitem__(self, at: slice) -> Batches: ...
    def __getitem__(self, at: int | slice) -> Samples | Batches:
        """A batch, int64 [size], or a stretch of them."""
        if isinstance(at, slice):
            return Batches(self._order, self._size, self._numbers[at])
        start = self._numbers[at] * self._size
        return self._order.between(start, min(start + self._size, len(self._order)))


def count_samples(batches: Sequence[Samples]) -> int:
    """Rows in all batches."""
    return batches.samples if isinstance(batches, Batches) else sum(map(len, batches))


def epoch_batches(session: Session, rows: Positions, epoch: int, size: int) -> Batches:
    """The batches of one epoch: `rows` in an order that all parties draw alike."""
    return Batches(EpochOrder(session, rows, epoch), size)


def in_order(rows: Positions, size: int) -> list[Samples]:
    """`rows` cut into batches of `size`; the last may be shorter."""
    pieces = (rows[start : start + size] for start in range(0, len(rows), size))
    return [piece.astype(np.int64, copy=False) for piece in pieces]


class Feed:
    """The batches of one epoch, prepared ahead while the party would else wait for its partner."""

    def __init__(self, data: Sequence[PartyData], batches: Iterable[Samples]) -> None:
        self._data = data
        self._left: Iterator[Samples] = iter(batches)
        self._ready: deque[tuple[Samples, list[Any]]] = deque()

    def prepare(self) -> None:
        """Make one more batch ready, if any is left."""
        samples = next(self._left, None)
        if samples is not None:
            made = [data.batch(samples, backward=True) for data in self._data]
            self._ready.append((samples, made))

    def skip(self, count: int) -> None:
        """Leave the next `count` batches out."""
        for _ in range(count):
            if self._ready:
                self._ready.popleft()
            else:
                next(self._left, None)

    def take(self) -> tuple[Samples, list[Any]]:
        """The next samples and the batch of each data set."""
        if not self._ready:
            self.prepare()
        return self._ready.popleft()
