"""The part of a job file about how a party bins its own columns: in its own copy alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from isthmus.jobs.spec_parts import Part

Number = Annotated[float, Field(allow_inf_nan=False)]


class OwnBinSpec(Part):
    """How one column is binned."""

    edges: Annotated[tuple[Number, ...], Field(max_length=255)] = ()
    """Inner edges of a numeric column, rising: it is cut at these whatever `bin.method` says, and
    with none as that says."""
    special: Annotated[tuple[Number | str, ...], Field(max_length=100)] = ()
    """Values with a bin of their own, such as -1 for "never"."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not self.edges and not self.special:
            raise ValueError("name edges or special values")
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError("edges must rise")
        return self
