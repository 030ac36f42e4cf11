"""What a run is asked to do, and how names and texts become algorithms and settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from isthmus.errors import JobError
from isthmus.fedrec.algorithms import algorithm
from isthmus.fedrec.backbones import backbone
from isthmus.fedrec.method import Algorithm, Method
from isthmus.fedrec.privacy.fits import check
from isthmus.fedrec.task import Model, Task
from isthmus.fedrec.training import LocalTraining


@dataclass(frozen=True)
class Recipe:
    """An algorithm with its backbone and all its numbers."""

    algorithm: Algorithm
    backbone: str | None
    settings: Any
    training: LocalTraining | None

    def build(self, task: Task) -> Method:
        """The method on `task`.

        Raises:
            JobError: guards of the task do not reach all that the algorithm sends.
        """
        model = None
        if self.backbone is not None and self.training is not None:
            model = Model.new(backbone(self.backbone), self.training, task)
        method = self.algorithm.build(task, self.settings, model)
        check(self.algorithm, method)
        return method

    def values(self) -> dict[str, Any]:
        """All numbers by name, for the record."""
        parts = [self.settings] + ([self.training] if self.training else [])
        return {one.name: getattr(part, one.name) for part in parts for one in fields(part)}


def recipe(
    name: str, backbone_name: str | None = None, sets: Mapping[str, object] | None = None
) -> Recipe:
    """The recipe for an algorithm; `sets` changes its numbers or those of the clients' training.

    Raises:
        JobError: the algorithm, the backbone or a field does not exist, or a value does not fit.
    """
    found = algorithm(name)
    chosen = _backbone(found, backbone_name)
    changes = dict(sets or {})
    own = {one.name for one in fields(found.settings)}
    settings = _made(found.settings, {}, {k: v for k, v in changes.items() if k in own})
    training = None
    share = getattr(settings, "share", 1.0)
    if not 0 < share <= 1:
        raise JobError(f"share must lie above 0 and be at most 1: it is {share:g}")
    rest = {k: v for k, v in changes.items() if k not in own}
    if chosen is not None:
        usual = found.training.get(chosen, LocalTraining())
        known = {one.name: getattr(usual, one.name) for one in fields(LocalTraining)}
        training = _made(LocalTraining, known, {k: v for k, v in rest.items() if k in known})
        rest = {k: v for k, v in rest.items() if k not in known}
        own |= known.keys()
    if rest:
        raise JobError(
            f"{found.name} has no field {sorted(rest)[0]!r}",
            mend=f"It has {', '.join(sorted(own)) or 'none'}.",
        )
    return Recipe(found, chosen, settings, training)


def _backbone(found: Algorithm, wanted: str | None) -> str | None:
    if not found.backbones:
        if wanted is not None:
            raise JobError(f"{found.name} takes no backbone", mend="Leave --backbone out.")
        return None
    if wanted is not None and wanted not in found.backbones:
        raise JobError(
            f"{found.name} does not work with the backbone {wanted!r}",
            mend=f"It works with {', '.join(found.backbones)}.",
        )
    return wanted or found.backbones[0]


def _made(kind: type[Any], known: dict[str, Any], changes: dict[str, Any]) -> Any:
    """A frozen dataclass with some fields changed, values checked against their types."""
    try:
        made = TypeAdapter(kind).validate_python(known | changes)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise JobError(f"the value of {field or 'a field'} does not fit: {first['msg']}") from error
    for field in changes:
        value = getattr(made, field)
        # NaN is not below any bound, and a defence of NaN would be none.
        if isinstance(value, float) and not math.isfinite(value):
            raise JobError(f"the value of {field} does not fit: it must be a finite number")
    return made


def parse_sets(texts: Iterable[str]) -> dict[str, object]:
    """`FIELD=VALUE` texts as a dict.

    Raises:
        JobError: a text has no `=`.
    """
    return dict(_parted(text, "FIELD=VALUE", "epochs=3") for text in texts)


def parse_columns(texts: Iterable[str]) -> dict[str, str]:
    """The `WHAT=NAME` texts of `--column` as a dict.

    Raises:
        JobError: a text has no `=`.
    """
    return dict(_parted(text, "WHAT=NAME", "user=listener") for text in texts)


def _parted(text: str, form: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise JobError(f"{text!r} is not of the form {form}", mend=f"Such as {example}.")
    return name.strip(), value.strip()
