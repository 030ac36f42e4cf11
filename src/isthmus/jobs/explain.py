"""pydantic's findings as one error that names file, line and field and says how to mend it."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from isthmus.errors import JobError
from isthmus.jobs.document import Document, Place
from isthmus.jobs.spec import JobSpec

LIMIT = 5
"""More findings than this are counted, not printed."""

_NAME = ("a name", "Use small letters, digits, - and _; begin with a letter or digit.")
_GUARD = ("a guard", "Such as int8, or topk:0.25+int8.")
_PATTERNS = {
    "cut": _GUARD,
    "gradient": _GUARD,
    "model": (
        "the name of a job's folder",
        "Such as credit-1a2b3c4d, without a path: --out names the folder in which it lies.",
    ),
    "schedule": ("a schedule", "Such as exact, pipeline:4 or auto."),
}
"""What a text should be that does not look like it, by its field; elsewhere a name."""


def explain(error: ValidationError, document: Document) -> JobError:
    """All findings as one JobError, a line each."""
    told = error.errors()
    findings = [_finding(details, document) for details in told if not _follows(details, told)]
    if len(findings) == 1:
        return JobError(findings[0][0], mend=findings[0][1])
    lines = [f"{said}. {mend}".rstrip(" .") for said, mend in findings[:LIMIT]]
    if len(findings) > LIMIT:
        lines.append(f"and {len(findings) - LIMIT} more")
    return JobError("\n".join(lines))


def _follows(details: ErrorDetails, told: list[ErrorDetails]) -> bool:
    """Whether another finding is the cause, so that this one would tell nothing.

    A default that waits for another field's value; a list that is too short without its bad ones.
    """
    if details["type"] == "too_short":
        place = details["loc"]
        return any(other["loc"][: len(place)] == place != other["loc"] for other in told)
    return details["type"] == "default_factory_not_called"


def _finding(details: ErrorDetails, document: Document) -> tuple[str, str]:
    place = _place(details, document)
    said, mend = _say(details, place)
    return f"{document.where(place)}: {said}", mend


def _place(details: ErrorDetails, document: Document) -> Place:
    if details["type"] == "job":
        return tuple(details["ctx"]["place"])
    place: list[str | int] = []
    for name in details["loc"]:
        # A union's branch and a mapping's key check are pydantic's own steps, not the file's.
        if name == "[key]" or (isinstance(name, str) and "[" in name) or _is_branch(name):
            continue
        place.append(name)
    return tuple(place)


def _is_branch(name: str | int) -> bool:
    return name in ("str", "int", "float", "list", "tuple")


def _say(details: ErrorDetails, place: Place) -> tuple[str, str]:
    given = details["input"]
    match details["type"]:
        case "extra_forbidden":
            return "no such field", _similar(str(place[-1]), _fields_at(place[:-1]))
        case "missing":
            return "is missing", f"Add `{place[-1]}:` to the job file."
        case "literal_error":
            return _not_one_of(given, details["ctx"]["expected"])
        case "string_pattern_mismatch":
            what, mend = _PATTERNS.get(str(place[-1]), _NAME)
            return f"{given!r} is not {what}", mend
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must hold fields, not a value", ""
        case _:
            return _plain(details["msg"], given), ""


def _not_one_of(given: Any, expected: str) -> tuple[str, str]:
    words = expected.replace(" or ", ", ").replace("'", "").split(", ")
    if len(words) == 1:
        return f"{given!r} is not {words[0]}", f"Write {words[0]}."
    # The known words stand in the sentence already.
    return f"{given!r} is not one of {', '.join(words)}", _close(str(given), words)


def _plain(message: str, given: Any) -> str:
    message = message.removeprefix("Value error, ")
    if message.startswith("Input "):
        return f"{given!r} {message.removeprefix('Input ')}" if _is_scalar(given) else message
    return message


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


def _similar(word: str, words: Iterable[str]) -> str:
    known = list(words)
    return _close(word, known) or (f"Known here: {', '.join(known)}." if known else "")


def _close(word: str, known: list[str]) -> str:
    """The known word that was meant, if one is near."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{folded[close[0]]}'?"
    return ""


def _fields_at(place: Place) -> list[str]:
    """The names of the fields that may stand at `place` of a job file."""
    kind: Any = JobSpec
    for name in place:
        kind = _below(kind, name)
    return list(kind.model_fields) if _is_model(kind) else []


def _below(kind: Any, name: str | int) -> Any:
    if _is_model(kind):
        info = kind.model_fields.get(str(name))
        return None if info is None else _plain_type(info.annotation)
    if get_origin(kind) is dict:
        return _plain_type(get_args(kind)[1])
    return None


def _plain_type(kind: Any) -> Any:
    """`kind` without Annotated and Optional."""
    if hasattr(kind, "__metadata__"):
        return _plain_type(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return next((_plain_type(k) for k in get_args(kind) if k is not type(None)), None)
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
