"""The schema of a table: its key, its label and the kind of every feature, as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isthmus.data.labels import parse_label
from isthmus.errors import SchemaError
from isthmus.files import write_text

Kind = Literal["categorical", "numeric", "multi_hot", "ignore"]


class FeatureSpec(BaseModel):
    """How one column becomes a feature. The short form is the kind alone: `Age: numeric`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Kind
    separator: str | None = Field(default=None, min_length=1)
    """What stands between the tokens of a multi-hot text; not needed for a column of lists."""
    min_count: int = Field(default=1, ge=1)
    """A value seen in fewer training rows is encoded as unknown."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of a row that are kept; None keeps the most seen in a training row."""
    buckets: int | None = Field(default=None, ge=2)
    """Hash the values into this many buckets instead of keeping a vocabulary."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_fit_kind(self) -> Self:
        tokens = self.separator is not None or self.max_tokens is not None
        if tokens and self.kind != "multi_hot":
            raise ValueError("separator and max_tokens belong to the kind multi_hot")
        if self.buckets is not None and self.kind not in ("categorical", "multi_hot"):
            raise ValueError("buckets belongs to the kinds categorical and multi_hot")
        if self.min_count > 1 and (self.buckets is not None or self.kind in ("numeric", "ignore")):
            raise ValueError("min_count needs a vocabulary: categorical or multi_hot, no buckets")
        return self

    def short(self) -> str | dict[str, Any]:
        """The shortest form that reads back as this spec."""
        full = self.model_dump(exclude_defaults=True)
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
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


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


def describe_errors(error: ValidationError) -> str:
    """Pydantic's findings as `field: what is wrong`, one after the other."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: "
        f"{item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )
