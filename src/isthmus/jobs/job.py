"""A job as read from its file: the spec, where it was read, and the hash the parties agree on."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from isthmus.errors import JobError
from isthmus.jobs.document import Document, Place, parse_document, parse_value, read_document
from isthmus.jobs.explain import explain
from isthmus.jobs.spec import JobSpec


@dataclass(frozen=True)
class Job:
    """A valid job and where its file lies."""

    spec: JobSpec
    path: Path
    """The job file; relative tables are looked up beside it."""
    hash: str
    """SHA-256 (hex) of the canonical JSON of what is agreed."""
    document: Document = field(repr=False, compare=False)
    """The file as read: where each field stands."""

    def where(self, *place: str) -> str:
        """`file:line: a.b.c` of a field, for an error message."""
        return self.document.where(place)

    @property
    def short_hash(self) -> str:
        """The first eight digits, for folder names."""
        return self.hash[:8]

    @property
    def folder_name(self) -> str:
        """The folder of this job's results."""
        return f"{self.spec.name}-{self.short_hash}"

    def table_of(self, party: str) -> Path:
        """The table of `party` as a path that can be opened from here.

        Raises:
            JobError: the job file here names no table for `party`.
        """
        table = self.spec.parties[party].table
        if table is None:
            raise JobError(
                f"{self.where('parties', party)}.table is missing",
                mend=f"Say where {party}'s table lies.",
            )
        return self.path.parent / table.expanduser()


def load_job(path: Path, overrides: Sequence[str] = ()) -> Job:
    """Read and check a job file; `overrides` are `field.path=value` as after `--set`.

    Raises:
        JobError: naming file, line and field, and how to mend it.
    """
    return _job(read_document(path), path, overrides)


def parse_job(text: str, path: Path = Path("job.yaml"), overrides: Sequence[str] = ()) -> Job:
    """Like `load_job`, from text; `path` names it in errors and places its relative tables."""
    return _job(parse_document(text, str(path)), path, overrides)


def changed_job(job: Job, overrides: Sequence[str]) -> Job:
    """`job` with further fields set, as after `--set`; its file is not read again.

    Raises:
        JobError: a field does not exist, or a value is not one of it.
    """
    before = job.document.changed
    document = replace(job.document, value=copy.deepcopy(job.document.value))
    return _job(document, job.path, overrides, before)


def job_hash(spec: JobSpec) -> str:
    """SHA-256 (hex) of the canonical JSON of the agreed part of `spec`."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


def canonical_json(spec: JobSpec) -> str:
    """The agreed part as compact JSON with every default filled in.

    Fields stand in the models' order and mappings in the file's order, since the order of parties
    and columns is part of what is agreed.
    """
    return json.dumps(agreed_part(spec), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def agreed_part(part: BaseModel) -> dict[str, Any]:
    """`part` as JSON values without its local fields, and without sections that are left out."""
    agreed = {}
    for name, info in type(part).model_fields.items():
        marks = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        value = getattr(part, name)
        # A job file of before the section was known has the hash that it had.
        left_out = marks.get("section") and (not value or value == info.default)
        if not marks.get("local") and not left_out:
            agreed[name] = _agreed_value(value)
    return agreed


def _agreed_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return agreed_part(value)
    if isinstance(value, Mapping):
        return {str(key): _agreed_value(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_agreed_value(item) for item in value]
    return value


def _job(
    document: Document, path: Path, overrides: Sequence[str], before: tuple[Place, ...] = ()
) -> Job:
    changed = (*before, *(_apply(document.value, override) for override in overrides))
    document = replace(document, changed=changed)
    try:
        spec = JobSpec.model_validate(document.value)
    except ValidationError as error:
        raise explain(error, document) from error
    return Job(spec, path, job_hash(spec), document)


def _apply(value: dict[str, Any], override: str) -> Place:
    """Set one field; returns its place."""
    place, equals, text = override.partition("=")
    if not equals or not place:
        raise JobError(
            f"--set {override}: not of the form field=value",
            mend="For example: --set train.epochs=3",
        )
    *above, last = names = place.strip().split(".")
    for name in above:
        below = value.setdefault(name, {})
        if not isinstance(below, dict):
            raise JobError(f"--set {place}: {name!r} holds a value, not fields")
        value = below
    value[last] = parse_value(text)
    return tuple(names)
