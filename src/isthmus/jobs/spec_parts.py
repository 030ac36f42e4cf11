"""What the parts of a job file are made of: the base of its models and the types of its values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""A party's or job's name: it becomes a folder and part of a certificate."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Widths = tuple[Count, ...]
Penalty = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the job file: unknown fields are refused and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def misplaced(place: tuple[str, ...], message: str) -> PydanticCustomError:
    """A finding of a validator at another place of the job file than its own."""
    return PydanticCustomError("job", "{message}", {"message": message, "place": place})
