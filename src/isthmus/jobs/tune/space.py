"""What a search may change: fields of a job, each with a range or a list of values, as YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from isthmus.errors import JobError
from isthmus.jobs.document import parse_value, read_document
from isthmus.jobs.job import Job, changed_job
from isthmus.jobs.spec_parts import Count, Part
from isthmus.link.printable import printable

_SEARCHED = re.compile(
    r"train\.(?!metric$|device$|tensorboard$|model\.retrieval\b)[\w.]+"
    r"|train\.model\.retrieval\.(width|item_fields)"
    r"|trees\.(?!family$)\w+|linear\.(l2|tolerance|rounds)"
    r"|parties\.[^.]+\.(features|guards)\.(?!.*\.events$).+"
)
"""Fields that may differ between trials. Not those that decide which samples the metric is taken of
or what it is, since trials would then not be comparable: of two towers the metric is the loss,
which the temperature and the log-Q correction scale. And not local ones, such as paths, which are
in no hash and which partners are not to be told.
"""

_SAID = {
    "missing": "is missing",
    "extra_forbidden": "no such field",
    "model_type": "give low and high, or choice",
    "dict_type": "should hold fields, each with low and high, or with choice",
}
"""What pydantic's findings mean in this file."""

_LARGEST = 16 << 10
"""Bytes of a search as JSON: it crosses in a message's header."""
_ON_STEP = 1e-6
"""How far from a step a value may lie for rounding, in steps."""


class Values(Part):
    """The values of one field: `low` to `high`, or one of `choice`."""

    low: int | float | None = None
    """The least value; whole numbers are searched where both ends are whole."""
    high: int | float | None = None
    """The greatest value."""
    log: bool = False
    """Search evenly over the logarithm: for what spans orders of magnitude."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Only `low` and steps of this size from it."""
    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """Values of any kind, lists as well."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ends = (self.low, self.high)
        if self.choice is not None:
            if ends != (None, None) or self.log or self.step is not None:
                raise ValueError("give either choice, or low and high")
            # A field below one that may be searched need not be one itself.
            if any(_as_json(value) is None or _holds_fields(value) for value in self.choice):
                raise ValueError("a choice holds numbers, texts, true, false, or lists of them")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choice")
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range begins above 0 and has no step")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether whole numbers are searched."""
        return all(isinstance(x, int) for x in (self.low, self.high, self.step or 1))

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values of a choice, else both ends: what is tried on the job beforehand."""
        return self.choice or (self.low, self.high)

    def admits(self, value: Any) -> bool:
        """Whether a trial may have this value: of the same type as well, 1 is not 1.0 nor true."""
        if self.choice is not None:
            text = _as_json(value)
            return text is not None and text in map(_as_json, self.choice)
        if type(value) is not (int if self.is_whole else float):
            return False
        assert self.low is not None
        assert self.high is not None
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return bool(abs(steps - round(steps)) < _ON_STEP)


class Space(Part):
    """A search: how many trials, over what."""

    trials: Count = 20
    """Trainings in all, those of earlier runs of the same search counted."""
    startup: Count = 5
    """Trials drawn at random and never pruned, before the search looks at what they gave."""
    prune: bool = True
    """Stop a trial after an epoch in which it is worse than the median of the others there."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the search's draws; the job has its own."""
    space: Annotated[dict[str, Values], Field(min_length=1)]
    """The fields, such as `train.learning_rate`."""

    @model_validator(mode="after")
    def _may_be_searched(self) -> Self:
        if len(_as_json(self.agreed()) or "") > _LARGEST:
            raise ValueError(f"a search of more than {_LARGEST >> 10} KiB cannot be agreed on")
        for name in self.space:
            if _SEARCHED.fullmatch(name) is None:
                raise ValueError(
                    f"{name} cannot be searched: only fields of train, parties' features and "
                    "guards can, and none that is local or decides what the metric is"
                )
        return self

    def outside(self, values: Mapping[str, Any]) -> str:
        """Why a trial may not have these values; "" where it may. They may be a partner's."""
        for name in [*self.space, *values]:
            if name not in self.space:
                return f"{printable(name, 80)!r} is not searched"
            if name not in values:
                return f"{name} has no value"
            if not self.space[name].admits(values[name]):
                return f"{name} may not be {_shown(values[name])}"
        return ""

    def agreed(self) -> dict[str, Any]:
        """The search as JSON values: what is compared with the partners'."""
        whole = self.model_dump(mode="json", exclude={"space"})
        fields = {
            name: values.model_dump(mode="json", exclude_defaults=True)
            for name, values in self.space.items()
        }
        return {**whole, "space": fields}

    def differences(self, theirs: Mapping[str, Any], partner: str) -> list[str]:
        """How a partner's `agreed` differs from this one, a sentence each."""
        own = self.agreed()
        fields, others = own.pop("space"), theirs.get("space")
        others = others if isinstance(others, dict) else {}
        rest = {name: one for name, one in theirs.items() if name != "space"}
        searched = _differences(_below("space", fields), _below("space", others), partner)
        return _differences(own, rest, partner) + searched


def load_space(path: Path) -> Space:
    """Read and check the file of a search.

    Raises:
        JobError: naming file, line and field.
    """
    document = read_document(path)
    try:
        return Space.model_validate(document.value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # A union's branch is pydantic's own step, not the file's.
        place = tuple(name for name in first["loc"] if name not in ("int", "float"))
        message = _SAID.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise JobError(f"{document.where(place)}: {message}") from error


def check_space(space: Space, job: Job, source: Path) -> None:
    """See that each value can stand in the job by itself, before hours are spent.

    Raises:
        JobError: a field does not exist, or a value is not one of it.
    """
    for name, values in space.space.items():
        for value in values.ends:
            try:
                changed_job(job, as_overrides({name: value}))
            except JobError as error:
                said = error.message.replace("--set ", f"{source}: ")
                raise JobError(said, mend=error.mend) from error


def as_overrides(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The values as `field=value`, as after `--set`."""
    return tuple(f"{name}={_as_yaml(value)}" for name, value in values.items())


def is_comparable(job: Job) -> None:
    """See that a training of the job ends in a validation metric. Raises JobError."""
    learns = job.spec.learns
    if learns == "nothing" or (learns != "network" and job.spec.label.kind != "binary"):
        said = "trains none" if learns == "nothing" else f"has {learns} of another label"
        raise JobError(
            f"{job.path}: a search is for jobs that train a network, or linear and trees of a "
            f"binary label; this one {said}",
            mend="Run it with `isthmus run`.",
        )
    if job.spec.arbiter is not None:
        raise JobError(
            f"{job.where('linear', 'arbiter')}: an arbiter has no part in a search, and this job "
            "trains with one",
            mend="Search over a copy of the job with `protocol: vectors`, without `arbiter` and "
            "the fields of its steps; or run this one with `isthmus run`.",
        )
    if not job.spec.split.valid:
        raise JobError(
            f"{job.where('split')}: there are no validation samples, by which trials are compared",
            mend="Give split.valid a share, such as 0.1.",
        )


def _as_yaml(value: Any) -> str:
    if isinstance(value, str) and _is_plain(value):
        return value
    text = json.dumps(value)
    # YAML 1.1 takes 1e-05 for text.
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return text


def _is_plain(text: str) -> bool:
    """Whether YAML reads the text as itself without quotes."""
    try:
        return bool(parse_value(text) == text)
    except JobError:
        return False


def _differences(own: Mapping[str, Any], theirs: Mapping[str, Any], partner: str) -> list[str]:
    found = []
    for name in dict.fromkeys([*own, *theirs]):
        if name not in theirs:
            found.append(f"{name} is missing at {partner}")
        elif name not in own:
            found.append(f"{printable(name, 80)} is at {partner} alone")
        elif _as_json(own[name]) != _as_json(theirs[name]):
            here, there = _shown(own[name]), _shown(theirs[name])
            found.append(f"{name} is {here} here and {there} at {partner}")
    return found


def _below(above: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{above}.{name}": value for name, value in fields.items()}


def _holds_fields(value: Any) -> bool:
    """Whether a mapping stands in the value, which has a JSON text."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_fields, value))
    return isinstance(value, dict)


def _as_json(value: Any) -> str | None:
    """The value as one JSON text; None where it has none."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _shown(value: Any) -> str:
    return printable(_as_json(value) or "no value", 80)
