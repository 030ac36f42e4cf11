"""What was chosen for a job, under names that a reader understands."""

from __future__ import annotations

from isthmus.jobs.report.model import Report, Scalar
from isthmus.jobs.report.words import as_count

_SCHEDULES = {
    "exact": (
        "The exact schedule: all parties finish a batch before the next one begins, so that they "
        "compute what one machine with all columns would."
    ),
    "microbatch": (
        "The microbatch schedule: a batch goes in several messages and makes one update, so that "
        "the parties compute what one machine with all columns would."
    ),
    "pipeline": (
        "The pipeline schedule: a feature party begins further batches before the gradient of the "
        "first is back, so that its weights lag a few updates behind."
    ),
}
"""What each schedule means, in a sentence."""

_NAMES = {
    "dim": "embedding width",
    "bottom": "layers of each bottom",
    "top": "layers of the top",
    "embedding_std": "deviation of initial embeddings",
    "embedding_learning_rate": "learning rate of embeddings",
    "embedding_decay": "weight decay of embeddings",
    "decay": "learning rate over time",
    "warmup_steps": "warm-up steps",
    "epochs": "epochs at most",
    "metric": "best epoch by validation",
    "patience": "epochs of patience",
    "cut_guard": "guard on cut tensors",
    "gradient_guard": "guard on gradients",
}
"""Names of the job file that need more words."""

_METRICS = {"auc": "AUC", "log_loss": "log loss"}


def schedule(report: Report) -> str:
    """Schedule and guards, a sentence each; none of a schedule that this page does not know."""
    kind, _, _ = report.training.schedule.partition(":")
    chosen = report.training.hyper_parameters
    guards = [chosen.get(name, "none") for name in ("cut_guard", "gradient_guard")]
    said = [_SCHEDULES.get(kind, "")]
    if guards != ["none", "none"]:
        said.append(
            f"Guards make what crosses smaller (cut tensors: {guards[0]}, gradients: {guards[1]}), "
            "so that the numbers are not quite those of one machine."
        )
    return " ".join(filter(None, said))


def settings(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and value of all that was chosen for the network and its training.

    Embeddings without a learning rate of their own have that of the rest.
    """
    training = report.training
    chosen: dict[str, Scalar | tuple[Scalar, ...]] = {
        "model": report.model.name,
        "schedule": training.schedule,
        "optimiser": training.optimizer,
        "batch": f"{as_count(training.batch_size)} samples",
        "learning_rate": training.learning_rate,
        **training.hyper_parameters,
        **report.model.hyper_parameters,
    }
    if chosen.get("embedding_learning_rate", 0.0) is None:
        chosen["embedding_learning_rate"] = training.learning_rate
    return tuple((_NAMES.get(name, name.replace("_", " ")), _text(v)) for name, v in chosen.items())


def _text(value: Scalar | tuple[Scalar, ...]) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else _METRICS.get(str(value), str(value))
