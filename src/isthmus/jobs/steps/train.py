"""Step `train`: train the split network, or what the job has in place of one.

Files: `bottom.safetensors`, at the label party `top.safetensors`, at a tower party
`tower.safetensors` (the best epoch's parameters), `result.json`, the metrics of each epoch as JSON
lines, and `checkpoints/`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import nn

from isthmus.errors import StorageError
from isthmus.files import write_bytes, write_json
from isthmus.jobs.context import Context
from isthmus.jobs.learners import learner_of
from isthmus.jobs.steps import encode
from isthmus.jobs.targets import load_targets
from isthmus.jobs.training import bottom_of, data_of, options_of, top_of, tower_of
from isthmus.models import EmbeddingTable
from isthmus.models.hybrid import HybridTop
from isthmus.split import train

RESULT = "result.json"


def run(context: Context) -> None:
    """Train with the partners. Raises TrainError, JobError, LinkError, StorageError."""
    if (learner := learner_of(context.spec)) is not None:
        learner.train(context)
        return
    folder = context.step("train")
    inputs = context.step("encode").path
    features = encode.load(inputs)
    bottom, top = modules_of(context)
    tower = tower_of(context.spec, context.session, load_targets(inputs).tasks)
    has_labels = context.is_label_party or tower is not None
    result = train(
        replace(context.session, folder=folder.path),
        split=encode.split_of(context, len(features)),
        bottom=bottom,
        data=data_of(context.spec, features) if bottom is not None else None,
        top=top,
        labels=encode.load_labels(inputs) if has_labels else None,
        options=options_of(context.spec),
        signer=context.signer,
        targets=load_targets(inputs),
        judge=context.judge,
        tower=tower,
    )
    parts = [("bottom", bottom), ("top", top), ("tower", tower)]
    for name, module in parts:
        if module is not None:
            save_module(module, folder.file(f"{name}.safetensors"))
    counts = [_count(name, module) for name, module in parts if module is not None]
    facts = asdict(result) | {"parts": counts, "samples_per_second": result.samples_per_second}
    facts["blend"] = top.weights() if isinstance(top, HybridTop) else {}
    write_json(folder.file(RESULT), facts)
    context.log.info("trained", epochs=len(result.epochs), best_epoch=result.best_epoch)


def modules_of(context: Context) -> tuple[nn.Module | None, nn.Module | None]:
    """This party's bottom, if it has features, and the label party's top, with initial values."""
    features = encode.load(context.step("encode").path)
    spec, session = context.spec, context.session
    tasks = load_targets(context.step("encode").path).tasks
    return bottom_of(spec, session, features.layout), top_of(spec, session, tasks)


def trained_modules(context: Context) -> tuple[nn.Module | None, nn.Module | None]:
    """The same with the parameters that training left."""
    bottom, top = modules_of(context)
    folder = context.trained("train")
    for name, module in (("bottom", bottom), ("top", top)):
        if module is not None:
            load_module(module, folder.file(f"{name}.safetensors"))
    return bottom, top


def trained_tower(context: Context) -> nn.Module | None:
    """The tower that training left at a tower party; None elsewhere."""
    tasks = load_targets(context.step("encode").path).tasks
    tower = tower_of(context.spec, context.session, tasks)
    if tower is not None:
        load_module(tower, context.trained("train").file("tower.safetensors"))
    return tower


def save_module(module: nn.Module, path: Path) -> None:
    """Write a module's state as safetensors. Raises StorageError."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_bytes(path, save(state))


def load_module(module: nn.Module, path: Path) -> None:
    """Read what `save_module` wrote. Raises StorageError."""
    try:
        module.load_state_dict(load(path.read_bytes()))
    except (OSError, RuntimeError, ValueError) as error:
        raise StorageError(
            f"{path} does not hold this model", mend="Run the job again without --resume."
        ) from error
    module.eval()


def _count(name: str, module: nn.Module) -> dict[str, Any]:
    tables = [part.weight.numel() for part in module.modules() if isinstance(part, EmbeddingTable)]
    total = sum(parameter.numel() for parameter in module.parameters())
    return {
        "name": name,
        "dense_parameters": total - sum(tables),
        "sparse_parameters": sum(tables),
    }
