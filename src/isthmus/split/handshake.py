"""What the parties say to each other around the batches: before the first, and after each epoch."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.data.split import Split
from isthmus.errors import BadMessage, JobError, ShapeMismatch
from isthmus.link import Message
from isthmus.session import Session
from isthmus.split.batches import Samples
from isthmus.split.checkpoint import Point
from isthmus.split.lane import Widths, shown
from isthmus.split.lanes import cuts_of_top
from isthmus.split.options import EpochRecord, TrainOptions
from isthmus.split.sides import Part
from isthmus.split.targets import PLAIN, Targets

_MAX_TENSORS = 64
_MAX_WIDTH = 1 << 20
"""Numbers a sample in one cut tensor."""
_PROBE = 3
"""Samples: of one alone, a mean over the batch would look like a row."""
_MAX_DIMS = 4
"""Of a cut tensor, the batch left out."""
_MAX_POINTS = 1024
_HASHED = 1 << 20
"""Positions hashed together: bounds the copies."""
_RUN = re.compile(r"[0-9a-f]{16}")
_REASON = re.compile(r"[ -~]{0,200}")


def cut_widths(bottom: Part, samples: Samples) -> Widths:
    """The shape of each of a bottom's cut tensors, batch dimension left out.

    Args:
        bottom: whose output is looked at.
        samples: the first few serve as a batch.

    Raises:
        JobError: the bottom returns something else than float32 tensors, or of impossible shape.
        ShapeMismatch: a tensor's first dimension is not the batch.
    """
    samples = samples[:_PROBE]
    bottom.module.eval()
    with torch.no_grad():
        cut = bottom.cut(bottom.batch(samples, backward=False), len(samples))
    widths = {name: tuple(tensor.shape[1:]) for name, tensor in cut.items()}
    if len(widths) > _MAX_TENSORS:
        raise JobError(f"{bottom.party}'s bottom returns more than {_MAX_TENSORS} tensors")
    for name, width in widths.items():
        if not _possible(width):
            raise JobError(
                f"{bottom.party}'s bottom returns {name!r} with shape {['batch', *width]}",
                mend=f"1 to {_MAX_WIDTH} numbers a sample can cross the cut, in up to "
                f"{_MAX_DIMS} dimensions.",
            )
    return widths


def fingerprint(
    session: Session, split: Split, options: TrainOptions, modules: Mapping[str, nn.Module]
) -> str:
    """A digest of all that makes a run what it is: its checkpoints carry it."""
    shapes = {
        name: {key: list(value.shape) for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }
    # The optimiser's state has no names, only places among the parameters that are trained.
    trained = {
        name: [key for key, parameter in module.named_parameters() if parameter.requires_grad]
        for name, module in modules.items()
    }
    facts = [session.me, session.parties, session.label_party, _agreed(session, split, options)]
    parts = [facts, shapes, trained]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def agree_as_feature(
    session: Session,
    split: Split,
    options: TrainOptions,
    widths: Widths,
    resumable: Sequence[Point],
) -> Point:
    """Tell the label party what we hold; returns the point to continue from."""
    hello = {
        "agreed": _agreed(session, split, options),
        "widths": {name: list(width) for name, width in widths.items()},
        "resumable": [[point.step, point.run] for point in resumable],
    }
    session.hub.send("train.hello", header=hello)
    given = session.hub.recv("train.hello").header.get("point")
    point = _point(given)
    if point is None or (point.step != 0 and point not in resumable):
        raise BadMessage(f"{session.label_party} asks to continue from {shown(given)}")
    return point


def agree_as_label(
    session: Session,
    split: Split,
    options: TrainOptions,
    own: Mapping[str, Widths],
    top: Part,
    resumable: Sequence[Point],
    targets: Targets = PLAIN,
) -> tuple[dict[str, Widths], Point]:
    """Compare what the partners hold with ours.

    Returns:
        Every party's cut shapes, and the point to continue from: the newest that all hold, or the
        beginning of a new run.

    Raises:
        JobError: a partner's options, seed or samples differ.
        ShapeMismatch: the top model cannot take the parties' cuts.
    """
    agreed = _agreed(session, split, options)
    widths = dict(own)
    common = set(resumable)
    for party, link in session.links.items():
        hello = link.recv("train.hello")
        theirs = hello.header.get("agreed")
        if theirs != agreed:
            raise JobError(
                f"{party} and {session.me} differ in {_differences(agreed, theirs)}",
                mend="Give all parties the same seed, split and training options.",
            )
        widths[party] = partner_widths(party, hello)
        common &= _points(party, hello)
    check_top(top, cuts_of_top(session, widths, options), targets)
    point = max(common, default=None) or Point(0, secrets.token_hex(8))
    for link in session.links.values():
        link.send("train.hello", header={"point": [point.step, point.run]})
    return widths, point


def send_decision(session: Session, options: TrainOptions, record: EpochRecord, stop: str) -> None:
    """Tell the partners how the epoch went: whether it is the best, and whether to stop."""
    decision: dict[str, Any] = {"epoch": record.epoch, "best": record.best, "stop": stop}
    if options.share_metrics:
        decision |= {name: _rounded(getattr(record, name)) for name in _METRICS}
    for link in session.links.values():
        link.send("train.epoch", header=decision)


def take_decision(session: Session, record: EpochRecord) -> tuple[EpochRecord, str]:
    """Wait for the label party's decision on an epoch; returns the record with it, and the reason
    to stop ("" to go on).
    """
    header = session.hub.recv("train.epoch").header
    best, stop = header.get("best"), header.get("stop")
    metrics = {name: header.get(name) for name in _METRICS}
    if (
        header.get("epoch") != record.epoch
        or type(best) is not bool
        or type(stop) is not str
        or not _REASON.fullmatch(stop)
        or (record.epoch == 1 and not best)
        or not all(_is_metric(name, value) for name, value in metrics.items())
    ):
        raise BadMessage(f"{session.label_party} sent no valid decision on epoch {record.epoch}")
    return (
        replace(
            record,
            best=best,
            train_loss=metrics["train_loss"],
            valid_auc=metrics["valid_auc"],
            valid_log_loss=metrics["valid_log_loss"],
            valid_loss=metrics["valid_loss"],
        ),
        stop,
    )


_METRICS = ("train_loss", "valid_auc", "valid_log_loss", "valid_loss")


def _rounded(value: float | None) -> float | None:
    # All digits of an AUC would give the number of positives away.
    return None if value is None else round(value, 4)


def _is_metric(name: str, value: object) -> bool:
    if value is None:
        return True
    # A loss of the user's own may be negative.
    least = -math.inf if name in ("train_loss", "valid_loss") else 0.0
    most = 1.0 if name == "valid_auc" else math.inf
    return isinstance(value, float) and math.isfinite(value) and least <= value <= most


def _agreed(session: Session, split: Split, options: TrainOptions) -> dict[str, Any]:
    digest = hashlib.sha256()
    for rows in (split.train, split.valid, split.test):
        digest.update(len(rows).to_bytes(8, "little"))
        for start in range(0, len(rows), _HASHED):
            # Of one dtype, whatever a party keeps them in.
            digest.update(rows[start : start + _HASHED].astype("<i8").data)
    # Through JSON, as the partner sees it: tuples become lists there.
    facts: dict[str, Any] = json.loads(json.dumps(options.agreed()))
    return facts | {"seed": session.seed, "split": digest.hexdigest()}


def _differences(ours: Mapping[str, Any], theirs: object) -> str:
    if not isinstance(theirs, Mapping):
        return "everything (its greeting is malformed)"
    return ", ".join(sorted(k for k in ours if k not in theirs or theirs[k] != ours[k])) or "fields"


def partner_widths(party: str, hello: Message) -> Widths:
    """The cut shapes that a partner announced.

    Raises:
        BadMessage: the announcement is malformed.
    """
    given = hello.header.get("widths")
    if not isinstance(given, dict) or not 0 < len(given) <= _MAX_TENSORS:
        raise BadMessage(f"{party} did not describe its cut tensors")
    for dims in given.values():
        if not isinstance(dims, list) or not _possible(dims):
            raise BadMessage(f"{party} described a cut tensor of impossible shape {shown(dims)}")
    return {name: tuple(dims) for name, dims in given.items()}


def _possible(dims: Sequence[object]) -> bool:
    numbers = [d for d in dims if type(d) is int and d > 0]
    return len(numbers) == len(dims) <= _MAX_DIMS and math.prod(numbers) <= _MAX_WIDTH


def _points(party: str, hello: Message) -> set[Point]:
    given = hello.header.get("resumable")
    points = [_point(entry) for entry in given] if isinstance(given, list) else [None]
    if None in points or len(points) > _MAX_POINTS:
        raise BadMessage(f"{party} did not say which checkpoints it has")
    return {point for point in points if point is not None}


def _point(given: object) -> Point | None:
    match given:
        case [int(step), str(run)] if type(step) is int and step >= 0 and _RUN.fullmatch(run):
            return Point(step, run)
    return None


def check_top(top: Part, widths: Mapping[str, Widths], targets: Targets = PLAIN) -> None:
    """See whether the top model takes the parties' cuts, and gives what the targets need.

    Raises:
        ShapeMismatch: it does not, or a party makes tensors that it does not take.
    """
    expects: Mapping[str, Widths] | None = getattr(top.module, "expects", None)
    for party, wanted in (expects or {}).items():
        for name, shape in wanted.items():
            given = widths.get(party, {}).get(name)
            if given != shape:
                raise ShapeMismatch(
                    f"the top model expects {name!r} of {party} with shape "
                    f"{['batch', *shape]}, {party}'s bottom makes "
                    + ("none" if given is None else str(["batch", *given])),
                    mend="Build the top model for the bottoms' widths.",
                )
        if unknown := widths.get(party, {}).keys() - wanted.keys():
            raise ShapeMismatch(
                f"{party}'s bottom makes {shown(sorted(unknown))}, which the top does not take"
            )
    zeros: dict[str, dict[str, Tensor]] = {
        party: {name: torch.zeros(2, *shape, device=top.device) for name, shape in cut.items()}
        for party, cut in widths.items()
    }
    top.module.eval()
    try:
        with torch.no_grad():
            logits = top.module(zeros)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        cuts = "; ".join(
            f"{name!r} of {party} {['batch', *width]}"
            for party, cut in widths.items()
            for name, width in cut.items()
        )
        raise ShapeMismatch(
            f"the top model cannot take the cuts ({cuts}): {type(error).__name__}: {error}",
            mend="They come as {party: {name: tensor}}.",
        ) from error
    needed = (2,) if targets.outputs == 1 else (2, targets.outputs)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != needed:
        returned = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wish = "[batch]" if targets.outputs == 1 else f"[batch, {targets.outputs}]"
        raise ShapeMismatch(
            f"the top model returns {returned} for a batch of 2", mend=f"Return a tensor {wish}."
        )
