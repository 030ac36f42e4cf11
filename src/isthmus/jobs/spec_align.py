"""The part of a job file about the rows that the parties have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from isthmus.align import Rule
from isthmus.jobs.spec_analysis import SECTION
from isthmus.jobs.spec_parts import Part, misplaced

if TYPE_CHECKING:
    from isthmus.jobs.spec import JobSpec


class NormaliseSpec(Part):
    """How the values of a column of the key are written before they are compared."""

    kind: Literal["text", "name", "email", "phone", "national_id"]
    """`text`: lower case, single spaces. `name`: so too, without accents and marks. `email`: lower
    case, without spaces and a display name. `phone`: digits, the country's code first.
    `national_id`: letters and digits alone, in capitals."""
    country: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}$")] | None = None
    """Of `phone`: the calling code of numbers that are written without one, such as `'49'`."""
    trunk: Annotated[str, StringConstraints(pattern=r"^[0-9]{0,2}$")] = "0"
    """Of `phone`: what is dialled before a number within the country: `'0'` in most, `'1'` in North
    America, `''` in Italy or Spain."""
    gmail: bool = False
    """Of `email`: whether dots and what follows a + are left out in addresses of gmail.com."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "phone" and self.country is None:
            raise ValueError("phone needs the country whose numbers are written without its code")
        if self.kind != "phone" and (self.country is not None or self.trunk != "0"):
            raise ValueError("country and trunk belong to phone")
        if self.kind != "email" and self.gmail:
            raise ValueError("gmail belongs to email")
        return self

    @property
    def rule(self) -> Rule:
        """As `align` takes it."""
        return Rule(self.kind, country=self.country or "", trunk=self.trunk, gmail=self.gmail)


class AlignSpec(Part):
    """How the parties find the rows they have in common."""

    key: str | tuple[str, ...] = "ID"
    """The id column, or columns of a composite id."""
    protocol: Literal["ecdh", "kkrt", "rr22", "rsa-blind"] = "ecdh"
    """Private set intersection: `ecdh` by Diffie-Hellman on Curve25519; `kkrt` by oblivious
    transfer, many times faster, for parties that trust each other to keep to the protocol; `rr22`
    by SecretFlow's `spu`, in an environment of its own, with a third of the bytes of `kkrt`;
    `rsa-blind` by blind RSA signatures, many times slower."""
    keys: Literal["row", "entity"] = "row"
    """`row`: one row per id on both sides. `entity`: many rows per id at the label party."""
    rows: Literal["common", "label"] = Field(default="common", json_schema_extra=SECTION)
    """`common`: the samples are rows of ids that all parties have. `label`: they are all rows of
    the label party, and what a feature party does not have is missing."""
    normalise: dict[str, NormaliseSpec] = Field(default={}, json_schema_extra=SECTION)
    """How columns of `align.key` are written alike before they are compared; `Mail: email` in
    short."""
    duplicates: Literal["refuse", "drop"] = "refuse"
    """What to do with an id that stands twice."""
    nulls: Literal["refuse", "drop"] = "refuse"
    """What to do with rows that have no id."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the key as the job calls them."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def rules(self) -> tuple[Rule | None, ...]:
        """A rule for each column of the key, or none at all."""
        if not self.normalise:
            return ()
        given = {name: spec.rule for name, spec in self.normalise.items()}
        return tuple(given.get(name) for name in self.columns)


def check_alignment(spec: JobSpec) -> None:
    """See that what is normalised is a key, and that what is missing can be.

    Raises:
        PydanticCustomError: at the place in the job file.
    """
    for name in spec.align.normalise:
        if name not in spec.align.columns:
            known = ", ".join(spec.align.columns)
            raise misplaced(("align", "normalise"), f"{name!r} is no column of align.key: {known}")
    if spec.align.rows != "label":
        return
    place = ("align", "rows")
    if spec.tower_parties or spec.train.model.retrieval is not None:
        raise misplaced(place, "'label' is not for two towers, nor for labels at several parties")
    if spec.predict.to:
        raise misplaced(("predict", "to"), "cannot be had with align.rows: label")
    for party in spec.feature_parties:
        for name, feature in (spec.parties[party].features or {}).items():
            if feature.made or feature.kind == "sequence":
                said = f"{name!r} is a sequence, which cannot be missing: align.rows must be common"
                raise misplaced(("parties", party, "features", name), said)
