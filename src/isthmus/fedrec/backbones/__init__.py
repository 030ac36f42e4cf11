"""Backbones: what scores an item for a user, as pure functions of a row, a vector and a network.

A file of this package defines `BACKBONE`; its name, with `-` for `_`, is the backbone's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.kernels.local import client_step, scorer
from isthmus.fedrec.population import Floats


@dataclass(frozen=True)
class Initial:
    """The parameters before the first round."""

    items: Floats
    """float32 [M, d], every client's first item table."""
    network: Floats
    """float32 [t]"""
    user: Floats
    """float32 [p], every client's first private vector."""


@dataclass(frozen=True)
class Backbone:
    """A scoring function with its gradient, compiled into a client step.

    `gradient(want, samples, labels, ids, rows, user, network, extra, g_rows, g_user, g_network,
    scratch) -> loss` is compiled (`isthmus.fedrec.compiled.inlined`). It adds the gradient of the
    batch's mean loss to the three `g_` arrays (zero before) and returns that loss:

    - `want`: 0 all gradients, 1 only those of user and network, 2 only those of rows;
    - `samples` int32 [b], places in `ids` and `rows`; `labels` float32 [b], 1 or 0;
    - `ids` int32 [k], the items that the client touches in the round; `rows` float32 [k, d + e],
      their rows, own columns last;
    - `user` float32 [p], `network` float32 [t]; `extra` float32, constants of the algorithm;
    - `scratch` float32 [sizes.scratch], to be used at will.

    `descend(samples, labels, rows, user, rate, user_rate, errors) -> loss`, for a backbone without
    network, is a short way for clients that take plain alternating gradient steps: both steps of
    one batch, in place, with the same result but for rounding. `errors` float32 [b or more] is
    scratch.

    `score(item, row, user, network, extra, scratch) -> float` gives one item's score.
    """

    name: str
    sizes: Callable[[int], Sizes]
    """The widths for a `dim`."""
    initial: Callable[[np.random.Generator, int, Sizes, float], Initial]
    """Draws the first parameters for M items; the float is the deviation of embeddings."""
    gradient: Callable[..., Any]
    score: Callable[..., Any]
    descend: Callable[..., Any] | None = None

    @cached_property
    def train(self) -> Callable[..., None]:
        """The compiled client step."""
        return client_step(self.gradient, self.descend)

    @cached_property
    def scores(self) -> Callable[..., None]:
        """The compiled scoring of candidates."""
        return scorer(self.score)


def backbone_names() -> list[str]:
    """The names of all backbones."""
    return sorted(
        one.name.replace("_", "-") for one in iter_modules(__path__) if one.name[0] != "_"
    )


def backbone(name: str) -> Backbone:
    """The backbone called `name`.

    Raises:
        JobError: there is none.
    """
    if name not in backbone_names():
        raise JobError(
            f"there is no backbone {name!r}", mend=f"Known: {', '.join(backbone_names())}."
        )
    found: Backbone = import_module(f"{__name__}.{name.replace('-', '_')}").BACKBONE
    return found
