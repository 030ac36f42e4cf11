"""Which samples a step takes, the same at every party, and their preparation one batch ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from isthmus.data.features import Features
from isthmus.models.batch import FeatureBatch, RowReader, make_batch
from isthmus.session import Session

Samples = npt.NDArray[np.int64]


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

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, samples: Samples, *, backward: bool) -> FeatureBatch:
        """See `PartyData.batch`."""
        index, values = self.features.gather(samples)
        layout, readers = self.features.layout, self._readers
        return make_batch(layout, index, values, backward=backward, readers=readers)


def epoch_batches(session: Session, rows: Samples, epoch: int, size: int) -> list[Samples]:
    """The batches of one epoch: `rows` in an order that all parties draw alike."""
    order = session.shared_rng("epoch", epoch).permutation(rows)
    return in_order(order, size)


def in_order(rows: Samples, size: int) -> list[Samples]:
    """`rows` cut into batches of `size`; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Feed:
    """The batches of one epoch, prepared ahead while the party would else wait for its partner."""

    def __init__(self, data: Sequence[PartyData], batches: Sequence[Samples]) -> None:
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
