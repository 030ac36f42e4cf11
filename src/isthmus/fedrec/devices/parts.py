"""A part of a population: some clients with their interactions alone, as a file for their process.

Everything else that a shard knows of the population are the facts that all agree on: how many items
and clients there are, and how held-out items were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from isthmus.errors import DataError
from isthmus.fedrec.method import Arrays
from isthmus.fedrec.population import NONE, Interactions, Ints, Longs, Population, Ragged
from isthmus.fedrec.protocols import EvalProtocol, make_task
from isthmus.fedrec.task import Task
from isthmus.files import replacing, write_json

ENDING = ".part"
MOST_CLIENTS = 1 << 31
MOST_ITEMS = 1 << 30


class Census(BaseModel):
    """What is known of a population without any of its interactions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: str = Field(max_length=200)
    clients: int = Field(ge=1, le=MOST_CLIENTS)
    """U; clients are numbered 0 .. U - 1, and not all of them need ever come."""
    items: int = Field(ge=2, le=MOST_ITEMS)
    interactions: int = Field(ge=0)
    seed: int = Field(ge=0)
    """Of the choice of held-out items, and of the run."""
    file_order: bool
    leaks: bool
    """Both as in `EvalProtocol`."""
    timed: bool | None = None
    """Whether interactions have times, so that all know what came first; None: it is not said."""

    @staticmethod
    def of(data: Interactions, rules: EvalProtocol, seed: int) -> Census:
        """The census of a data set that is judged under `rules`."""
        return Census(
            name=data.name, clients=data.users, items=data.items, interactions=len(data.user),
            seed=seed, file_order=rules.file_order, leaks=rules.leaks,
            timed=data.order == "time",
        )  # fmt: skip

    @staticmethod
    def load(path: Path) -> Census:
        """What `save` wrote.

        Raises:
            DataError: the file is missing, or no census.
        """
        try:
            return Census.model_validate_json(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} is no census of a population", mend="`isthmus fedrec split` makes one."
            ) from error

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.model_dump())


@dataclass(frozen=True, eq=False)
class Part:
    """Some clients of a population, n of them."""

    census: Census
    clients: Longs
    """int64 [n], their numbers in the whole population, ascending."""
    train: Ragged
    valid: Ints
    test: Ints
    turn: Ints | None

    def task(self, *, threads: int, memory: int) -> Task:
        """What a process that stands for these clients works on."""
        census = self.census
        population = Population(
            census.name, census.items, self.train, self.valid, self.test, self.turn
        )
        avoid = population.seen if census.leaks else population.train
        return Task(population, avoid, census.seed, threads, memory, self.clients, census.clients)

    def save(self, path: Path) -> None:
        """Write the part to `path`, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        arrays: Arrays = {
            "clients": self.clients, "indptr": self.train.indptr, "items": self.train.items,
            "valid": self.valid, "test": self.test,
        }  # fmt: skip
        if self.turn is not None:
            arrays["turn"] = self.turn
        with replacing(path) as temporary:
            temporary.touch(0o600)
            save_file(arrays, temporary, {"census": self.census.model_dump_json()})

    @staticmethod
    def load(path: Path) -> Part:
        """What `save` wrote.

        Raises:
            DataError: the file is missing or is no part.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                census = Census.model_validate_json((file.metadata() or {})["census"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            train = Ragged(arrays["indptr"], arrays["items"])
            part = Part(
                census, arrays["clients"], train, arrays["valid"], arrays["test"],
                arrays.get("turn"),
            )  # fmt: skip
        except (SafetensorError, OSError, ValueError, KeyError, ValidationError) as error:
            raise DataError(
                f"{path} is no part of a population", mend="`isthmus fedrec split` makes them."
            ) from error
        part.check(path)
        return part

    def check(self, path: Path) -> None:
        """See that compiled code can work on it.

        Raises:
            DataError: a number is out of range, or an array of another kind.
        """
        census, train, count = self.census, self.train, len(self.clients)
        kinds: list[tuple[np.ndarray[Any, Any], type[np.generic], int]] = [
            (self.clients, np.int64, count), (train.indptr, np.int64, count + 1)
        ]  # fmt: skip
        kinds += [(one, np.int32, count) for one in (self.valid, self.test)]
        total = int(train.indptr[-1]) if len(train.indptr) else 0
        kinds += [(train.items, np.int32, total)]
        kinds += [(self.turn, np.int32, total)] if self.turn is not None else []
        fine = all(one.dtype == kind and one.shape == (size,) for one, kind, size in kinds)
        fine = fine and count > 0 and ascending(self.clients, census.clients)
        fine = fine and train.indptr[0] == 0 and bool((np.diff(train.indptr) >= 0).all())
        fine = fine and sorted_lists(train.indptr, train.items, census.items)
        for one in (self.valid, self.test) if fine else ():
            fine = fine and bool(((one >= NONE) & (one < census.items)).all())
        if not fine:
            raise DataError(f"{path} is damaged", mend="Make it anew with `isthmus fedrec split`.")


def ascending(numbers: Longs, bound: int) -> bool:
    """Whether these are different numbers of 0 .. bound - 1, ascending."""
    return not len(numbers) or bool(
        numbers[0] >= 0 and numbers[-1] < bound and (np.diff(numbers) > 0).all()
    )


def sorted_lists(indptr: Longs, items: Ints, bound: int) -> bool:
    """Whether the items of each list are different, ascending and of 0 .. bound - 1."""
    if not len(items):
        return True
    if items.min() < 0 or items.max() >= bound:
        return False
    rising = np.diff(items) > 0
    # From one list to the next anything goes.
    borders = indptr[1:-1]
    rising[borders[(borders > 0) & (borders < len(items))] - 1] = True
    return bool(rising.all())


def split(
    data: Interactions, rules: EvalProtocol, seed: int, groups: Sequence[Longs]
) -> list[Part]:
    """The parts of these groups of clients, held out as a run with `seed` would.

    Args:
        data: everybody's interactions: only one who has them all can cut them.
        rules: any protocol of the ground that the run will be judged on.
        seed: that of the run.
        groups: int64 numbers of clients, ascending in each.
    """
    population, census = make_task(data, rules, seed).population, Census.of(data, rules, seed)
    found = []
    for clients in groups:
        one = population.part(clients)
        found.append(Part(census, clients, one.train, one.valid, one.test, one.turn))
    return found


def evenly(clients: int, parts: int) -> list[Longs]:
    """0 .. clients - 1 in `parts` groups of neighbours, as equal as can be."""
    return [one.astype(np.int64) for one in np.array_split(np.arange(clients), parts)]
