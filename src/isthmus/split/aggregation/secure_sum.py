r"""Secure sum: the label party gets the sum of the feature parties' cuts and no single one.

Feature party p sends, for each cut tensor x_p, the words

    m_p = round(x_p / step) + sum_{q > p} PRG(k_pq) - sum_{q < p} PRG(k_pq)    modulo 2^bits

(`FixedPoint`, `isthmus.crypto.masks`). The label party, the hub, adds the m_p of all parties: the
masks cancel, and what is left is the sum of the x_p to half a step a party. The gradient with
respect to the sum is the same for all parties and goes back in the clear.

**Security model: semi-honest, and the hub in league with at most n-2 of the n feature parties.**
All keep to the protocol and may study what they see.

- The hub learns the sum, for each sample and each number of the cut, and nothing else of one
  party's tensor, under the decisional Diffie-Hellman assumption on Curve25519 and ChaCha20 as a
  pseudo-random generator. The sum is much: where a party's tensor depends on little (an entity that
  comes again beside ever new rows of the others), many sums are equations for it, and two sums
  that differ in one party's part alone give that difference away. The hub passes the parties' keys
  on: one that departs from the protocol could swap them, which only signatures prevent
  (`isthmus.split.aggregation.keys`).
- A feature party learns the gradient, as without secure sums: **labels can be read off it**, and
  for DeepFM the sum itself: the gradient of `sum` divided by that of `first` *is* the sum of all
  parties' `sum`, the label party's included. With two feature parties and no features at the label
  party, that less one's own is the other's embedding sum. The secure sum hides the parties' tensors
  from the hub, not from each other.
- The hub together with n-1 feature parties learns the tensor of the one left: it is the difference.

**No wrong sums.** A missing party, another step, batch, shape or kind of tensor is an error before
anything is decoded; masks that do not cancel are one at the decoding. Sums are never made of less
than all parties. What is clipped is clipped before it is masked, and its owner is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import accumulate
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from isthmus.crypto.masks import Masks, Words
from isthmus.errors import BadMessage, ShapeMismatch
from isthmus.link import Array, Link, Message
from isthmus.split.aggregation.fixed_point import FixedPoint
from isthmus.split.guards import Direction, Guard
from isthmus.split.lane import Widths, shown

Tensors = Mapping[str, Tensor]
Cut = dict[str, Tensor]


class FromHub(Protocol):
    """What brings a feature party its gradients, such as `CutLane`."""

    def recv_gradient(self, batch: int, step: int) -> Cut:
        """The gradient with respect to the cut tensors that we sent."""

    def guards(self) -> list[tuple[str, Direction, Guard]]:
        """The guards that stand here, with the partner's name and the direction of each."""

    def state(self) -> dict[str, Array]:
        """What must be found again after a restart."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state` returned."""


class ToParty(Protocol):
    """What takes the gradients to one feature party, such as `CutLane`."""

    def send_gradient(self, gradient: Tensors, step: int) -> None:
        """Send the gradient with respect to the partner's cut tensors."""

    def guards(self) -> list[tuple[str, Direction, Guard]]:
        """The guards that stand here, with the partner's name and the direction of each."""

    def state(self) -> dict[str, Array]:
        """What must be found again after a restart."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state` returned."""


class SecureSumLane:
    """A feature party's lane to the label party: cuts go masked, gradients come in the clear.

    Takes the place of a `CutLane`.

    Args:
        hub: the link to the label party.
        widths: shapes of the cut tensors, batch size left out; the same at all feature parties.
        masks: agreed with the other feature parties, fresh for this run.
        ring: how numbers are written; the same at all parties.
        gradients: brings the gradients.
        say: told, the first time for each tensor, that values were clipped.
    """

    def __init__(
        self,
        hub: Link,
        widths: Widths,
        masks: Masks,
        ring: FixedPoint,
        gradients: FromHub,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.clipped: Counter[str] = Counter()
        """Values clipped so far, by tensor. For this party's eyes."""
        self._hub = hub
        # All parties must lay their words out alike, whatever the order of their dicts.
        self._widths = {name: tuple(widths[name]) for name in sorted(widths)}
        self._masks, self._ring = masks, ring
        self._gradients, self._say = gradients, say

    def send_cut(self, cut: Tensors, step: int, topic: str = "train.cut") -> None:
        """Send a batch's cut tensors, float32 [batch, ...] each, under the next masks of `topic`.

        Raises:
            NotFinite: a number is NaN or infinite.
            ShapeMismatch: the tensors are not those agreed.
        """
        words, parts = self._encoded(cut, step)
        number = self._masks.add_to(words, topic)
        self._hub.send(topic, parts, {"step": step, "mask": number})

    def recv_gradient(self, batch: int, step: int) -> Cut:
        """The gradient with respect to the sum, which is that with respect to our cut."""
        return self._gradients.recv_gradient(batch, step)

    def guards(self) -> list[tuple[str, Direction, Guard]]:
        """The guards that stand on gradients, with the partner's name and the direction of each."""
        return self._gradients.guards()

    def state(self) -> dict[str, Array]:
        """What the gradients' lane must find again; the masks are agreed anew."""
        return self._gradients.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state` returned."""
        self._gradients.load_state(state)

    def _encoded(self, cut: Tensors, step: int) -> tuple[Words, dict[str, Words]]:
        """All words of a cut in one piece, and the same as tensors by name."""
        batch = len(next(iter(cut.values()))) if cut else 0
        shapes = {name: (batch, *width) for name, width in self._widths.items()}
        given = {name: tuple(tensor.shape) for name, tensor in cut.items()}
        if given != shapes:
            raise ShapeMismatch(f"the bottom model made the cut {given}, agreed was {shapes}")
        ends = list(accumulate(map(prod, shapes.values())))
        words: Words = np.empty(ends[-1], self._ring.dtype)
        parts = {}
        for (name, shape), end in zip(shapes.items(), ends, strict=True):
            parts[name] = words[end - prod(shape) : end].reshape(shape)
            clipped = self._ring.encode(cut[name].detach().cpu().numpy(), parts[name])
            if clipped:
                self._report(name, clipped, step)
        return words, parts

    def _report(self, name: str, clipped: int, step: int) -> None:
        if name not in self.clipped:
            self._say(
                f"{clipped} values of the cut's {name!r} at step {step} lay beyond "
                f"{self._ring.limit:g} and were clipped for the secure sum; look for extreme "
                "values in numeric columns, or take fewer bits behind the point"
            )
        self.clipped[name] += clipped


class SecureSumHub:
    """The label party's end of all lanes: adds the masked cuts and decodes their sum.

    It looks like the lane to one party: a side has it under the name `TOGETHER` in place of the
    lanes to the feature parties.

    Args:
        links: to each feature party.
        widths: shapes of the cut tensors, batch size left out (`summed_widths`).
        ring: how numbers are written; the same at all parties.
        gradients: takes the gradients to each feature party.
        device: where the sum is put.
    """

    def __init__(
        self,
        links: Mapping[str, Link],
        widths: Widths,
        ring: FixedPoint,
        gradients: Mapping[str, ToParty],
        device: torch.device,
    ) -> None:
        self._links = dict(links)
        self._widths = dict(widths)
        self._ring = ring
        self._gradients = dict(gradients)
        self._device = device
        self._numbers: Counter[str] = Counter()

    def recv_cut(self, batch: int, step: int, topic: str = "train.cut") -> Cut:
        """The sum of all feature parties' cuts, float32 [batch, ...] each.

        Raises:
            BadMessage: a party's message is of another step, shape or kind, or the masks do not
                cancel.
            LinkError: a party is gone, or has failed.
        """
        number = self._numbers[topic]
        shapes = {name: (batch, *width) for name, width in self._widths.items()}
        totals: dict[str, Any] = {}
        for party, link in self._links.items():
            message = link.recv(topic)
            _check(party, message, {"step": step, "mask": number}, shapes, self._ring)
            for name, words in message.tensors.items():
                if name in totals:
                    np.add(totals[name], words, out=totals[name])
                else:
                    totals[name] = words.copy()
        self._numbers[topic] += 1
        decoded = {name: self._ring.decode(totals[name]) for name in shapes}
        return {name: torch.from_numpy(a).to(self._device) for name, a in decoded.items()}

    def send_gradient(self, gradient: Tensors, step: int) -> None:
        """Send the gradient with respect to the sum to every feature party."""
        for lane in self._gradients.values():
            lane.send_gradient(gradient, step)

    def guards(self) -> list[tuple[str, Direction, Guard]]:
        """The guards that stand on gradients, with the partner's name and the direction of each."""
        return [one for lane in self._gradients.values() for one in lane.guards()]

    def state(self) -> dict[str, Array]:
        """What the gradients' lanes must find again."""
        return {
            f"{party}/{name}": array
            for party, lane in self._gradients.items()
            for name, array in lane.state().items()
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state` returned."""
        for party, lane in self._gradients.items():
            prefix = f"{party}/"
            lane.load_state({n[len(prefix) :]: a for n, a in state.items() if n.startswith(prefix)})


def summed_widths(widths: Mapping[str, Widths]) -> dict[str, tuple[int, ...]]:
    """The shapes of the feature parties' sum, which are those of each.

    Args:
        widths: shapes of each feature party's cut tensors, batch size left out.

    Raises:
        ShapeMismatch: they differ; names the party, the tensor and both shapes.
    """
    (first, reference), *others = widths.items()
    for party, given in others:
        for name in sorted(reference.keys() | given.keys()):
            if given.get(name) != reference.get(name):
                raise ShapeMismatch(
                    f"{party}'s {shown(name)} is {_shape(given.get(name))}, {first}'s is "
                    f"{_shape(reference.get(name))}: they cannot be summed",
                    mend="A secure sum needs the same widths at all feature parties.",
                )
    return {name: tuple(width) for name, width in reference.items()}


def _shape(width: tuple[int, ...] | None) -> str:
    return "not there" if width is None else str(["batch", *width])


def _check(
    party: str,
    message: Message,
    place: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    ring: FixedPoint,
) -> None:
    for key, wanted in place.items():
        given = message.header.get(key)
        if type(given) is not int or given != wanted:
            raise BadMessage(
                f"{party} sent {message.topic} of {key} {shown(given)}, we are at {key} {wanted}"
            )
    if message.tensors.keys() != shapes.keys():
        raise BadMessage(
            f"{party} sent the tensors {shown(sorted(message.tensors))} as {message.topic}, agreed "
            f"were {sorted(shapes)}"
        )
    for name, shape in shapes.items():
        words = message.tensors[name]
        if words.dtype != ring.dtype or words.shape != shape:
            raise BadMessage(
                f"{party} sent {message.topic} {name!r} as {words.dtype} {list(words.shape)}, "
                f"agreed was {ring.dtype} {list(shape)}"
            )
