"""From the agreed spec to what `isthmus.split` takes: options, bottom, top, data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from isthmus.data.features import Layout
from isthmus.jobs.spec import JobSpec
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.session import Session
from isthmus.split import TrainOptions
from isthmus.split.aggregation import TOGETHER, AggregatedTop, Aggregation, Sum, make_rule
from isthmus.split.guards import Direction


def options_of(spec: JobSpec) -> TrainOptions:
    """The trainer's options; how many threads tensors use has been set for the process."""
    train = spec.train
    return TrainOptions(
        schedule=train.schedule,
        secure_sum=train.secure_sum or 0,
        cut_guard=_guards(spec, "cut"),
        gradient_guard=_guards(spec, "gradient"),
        batch_size=train.batch_size,
        epochs=train.epochs,
        learning_rate=train.learning_rate,
        embedding_learning_rate=train.embedding_learning_rate,
        weight_decay=train.weight_decay,
        embedding_decay=train.embedding_decay,
        decay=train.decay,
        warmup_steps=train.warmup_steps,
        metric=train.metric,
        patience=train.patience,
        checkpoint_steps=train.checkpoint_steps,
        share_metrics=spec.evaluate.share_metrics,
        device=train.device,
        tensorboard=train.tensorboard,
        threads=None,
    )


def bottom_of(spec: JobSpec, session: Session, layout: Layout) -> DeepFMBottom | None:
    """This party's bottom model with its initial values; None where it brings no features."""
    if not layout.fields:
        return None
    model = spec.train.model
    return DeepFMBottom(
        layout,
        dim=model.dim,
        hidden=model.bottom,
        dropout=model.dropout,
        embedding_std=model.embedding_std,
        seed=session.seed_for("bottom"),
    )


def top_of(spec: JobSpec, session: Session) -> nn.Module | None:
    """The top model over the session's parties; None at a feature party."""
    if not session.is_label_party:
        return None
    here = [party for party in spec.bottom_parties if party in session.parties]
    others = [party for party in here if party != session.me]
    if spec.train.aggregation == "concat" or not others:
        return _deepfm_top(spec, session, here)
    own = [party for party in here if party == session.me]
    top = _deepfm_top(spec, session, [TOGETHER, *own])
    return AggregatedTop(top, others, _aggregation(spec, session))


def _aggregation(spec: JobSpec, session: Session) -> Aggregation:
    """How the feature parties' towers become one; DeepFM's other two tensors are sums in any case.

    Two sums over parties are part of DeepFM's function (`isthmus.models.deepfm`).
    """
    width, seed = spec.train.model.bottom[-1], session.seed_for("aggregation")
    deep = make_rule(spec.train.aggregation, width=width, seed=seed)
    return Aggregation({"deep": deep, "sum": Sum(), "first": Sum()})


def _guards(spec: JobSpec, direction: Direction) -> str | dict[str, str]:
    """One text where all feature parties have the same guard, else one for each."""
    texts = {party: spec.guard_of(direction, party) for party in spec.feature_parties}
    return texts if len(set(texts.values())) > 1 else next(iter(texts.values()))


def _deepfm_top(spec: JobSpec, session: Session, parties: Sequence[str]) -> DeepFMTop:
    model = spec.train.model
    return DeepFMTop(
        dict.fromkeys(parties, model.bottom[-1]),
        dim=model.dim,
        hidden=model.top,
        dropout=model.dropout,
        seed=session.seed_for("top"),
    )
