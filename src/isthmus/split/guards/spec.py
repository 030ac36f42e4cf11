"""Guards as a job file names them: `int8`, `topk:0.1+int8`, `lowrank:4+fp16`, `int8+zeros`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from isthmus.errors import JobError
from isthmus.split.guards.base import Guard, PlainGuard
from isthmus.split.guards.chain import Chain
from isthmus.split.guards.coders import CODERS
from isthmus.split.guards.envelope import Envelope
from isthmus.split.guards.floats import E4M3, E5M2, Bf16, Fp8, Fp16
from isthmus.split.guards.integers import Integers
from isthmus.split.guards.lowrank import LowRank
from isthmus.split.guards.sparse import RandomK, TopK

Direction = Literal["cut", "gradient"]
"""Activations forward, or gradients back."""
Make = Callable[[float, np.random.Generator, Direction], Guard]


def _integers(bits: int, _: float, rng: np.random.Generator, way: Direction) -> Guard:
    return Integers(bits, rng, stochastic=way == "gradient")


_REDUCERS: dict[str, Make] = {
    "topk": lambda rate, rng, way: TopK(rate, feedback=way == "gradient"),
    "randomk": lambda rate, rng, way: RandomK(rate, rng, unbiased=way == "gradient"),
    "lowrank": lambda rank, rng, way: LowRank(int(rank), rng),
}
_ROUNDERS: dict[str, Make] = {
    "fp16": lambda _, rng, way: Fp16(),
    "bf16": lambda _, rng, way: Bf16(),
    "fp8": lambda _, rng, way: Fp8(E4M3, rng, stochastic=way == "gradient"),
    "fp8-e4m3": lambda _, rng, way: Fp8(E4M3, rng, stochastic=way == "gradient"),
    "fp8-e5m2": lambda _, rng, way: Fp8(E5M2, rng, stochastic=way == "gradient"),
    **{f"int{bits}": partial(_integers, bits) for bits in range(8, 1, -1)},
}
_NONE = "none"
_SAME = {"fp8": "fp8-e4m3"}
NAMES = (_NONE, *_REDUCERS, *_ROUNDERS, *CODERS)
"""What a spec is made of."""
_MOST_RANK = 1024


@dataclass(frozen=True)
class GuardSpec:
    """A guard that was asked for and can be built; made by `parse_guard`."""

    text: str
    """Canonical: equal texts are equal guards."""
    reducer: tuple[str, float] | None = None
    rounder: str | None = None
    coder: str | None = None

    def build(self, rng: np.random.Generator, direction: Direction) -> Guard:
        """One end of one direction of one lane.

        Args:
            rng: this guard's own, since numbers that it draws may be sent; seeds of both ends need
                not be equal.
            direction: `cut` or `gradient`: guards of gradients are unbiased or have a memory, those
                of activations err as little as they can.
        """
        guards: list[Guard] = []
        if self.reducer is not None:
            name, number = self.reducer
            guards.append(_REDUCERS[name](number, rng, direction))
        if self.rounder is not None:
            guards.append(_ROUNDERS[self.rounder](0.0, rng, direction))
        if not guards and self.coder is None:
            return PlainGuard()
        inner = Chain(guards) if len(guards) > 1 else guards[0] if guards else PlainGuard()
        return Envelope(inner, None if self.coder is None else CODERS[self.coder])


def parse_guard(text: str) -> GuardSpec:
    """The guard that `text` names: parts joined by `+`, each a name with perhaps `:` and a number.

    At most one of topk:RATE, randomk:RATE and lowrank:RANK, then at most one of fp16, bf16, fp8,
    fp8-e4m3, fp8-e5m2 and int8 to int2, then perhaps zeros or zlib; or `none`.

    Raises:
        JobError: it names no guard.
    """
    words = [word.strip() for word in text.strip().lower().split("+")]
    if words == [_NONE]:
        return GuardSpec(_NONE)
    reducer: tuple[str, float] | None = None
    rounder: str | None = None
    coder: str | None = None
    for word in words:
        name, number = _read(word, text)
        # Parts come in the order of the fields: what is there already must not come again.
        if coder or (rounder and name not in CODERS) or (reducer and name in _REDUCERS):
            raise JobError(
                f"{name!r} has no place in the guard {text!r} where it stands",
                mend="What leaves out comes first, then what rounds, then what codes: "
                "topk:0.1+int8+zeros.",
            )
        if number is not None:
            reducer = (name, number)
        elif name in _ROUNDERS:
            rounder = _SAME.get(name, name)
        else:
            coder = name
    parts = [f"{reducer[0]}:{reducer[1]:g}" if reducer else None, rounder, coder]
    return GuardSpec("+".join(part for part in parts if part), reducer, rounder, coder)


def _read(word: str, text: str) -> tuple[str, float | None]:
    """Name and number of one part of the spec `text`."""
    name, colon, number = word.partition(":")
    if name not in NAMES or name == _NONE:
        raise _unknown(name, text)
    if bool(colon) != (name in _REDUCERS):
        raise JobError(
            f"{word!r} in the guard {text!r} " + ("takes no number" if colon else "needs a number"),
            mend=f"Write {_example(name)}.",
        )
    return name, _number(name, number, text) if colon else None


def _number(name: str, number: str, text: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if name == "lowrank":
        good = value == int(value) and 1 <= value <= _MOST_RANK if math.isfinite(value) else False
        wanted = f"a whole number from 1 to {_MOST_RANK}"
    else:
        good, wanted = 0.0 < value < 1.0, "a part of a row between 0 and 1"
    if not good:
        raise JobError(
            f"{name}:{number} in the guard {text!r} is not {wanted}",
            mend=f"Write {_example(name)}.",
        )
    return value


def _example(name: str) -> str:
    return {"lowrank": "lowrank:4"}.get(name, f"{name}:0.1" if name in _REDUCERS else name)


def _unknown(name: str, text: str) -> JobError:
    close = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.5)
    mend = f"Did you mean {_example(close[0])!r}?" if close else f"There are {', '.join(NAMES)}."
    return JobError(f"there is no guard {name!r} (in {text!r})", mend=mend)
