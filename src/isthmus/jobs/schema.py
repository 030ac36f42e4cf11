"""The JSON schema of job files, for editors, and the field reference in the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from isthmus.jobs.spec import JobSpec
from isthmus.jobs.spec_analysis import Analysis


def schema_text() -> str:
    """The JSON schema of job files, as published in docs/job.schema.json."""
    schema = _schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Isthmus job file"
    definitions = schema["$defs"]
    # The short form `Age: numeric` that these models accept beside the mapping.
    for name in ("FeatureSpec", "NormaliseSpec"):
        kinds = definitions[name]["properties"]["kind"]
        definitions[name] = {"anyOf": [kinds, definitions[name]]}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema() -> dict[str, Any]:
    """The sections about tables behind those that every job has."""
    schema = JobSpec.model_json_schema()
    last = {name: schema["properties"].pop(name) for name in Analysis.model_fields}
    schema["properties"] |= last
    return schema


def field_reference() -> str:
    """All fields of a job file as Markdown tables, one for each part."""
    schema = _schema()
    parts = {"JobSpec": schema, **schema["$defs"]}
    order = [name for name in TITLES if name in parts]
    return "\n".join(_table(parts[name], name, parts) for name in order)


TITLES = {
    "JobSpec": "The job",
    "PartySpec": "`parties.<name>`",
    "PartyGuardsSpec": "`parties.<name>.guards`",
    "FeatureSpec": "`parties.<name>.features.<column>`",
    "LabelSpec": "`label`",
    "TargetSpec": "`label.also.<name>`",
    "AlignSpec": "`align`",
    "NormaliseSpec": "`align.normalise.<column>`",
    "SplitSpec": "`split`",
    "TrainSpec": "`train`",
    "ModelSpec": "`train.model`",
    "CrossSpec": "`train.model.cross`",
    "AttentionSpec": "`train.model.attention`",
    "ExpertsSpec": "`train.model.experts`",
    "RetrievalSpec": "`train.model.retrieval`",
    "HybridSpec": "`train.model.hybrid`",
    "GuardsSpec": "`train.guards`",
    "EvaluateSpec": "`evaluate`",
    "PredictSpec": "`predict`",
    "CleanSpec": "`parties.<name>.clean.<column>`",
    "OwnBinSpec": "`parties.<name>.bins.<column>`",
    "ProfileSpec": "`profile`",
    "BinSpec": "`bin`",
    "CorrelationSpec": "`correlation`",
    "PcaSpec": "`pca`",
    "LinearSpec": "`linear`",
    "TreesSpec": "`trees`",
    "ScorecardSpec": "`scorecard`",
}


def _table(part: dict[str, Any], name: str, parts: dict[str, Any]) -> str:
    lines = [f"### {TITLES[name]}", "", "| field | values | default | meaning |"]
    lines.append("|---|---|---|---|")
    required = part.get("required", [])
    for field, about in part["properties"].items():
        default = "required" if field in required else _default(about)
        meaning = _meaning(about, parts).replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{field}` | {_values(about)} | {default} | {meaning} |")
    return "\n".join([*lines, ""])


def _meaning(about: dict[str, Any], parts: dict[str, Any]) -> str:
    """The field's own description, else that of the part it holds."""
    held = parts.get(about.get("$ref", "").rpartition("/")[2], {})
    return str(about.get("description") or held.get("description", ""))


def _default(about: dict[str, Any]) -> str:
    value = about.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{json.dumps(value)}`"


def _as_written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _values(about: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_kinds(about)))


def _kinds(about: dict[str, Any]) -> Iterator[str]:
    if "anyOf" in about:
        for option in about["anyOf"]:
            yield from _kinds(option)
    elif "enum" in about:
        yield ", ".join(f"`{_as_written(value)}`" for value in about["enum"])
    elif "const" in about:
        yield f"`{about['const']}`"
    elif "$ref" in about or about.get("type") == "object":
        yield "fields"
    elif about.get("type") == "array":
        yield "list"
    elif about.get("type") != "null":
        yield {"integer": "whole number", "string": "text"}.get(about["type"], about["type"])
