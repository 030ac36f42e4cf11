"""Histories of events: for each sample, the newest events that came before it.

The events of all owners lie one behind the other, each owner's oldest first, so that the history of
a sample is a stretch of them and a batch of histories is one gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import DataError


@dataclass(frozen=True, eq=False)
class Histories:
    """The histories of one sequence field, by sample of the agreed order.

    `items` int32 [events] holds rows of the fused table; `start` and `end` int64 [samples] say that
    the events of a sample are `items[start:end]`, the newest last. All may be memory-mapped.

    Raises:
        DataError: shapes or dtypes are others, or a history lies outside the events.
    """

    name: str
    """The field's name in the layout."""
    items: NDArray[np.int32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in (("items", np.int32), ("start", np.int64), ("end", np.int64)):
            array = np.asarray(getattr(self, name))
            object.__setattr__(self, name, array)
            if array.dtype != dtype or array.ndim != 1:
                raise DataError(
                    f"{name} of the history {self.name!r} is {array.dtype} {list(array.shape)}, "
                    f"wanted {np.dtype(dtype)} [n]"
                )
        if len(self.start) != len(self.end) or np.any(self.start > self.end):
            raise DataError(f"the histories {self.name!r} do not end after they start")
        if len(self.end) and (int(self.start.min()) < 0 or int(self.end.max()) > len(self.items)):
            raise DataError(f"the histories {self.name!r} point outside their events")

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.start)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What may lie in memory-mapped files."""
        return self.items, self.start, self.end

    def gather(self, samples: NDArray[np.signedinteger[Any]], width: int) -> NDArray[np.int32]:
        """The newest `width` items before each of `samples` [b]: int32 [b, width].

        Oldest first, the newest in the last column, padding (row 0) in front. The samples are not
        checked: `Features.gather` has done it.
        """
        if not len(self.items):
            return np.zeros((len(samples), width), dtype=np.int32)
        start, end = self.start.take(samples), self.end.take(samples)
        place = end[:, None] - width + np.arange(width)
        items = self.items.take(place, mode="clip")
        items[place < start[:, None]] = 0
        return items
