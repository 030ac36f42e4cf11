"""Rules that make one tensor of the parties' tensors, as torch modules for tops.

Each takes a tensor's name and the parties' tensors of that name, float32 [batch, ...], and raises
`ShapeMismatch` where they do not fit together. Gradients are autograd's, exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.errors import JobError, ShapeMismatch
from isthmus.models import seeded_linear

Tensors = Mapping[str, Tensor]


class Rule(nn.Module, ABC):
    """A rule for one tensor of a cut."""

    @abstractmethod
    def forward(self, name: str, tensors: Tensors) -> Tensor:
        """One tensor of the parties' tensors called `name`."""


class Concat(Rule):
    """One behind the other in the agreed order: [batch, w_1 + w_2 + ..., ...]."""

    def forward(self, name: str, tensors: Tensors) -> Tensor:
        """See `Rule.forward`; widths (the second dimension) may differ."""
        check_shapes(name, tensors, concatenated=True)
        return torch.cat(list(tensors.values()), 1)


class Sum(Rule):
    """sum_p x_p."""

    def forward(self, name: str, tensors: Tensors) -> Tensor:
        """See `Rule.forward`."""
        check_shapes(name, tensors)
        first, *others = tensors.values()
        return sum(others, start=first)


class Mean(Sum):
    """sum_p x_p / n for n parties."""

    def forward(self, name: str, tensors: Tensors) -> Tensor:
        """See `Rule.forward`."""
        return super().forward(name, tensors) / len(tensors)


class Max(Rule):
    """The largest x_p, number by number; parties that are equal share the gradient."""

    def forward(self, name: str, tensors: Tensors) -> Tensor:
        """See `Rule.forward`."""
        check_shapes(name, tensors)
        return torch.stack(list(tensors.values())).amax(0)


class Attention(Rule):
    """sum_p a_p x_p with a = softmax_p(w^T tanh(V x_p)), for each sample its own weights.

    Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018,
    equations 7 and 8.

    Args:
        width: numbers a sample in one party's tensor.
        hidden: rows of V.
        seed: of the initial values of V and w.
    """

    def __init__(self, width: int, *, hidden: int = 16, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.width = width
        self.inner = seeded_linear(width, hidden, rng)
        self.outer = seeded_linear(hidden, 1, rng)

    def forward(self, name: str, tensors: Tensors) -> Tensor:
        """See `Rule.forward`."""
        check_shapes(name, tensors)
        stacked = torch.stack(list(tensors.values()), 1)  # [batch, parties, ...]
        flat = stacked.flatten(2) if stacked.ndim > 2 else stacked.unsqueeze(2)
        if flat.shape[2] != self.width:
            party = next(iter(tensors))
            raise ShapeMismatch(
                f"{party}'s {name!r} is {list(tensors[party].shape)}, {flat.shape[2]} numbers a "
                f"sample; the attention over it is made for {self.width}"
            )
        weights = torch.softmax(self.outer(torch.tanh(self.inner(flat))), 1)
        return (weights * flat).sum(1).reshape(stacked[:, 0].shape)


def check_shapes(name: str, tensors: Tensors, *, concatenated: bool = False) -> None:
    """See whether the parties' tensors fit together.

    Args:
        name: of the tensor.
        tensors: each party's.
        concatenated: their second dimension may differ, and must be there.

    Raises:
        ShapeMismatch: they do not; says whose, which and both shapes.
    """
    if not tensors:
        raise ShapeMismatch(f"there is no party whose {name!r} could be aggregated")
    (first, reference), *others = tensors.items()
    if concatenated and reference.ndim < 2:
        raise ShapeMismatch(
            f"{first}'s {name!r} is {list(reference.shape)}: to be concatenated it needs two "
            "dimensions"
        )
    for party, tensor in others:
        given, wanted = list(tensor.shape), list(reference.shape)
        same = given == wanted
        if concatenated:
            same = given[:1] + given[2:] == wanted[:1] + wanted[2:] and len(given) == len(wanted)
        if not same:
            raise ShapeMismatch(
                f"{party}'s {name!r} is {given}, {first}'s is {wanted}: they cannot be aggregated",
                mend="Give the parties' bottoms the same widths, or another aggregation.",
            )


_RULES: dict[str, Callable[[int, int], Rule]] = {
    "concat": lambda width, seed: Concat(),
    "sum": lambda width, seed: Sum(),
    "mean": lambda width, seed: Mean(),
    "max": lambda width, seed: Max(),
    "attention": lambda width, seed: Attention(width, seed=seed),
}
RULES = tuple(_RULES)
"""The names of the rules."""


def make_rule(kind: str, *, width: int, seed: int = 0) -> Rule:
    """The rule called `kind`.

    Args:
        kind: one of `RULES`.
        width: numbers a sample in one party's tensor.
        seed: of initial values, where the rule has any.

    Raises:
        JobError: there is none of that name.
    """
    if kind not in _RULES:
        raise JobError(f"there is no aggregation {kind!r}", mend=f"Choose one of {RULES}.")
    return _RULES[kind](width, seed)
