"""Which lanes a run needs: a plain one to each partner, or the masked ones of a secure sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from isthmus.errors import JobError
from isthmus.link import Array
from isthmus.session import Session
from isthmus.split.aggregation import (
    TOGETHER,
    FixedPoint,
    SecureSumHub,
    SecureSumLane,
    Signer,
    agree_masks,
    relay_keys,
    summed_widths,
)
from isthmus.split.guards import Direction, Guard, parse_guard
from isthmus.split.lane import CutLane, Widths
from isthmus.split.options import TrainOptions

Tensors = Mapping[str, Tensor]
_NONE = "none"


class FeatureLane(Protocol):
    """A feature party's lane to the label party."""

    def send_cut(self, cut: Tensors, step: int, topic: str = "train.cut") -> None:
        """Send a batch's cut tensors."""

    def recv_gradient(self, batch: int, step: int) -> dict[str, Tensor]:
        """The gradient with respect to the cut tensors that we sent."""

    def state(self) -> dict[str, Array]:
        """What must be found again after a restart."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state` returned."""


class LabelLane(Protocol):
    """The label party's lane to one feature party, or to all of them together."""

    def recv_cut(self, batch: int, step: int, topic: str = "train.cut") -> dict[str, Tensor]:
        """The cut tensors of a batch."""

    def send_gradient(self, gradient: Tensors, step: int) -> None:
        """Send the gradient with respect to those cut tensors."""

    def state(self) -> dict[str, Array]:
        """What must be found again after a restart."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state` returned."""


def feature_lane(
    session: Session,
    widths: Widths,
    options: TrainOptions,
    purpose: str,
    signer: Signer | None = None,
) -> FeatureLane:
    """A feature party's lane, once the label party has agreed to the run.

    Args:
        session: of the feature party.
        widths: shapes of its cut tensors, batch size left out.
        options: of the run.
        purpose: `train` or `predict`.
        signer: for a secure sum: proves whose keys they are.
    """
    plain = _guarded(session, session.label_party, widths, options, purpose)
    if not options.secure_sum:
        return plain
    masks = agree_masks(session, purpose, signer=signer)
    return SecureSumLane(
        session.hub, widths, masks, _ring(session, options), plain, session.progress.say
    )


def label_lanes(
    session: Session, widths: Mapping[str, Widths], options: TrainOptions, purpose: str
) -> dict[str, LabelLane]:
    """The label party's lanes, by the party's name in the top model.

    Args:
        session: of the label party.
        widths: each feature party's cut shapes, as it announced them.
        options: of the run.
        purpose: `train` or `predict`.

    Raises:
        ShapeMismatch: for a secure sum the parties' cuts must be alike, and are not.
    """
    plain = {p: _guarded(session, p, widths[p], options, purpose) for p in session.links}
    if not options.secure_sum or not plain:
        return dict(plain)
    relay_keys(session, purpose)
    together = summed_widths({party: widths[party] for party in plain})
    ring, device = _ring(session, options), options.torch_device()
    hub = SecureSumHub(session.links, together, ring, plain, device)
    return {TOGETHER: hub}


def cuts_of_top(
    session: Session, widths: Mapping[str, Widths], options: TrainOptions
) -> dict[str, Widths]:
    """The cuts that the top model is given, by its names for the parties."""
    linked = {party: widths[party] for party in session.parties if party in session.links}
    here = {party: widths[party] for party in session.parties if party in widths}
    if not options.secure_sum or not linked:
        return here
    own = {party: cut for party, cut in here.items() if party not in linked}
    return {TOGETHER: summed_widths(linked), **own}


def _guarded(
    session: Session, partner: str, widths: Widths, options: TrainOptions, purpose: str
) -> CutLane:
    if options.secure_sum and options.cut_guard != _NONE:
        raise JobError(
            f"the guard {options.cut_guard!r} on cut tensors cannot be had with a secure sum",
            mend="Masked numbers must be added as they are: guard the gradients alone.",
        )
    guards: dict[Direction, Guard | None] = {"cut": None, "gradient": None}
    texts: dict[Direction, str] = {"cut": options.cut_guard, "gradient": options.gradient_guard}
    for direction, text in texts.items():
        if text != _NONE:
            rng = session.rng("guard", purpose, partner, direction)
            guards[direction] = parse_guard(text).build(rng, direction)
    device = options.torch_device()
    link = session.link(partner)
    return CutLane(link, widths, device, cut=guards["cut"], gradient=guards["gradient"])


def _ring(session: Session, options: TrainOptions) -> FixedPoint:
    parties = len(session.feature_parties)
    return FixedPoint(parties, 64, 32) if options.secure_sum == 64 else FixedPoint(parties)
