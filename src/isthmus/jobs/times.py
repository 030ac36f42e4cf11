"""How long a party took from its start to its end, and how much of it went into waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from isthmus.files import write_json
from isthmus.jobs.artefacts import PartyFolder, StepFolder

TIMES = "times.json"
"""Beside the steps' folders: seconds of the whole job here, and of what comes before the steps."""


class Times:
    """The clock of one run of one party.

    Args:
        clock: in seconds; only differences are used.
        began: where it stood at the start; None for now.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, began: float | None = None
    ) -> None:
        self._clock = clock
        self._began = clock() if began is None else began
        self._before: dict[str, float] = {}

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Around waiting for the partners to come."""
        began = self._clock()
        yield
        met = self._clock()
        self._before = {"start": round(began - self._began, 3), "meeting": round(met - began, 3)}

    def save(self, folder: PartyFolder, *, earlier: float = 0.0) -> None:
        """Write what has passed until now, and `earlier` before: steps that were finished then.

        Raises:
            StorageError: it cannot be written.
        """
        seconds = round(self._clock() - self._began + earlier, 3)
        write_json(folder.file(TIMES), {"seconds": seconds, **self._before})


def load_times(folder: PartyFolder) -> dict[str, float]:
    """What `save` wrote: `seconds`, and where partners were waited for `start` and `meeting`.

    Raises:
        StorageError: it cannot be read.
    """
    if not folder.file(TIMES).exists():
        return {}
    found = StepFolder(folder.path).read_json(TIMES)
    return {str(name): float(seconds) for name, seconds in found.items()}
