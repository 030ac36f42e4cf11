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
from isthmus.jobs.job import Job, load_job
from isthmus.jobs.spec_parts import Count, Part

_SEARCHED = re.compile(
    r"train\.(?!metric$|device$|tensorboard$)[\w.]+|parties\.[^.]+\.(features|guards)\..+"
)
"""Fields that may differ between trials. Not those that decide which samples the metric is taken of
or what it is, since trials would then not be comparable, and not local ones.
"""

_SAID = {
    "missing": "is missing",
    "extra_forbidden": "no such field",
    "model_type": "give low and high, or choice",
    "dict_type": "should hold fields, each with low and high, or with choice",
}
"""What pydantic's findings mean in this file."""


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
        for name in self.space:
            if _SEARCHED.fullmatch(name) is None:
                raise ValueError(
                    f"{name} cannot be searched: only fields of train, but its metric and local "
                    "ones, and parties' features and guards can"
                )
        return self


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


def check_space(space: Space, job: Path, overrides: tuple[str, ...], source: Path) -> None:
    """See that each value can stand in the job by itself, before hours are spent.

    Raises:
        JobError: a field does not exist, or a value is not one of it.
    """
    for name, values in space.space.items():
        for value in values.ends:
            try:
                load_job(job, (*overrides, *as_overrides({name: value})))
            except JobError as error:
                said = error.message.replace("--set ", f"{source}: ")
                raise JobError(said, mend=error.mend) from error


def as_overrides(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The values as `field=value`, as after `--set`."""
    return tuple(f"{name}={_as_yaml(value)}" for name, value in values.items())


def is_comparable(job: Job) -> None:
    """See that a training of the job ends in a validation metric. Raises JobError."""
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
