"""What is compared: rows of algorithm, backbone and numbers, and the trainings they need."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from isthmus.errors import IsthmusError, JobError
from isthmus.fedrec import checkpoint
from isthmus.fedrec.algorithms import algorithm_names
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.options import Recipe, parse_sets, recipe
from isthmus.fedrec.population import Interactions
from isthmus.fedrec.protocols import PROTOCOLS, EvalProtocol, protocol

ALL = "all"
KINDS = ("floor", "federated", "ceiling")


@dataclass(frozen=True)
class Entry:
    """One row of a comparison."""

    name: str
    """As asked for: `fedca`, `fedca/fedncf`, `fedca+variant=authors`."""
    recipe: Recipe

    @property
    def label(self) -> str:
        """For tables: the title, with what is not the algorithm's usual."""
        found, backbone = self.recipe.algorithm, self.recipe.backbone
        usual = not found.backbones or backbone == found.backbones[0] or backbone in found.titles
        sets = " · ".join(self.name.split("+")[1:])
        return (
            f"{found.called(backbone)}{'' if usual else f' · {backbone}'}"
            f"{f' ({sets})' if sets else ''}"
        )


@dataclass(frozen=True)
class Failure:
    """A row that could not be made, or a training that ended in an error."""

    name: str
    where: str
    """Seed and protocols; empty where the row itself could not be made."""
    error: str


@dataclass(frozen=True)
class Cell:
    """One training: a row, a seed, and the protocols that it serves."""

    entry: Entry
    seed: int
    rules: tuple[EvalProtocol, ...]

    @property
    def where(self) -> str:
        """For messages."""
        return f"seed {self.seed}, {', '.join(one.name for one in self.rules)}"

    def folder(self, root: Path, data: Interactions, rounds: int, every: int) -> Path:
        """Where its result is kept: a name of its own for all that the result depends on."""
        found = self.entry.recipe
        mark = checkpoint.fingerprint(
            {
                "data": data_mark(data),
                "algorithm": found.algorithm.name,
                "backbone": found.backbone,
                "values": found.values(),
                "code": _code(found.algorithm),
                "rounds": rounds,
                "every": every,
                "protocols": [one.name for one in self.rules],
            }
        )
        slug = re.sub(r"[^\w.=-]+", "-", self.entry.name)
        return root / "runs" / slug / f"{self.rules[0].name}-seed{self.seed}-{mark[:8]}"


def _code(found: Algorithm) -> str:
    """The text of the algorithm's file and a digest of what it stands on."""
    try:
        own = inspect.getsource(sys.modules[found.build.__module__])
    except (OSError, TypeError, KeyError):
        own = ""
    return own + _ground()


@cache
def _ground() -> str:
    """A digest of all code under every algorithm: engine, kernels, backbones, shared helpers."""
    root = Path(__file__).parents[1]
    files = [
        *root.glob("*.py"),
        *(root / "kernels").glob("*.py"),
        *(root / "backbones").glob("*.py"),
        *(root / "algorithms").glob("_[!_]*.py"),
    ]
    digest = hashlib.sha256()
    for one in sorted(files):
        digest.update(one.read_bytes())
    return digest.hexdigest()


def data_mark(data: Interactions) -> str:
    """Tells data sets apart by their content."""
    digest = hashlib.sha256(data.user.tobytes())
    digest.update(data.item.tobytes())
    return digest.hexdigest()[:16]


def entry(text: str) -> Entry:
    """The row that `NAME[/BACKBONE][+FIELD=VALUE ...]` asks for.

    Raises:
        JobError: there is no such algorithm or backbone, or a value does not fit.
    """
    head, *sets = text.split("+")
    name, _, backbone = head.partition("/")
    return Entry(text, recipe(name, backbone or None, parse_sets(sets)))


def entries(wanted: Sequence[str]) -> tuple[list[Entry], list[Failure]]:
    """The rows asked for; `all` stands for the whole registry, floors and ceilings among it.

    An algorithm that has another name with another backbone is a row with each. One of the
    registry that cannot be loaded is told and left out.

    Raises:
        JobError: one that was named cannot be had, or comes twice.
    """
    found = [entry(name) for name in wanted if name != ALL]
    failed: list[Failure] = []
    for name in algorithm_names() if ALL in wanted else []:
        try:
            usual = entry(name)
            others = usual.recipe.algorithm.titles
            found += [usual, *(entry(f"{name}/{backbone}") for backbone in others)]
        except (IsthmusError, ImportError, AttributeError, SyntaxError, TypeError) as error:
            failed.append(Failure(name, "", said(error)))
    unique = {one.name: one for one in found}
    if not unique:
        raise JobError("there is nothing to compare", mend="Name algorithms, or `all`.")
    order = sorted(unique.values(), key=lambda one: KINDS.index(one.recipe.algorithm.kind))
    return order, failed


def said(error: Exception) -> str:
    """An error in one line."""
    text = error.message if isinstance(error, IsthmusError) else str(error)
    return text if isinstance(error, IsthmusError) else f"{type(error).__name__}: {text}"


def wanted_protocols(names: Sequence[str]) -> list[EvalProtocol]:
    """The protocols called so; `all` for all of them.

    Raises:
        JobError: there is none of a name.
    """
    if ALL in names:
        return list(PROTOCOLS.values())
    chosen = {name: protocol(name) for name in names}
    return [one for one in PROTOCOLS.values() if one.name in chosen]


def grounds(rules: Sequence[EvalProtocol]) -> list[tuple[EvalProtocol, ...]]:
    """Protocols that share one training, together."""
    groups: dict[tuple[bool, bool], list[EvalProtocol]] = {}
    for one in rules:
        groups.setdefault(one.ground, []).append(one)
    return [tuple(group) for group in groups.values()]


def cells(rows: Sequence[Entry], rules: Sequence[EvalProtocol], seeds: Sequence[int]) -> list[Cell]:
    """All trainings, seed by seed, so that each row soon has a first figure."""
    return [Cell(row, seed, group) for seed in seeds for group in grounds(rules) for row in rows]
