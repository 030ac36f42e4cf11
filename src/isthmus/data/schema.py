"""The schema of a table: its key, its label and the kind of every feature, as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.config import JsonDict

from isthmus.data.labels import parse_label
from isthmus.errors import SchemaError
from isthmus.files import write_text

Kind = Literal[
    "categorical",
    "numeric",
    "multi_hot",
    "sequence",
    "vector",
    "text",
    "collaborative",
    "ignore",
]

LOCAL: JsonDict = {"local": True}
"""Marks a field of a job file as a party's own affair: not agreed, not hashed."""

_BELONGS: dict[str, tuple[Kind, ...]] = {
    "separator": ("multi_hot", "sequence", "vector"),
    "min_count": ("categorical", "multi_hot", "sequence"),
    "max_tokens": ("multi_hot",),
    "buckets": ("categorical", "multi_hot", "sequence"),
    **dict.fromkeys(("of", "by", "time", "at", "where", "length", "share"), ("sequence",)),
    "events": ("sequence",),
    "width": ("vector", "text"),
    **dict.fromkeys(("user", "item", "neighbours"), ("collaborative",)),
}
"""Which kinds a field of `FeatureSpec` belongs to."""


class FeatureSpec(BaseModel):
    """How one column becomes a feature. The short form is the kind alone: `Age: numeric`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Kind
    """What the column holds: a category, a number, a set of categories, a sequence of them, a
    vector of numbers, or a text. `collaborative`: no column, but what earlier labels say of the
    sample's user and item. `ignore`: it is not used."""
    separator: str | None = Field(default=None, min_length=1)
    """What stands between the parts of a text: tokens, items or numbers; not needed for a column of
    lists."""
    min_count: int = Field(default=1, ge=1)
    """A value seen in fewer training rows is encoded as unknown."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of a row that are kept; None keeps the most seen in a training row."""
    buckets: int | None = Field(default=None, ge=2)
    """Hash the values into this many buckets instead of keeping a vocabulary."""
    width: int | None = Field(default=None, ge=1, le=65536)
    """Numbers of a vector, or that a text is brought to: 128 where left out."""
    length: int = Field(default=50, ge=1, le=4096)
    """The most items of a sequence that are kept, the newest."""
    share: str | None = None
    """The categorical feature here whose vocabulary and vectors the items of a sequence have."""
    of: str | None = None
    """The column of items in the events that a sequence is built from, its history; where left out
    the column itself holds the sequence."""
    by: str | None = None
    """Whose events they are: a column both of the events and of the table."""
    time: str | None = None
    """The events' time: only those strictly before a row's own count."""
    at: str | None = None
    """The column of a row's own time; where left out `time` if the table has it, else the time that
    the label party shares."""
    where: str | None = None
    """Which events count: a condition as that of a label, `Rating > 3`."""
    events: Path | None = Field(default=None, json_schema_extra=LOCAL)
    """The table of events, relative to the job file; the party's own table where left out.
    Local."""

    user: str | None = None
    """The column of users whose labels are compared, at the label party."""
    item: str | None = None
    """The column of items that they are compared on."""
    neighbours: int = Field(default=50, ge=1, le=1000)
    """Of each item the most similar ones that count."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_fit_kind(self) -> Self:
        # A default that is written out says nothing.
        for name in self.model_dump(exclude_defaults=True):
            kinds = _BELONGS.get(name, (self.kind,))
            if self.kind not in kinds:
                many = "kinds" if len(kinds) > 1 else "kind"
                raise ValueError(f"{name} belongs to the {many} {' and '.join(kinds)}")
        if self.min_count > 1 and self.buckets is not None:
            raise ValueError("min_count needs a vocabulary: no buckets")
        if self.kind == "vector" and self.width is None:
            raise ValueError("a vector needs its width")
        if self.kind == "collaborative" and None in (self.user, self.item):
            raise ValueError("collaborative needs the columns of its `user` and its `item`")
        if self.kind == "sequence":
            self._check_sequence()
        return self

    def _check_sequence(self) -> None:
        if self.share is not None and (self.min_count > 1 or self.buckets is not None):
            raise ValueError("share takes the other feature's vocabulary: no min_count, no buckets")
        if self.of is None:
            of_events = ("by", "time", "at", "where", "events")
            if given := [name for name in of_events if getattr(self, name) is not None]:
                raise ValueError(f"{given[0]} is for a sequence built from events: say `of`")
            return
        if self.separator is not None:
            raise ValueError("separator is for a sequence that a column holds: not with `of`")
        for name in ("by", "time"):
            if getattr(self, name) is None:
                raise ValueError(f"a sequence built from events needs `{name}`")
        if self.where is not None:
            try:
                parse_label(self.where)
            except SchemaError as error:
                raise ValueError(str(error)) from error

    @property
    def event_columns(self) -> tuple[str, ...]:
        """The columns that a history needs of its events, each once; none for other features."""
        if self.of is None:
            return ()
        where = parse_label(self.where).columns if self.where else ()
        columns = (self.of, self.by, self.time, *where)
        return tuple(dict.fromkeys(column for column in columns if column is not None))

    @property
    def made(self) -> bool:
        """Whether it is made of other columns, so that its name is none."""
        return self.of is not None or self.kind == "collaborative"

    def short(self) -> str | dict[str, Any]:
        """The shortest form that reads back as this spec."""
        full = self.model_dump(mode="json", exclude_defaults=True)
        return self.kind if set(full) == {"kind"} else full


class Schema(BaseModel):
    """What a table is for a job: `key` names its id columns, `features` the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: tuple[str, ...] = ()
    """The id columns, several for a composite key; a single name may be written as text."""
    label: str | None = None
    """A label expression, at the label party alone."""
    features: dict[str, FeatureSpec] = Field(default_factory=dict)

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else () if value is None else value

    @field_validator("label")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_label(value)
            except SchemaError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _one_use_per_column(self) -> Self:
        for name in self.key:
            if self.features.get(name, _IGNORE).kind != "ignore":
                raise ValueError(f"{name!r} is a key and cannot be a feature as well")
        if self.label is not None:
            column = parse_label(self.label).column
            if self.features.get(column, _IGNORE).kind != "ignore":
                raise ValueError(f"{column!r} makes the label and cannot be a feature as well")
        return self

    def used(self) -> dict[str, FeatureSpec]:
        """The features that are not ignored."""
        return {name: spec for name, spec in self.features.items() if spec.kind != "ignore"}

    def to_yaml(self) -> str:
        """The schema as YAML, features in short form where nothing is lost."""
        content: dict[str, Any] = {}
        if self.key:
            content["key"] = self.key[0] if len(self.key) == 1 else list(self.key)
        if self.label is not None:
            content["label"] = self.label
        content["features"] = {name: spec.short() for name, spec in self.features.items()}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        # PyYAML writes these line breaks as they are, and reads them as others.
        if any(sign in text for sign in "\x85\u2028\u2029"):
            return yaml.safe_dump(content, sort_keys=False)
        return text


_IGNORE = FeatureSpec(kind="ignore")


def parse_schema(content: Any, *, source: str) -> Schema:
    """A schema from the plain content of a YAML or JSON file.

    Raises:
        SchemaError: each wrong field is named with what is wrong.
    """
    try:
        return Schema.model_validate(content)
    except ValidationError as error:
        raise SchemaError(f"{source} is not a valid schema: {describe_errors(error)}") from error


def parse_features(
    features: Mapping[str, FeatureSpec | str | dict[str, Any]], *, source: str = "the job"
) -> dict[str, FeatureSpec]:
    """Feature specs from their full or short forms.

    Raises:
        SchemaError: each wrong field is named with what is wrong.
    """
    return parse_schema({"features": dict(features)}, source=source).features


def load_schema(path: Path) -> Schema:
    """Read a schema from a YAML file.

    Raises:
        SchemaError: the file cannot be read, is no YAML, or is not a valid schema.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"cannot read the schema {path}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SchemaError(f"{path}{line}: not valid YAML") from error
    return parse_schema(content, source=str(path))


def save_schema(schema: Schema, path: Path) -> None:
    """Write a schema as YAML, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    write_text(path, schema.to_yaml())


def source_columns(features: Mapping[str, FeatureSpec]) -> list[str]:
    """The columns that features need of the party's own table, each once.

    Without the column of a row's own time where it is not said (`FeatureSpec.at`): the table may
    have it or not.
    """
    columns: list[str] = []
    for name, feature in features.items():
        if not feature.made:
            columns.append(name)
            continue
        if feature.kind == "collaborative":
            columns += [str(feature.user), str(feature.item)]
            continue
        own = feature.event_columns if feature.events is None else (feature.by,)
        columns += [column for column in (*own, feature.at) if column is not None]
    return list(dict.fromkeys(columns))


def text_columns(features: Mapping[str, FeatureSpec]) -> list[str]:
    """The columns whose values are read as text, so that the zero of one like 007 is not lost."""
    columns = [
        name
        for name, one in features.items()
        # A list such as 3,17 is no number with a decimal comma.
        if one.kind in ("categorical", "text") or (one.separator == "," and not one.made)
    ]
    made = [one for one in features.values() if one.kind == "collaborative"]
    ids = [column for one in made for column in (one.user, one.item) if column is not None]
    return list(dict.fromkeys([*columns, *ids]))


def describe_errors(error: ValidationError) -> str:
    """Pydantic's findings as `field: what is wrong`, one after the other."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: "
        f"{item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )
