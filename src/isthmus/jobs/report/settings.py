"""What was chosen for a job, under names that a reader understands."""

from __future__ import annotations

from isthmus.jobs.report.model import Report
from isthmus.jobs.report.parts import Scalar
from isthmus.jobs.report.words import as_count, as_list

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
    "local": (
        "The local schedule: several updates an exchange, the further ones from what crossed "
        "before, so that the numbers are not those of one machine."
    ),
    "adaptive": (
        "The adaptive schedule: while the loss stands still exchanges are left out, and updates "
        "are made from what crossed before."
    ),
    "auto": (
        "The auto schedule: the first steps tried several schedules, and the rest of the training "
        "kept one that was among the fastest, the least stale of these."
    ),
}
"""What each schedule means, in a sentence."""

_UNDECIDED = (
    "The auto schedule: training, or the way from one checkpoint to the next, was too short to try "
    "the schedules out, so none was chosen."
)

_AGGREGATIONS = {
    name: f"The upper tower takes the {said} of the towers of {{}}."
    for name, said in {
        "sum": "sum",
        "mean": "mean",
        "max": "largest values",
        "attention": "sum, weighted by attention,",
    }.items()
}
"""What each aggregation means, in a sentence; that of plain DeepFM needs none."""

_NAMES = {
    "split": "training, validation, test",
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
    "aggregation": "aggregation of the towers",
    "cut_guard": "guard on cut tensors",
    "gradient_guard": "guard on gradients",
    "retrieval.item": "column of items",
    "retrieval.item_fields": "what describes an item",
    "retrieval.user": "column of users",
    "retrieval.width": "numbers of a vector",
    "retrieval.temperature": "temperature of the softmax",
    "retrieval.log_q": "corrected for popularity",
    "retrieval.top": "items retrieved",
    "retrieval.leave_out_seen": "leaves out what a user had",
    "retrieval.index": "index",
}
"""Names of the job file that need more words."""

_METRICS = {"auc": "AUC", "log_loss": "log loss"}


def schedule(report: Report) -> str:
    """Schedule, aggregation and guards, a sentence each; none of what this page does not know."""
    if report.training is None:
        return ""
    kind, _, _ = report.training.schedule.partition(":")
    said = _SCHEDULES.get(kind, "")
    if kind == "auto" and not report.training.chosen_schedule:
        said = _UNDECIDED
    return " ".join(filter(None, (said, _together(report), _guards(report))))


def _together(report: Report) -> str:
    """What becomes of several feature parties' tensors; nothing where there is one."""
    chosen, parties = report.network.hyper_parameters, report.job.feature_parties
    if len(parties) < 2:
        return ""
    secure = str(chosen.get("secure_sum", "none"))
    if secure != "none":
        return (
            f"A secure sum ({secure}): {report.job.label_party} saw the sum of what "
            f"{as_list(parties)} sent over the cut, and none of the parts."
        )
    return _AGGREGATIONS.get(str(chosen.get("aggregation")), "").format(as_list(parties))


def _guards(report: Report) -> str:
    chosen, known = report.network.hyper_parameters, report.network.guards
    cut, gradient = (chosen.get(name, "none") for name in ("cut_guard", "gradient_guard"))
    if cut == gradient == "none":
        return ""
    said = f"Guards make what crosses smaller (cut tensors: {cut}, gradients: {gradient})"
    # A party sees its own lanes: the label party all of them.
    if report.job.role == "label" and known and not any(guard.lossy for guard in known):
        return f"{said}; nothing is lost."
    return f"{said}, so that the numbers are not quite those of one machine."


def settings(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and value of all that was chosen for the network and its training; none without one.

    Embeddings without a learning rate of their own have that of the rest.
    """
    training, model = report.training, report.model
    if training is None or model is None:
        return ()
    chosen: dict[str, Scalar | tuple[Scalar, ...]] = {
        "model": model.name,
        "schedule": ", which chose ".join(
            filter(None, (training.schedule, training.chosen_schedule))
        ),
        "optimiser": training.optimizer,
        "batch": f"{as_count(training.batch_size)} samples",
        "learning_rate": training.learning_rate,
        **training.hyper_parameters,
        **model.hyper_parameters,
    }
    if chosen.get("embedding_learning_rate", 0.0) is None:
        chosen["embedding_learning_rate"] = training.learning_rate
    return tuple((_NAMES.get(name, name.replace("_", " ")), _text(v)) for name, v in chosen.items())


def _text(value: Scalar | tuple[Scalar, ...]) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else _METRICS.get(str(value), str(value))
