"""From the agreed spec to what `isthmus.split` takes: options, bottom, top, data."""

from __future__ import annotations

from isthmus.data.features import Layout
from isthmus.jobs.spec import JobSpec
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.session import Session
from isthmus.split import TrainOptions


def options_of(spec: JobSpec) -> TrainOptions:
    """The trainer's options; how many threads tensors use has been set for the process."""
    train = spec.train
    return TrainOptions(
        schedule=train.schedule,
        cut_guard=train.guards.cut,
        gradient_guard=train.guards.gradient,
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


def top_of(spec: JobSpec, session: Session) -> DeepFMTop | None:
    """The top model over the session's parties; None at a feature party."""
    if not session.is_label_party:
        return None
    model = spec.train.model
    return DeepFMTop(
        {party: model.bottom[-1] for party in spec.bottom_parties if party in session.parties},
        dim=model.dim,
        hidden=model.top,
        dropout=model.dropout,
        seed=session.seed_for("top"),
    )
