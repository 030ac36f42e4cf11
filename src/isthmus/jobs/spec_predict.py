"""The part of a job file about predictions: of which rows, by which model, for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from isthmus.jobs.spec_analysis import SECTION
from isthmus.jobs.spec_parts import Name, Part, misplaced

if TYPE_CHECKING:
    from isthmus.jobs.spec import JobSpec

_FOLDER = r"^[a-z0-9][a-z0-9_-]{0,31}-[0-9a-f]{8}$"
"""What the folder of a job is called."""


class PredictSpec(Part):
    """Which samples the label party gets predictions for."""

    rows: Literal["none", "test", "all"] = "test"
    """`test`: the held-out samples. `all`: every aligned sample. `none`: no predictions."""
    model: Annotated[str, StringConstraints(pattern=_FOLDER)] | None = Field(
        default=None, json_schema_extra=SECTION
    )
    """An earlier job, by its folder, such as `credit-1a2b3c4d`: its model is applied to all aligned
    rows, and nothing is trained."""
    to: tuple[Name, ...] = Field(default=(), json_schema_extra=SECTION)
    """Feature parties that get the predictions as well as the label party."""


def check_prediction(spec: JobSpec) -> None:
    """See that predictions can go where they should, and an earlier model be applied.

    Raises:
        PydanticCustomError: at the place in the job file.
    """
    for name in spec.predict.to:
        if name not in spec.feature_parties:
            known = ", ".join(spec.feature_parties)
            raise misplaced(("predict", "to"), f"{name!r} is not one of {known}")
    if spec.predict.to and (spec.predict.rows == "none" or spec.label.kind == "multiclass"):
        said = "needs predictions" if spec.predict.rows == "none" else "needs a number a sample"
        raise misplaced(("predict", "to"), said)
    if not spec.applies:
        return
    place = ("predict", "model")
    if spec.learns == "nothing" or spec.predict.rows == "none":
        raise misplaced(place, "there is nothing to predict in this job")
    if spec.train.model.retrieval is not None:
        raise misplaced(place, "a two-tower model cannot be applied to other rows yet")
    for party, about in spec.parties.items():
        for name, feature in (about.features or {}).items():
            if feature.made or feature.of is not None:
                said = (
                    f"{name!r} is made of events: predict.model cannot build it for other rows yet"
                )
                raise misplaced(("parties", party, "features", name), said)
