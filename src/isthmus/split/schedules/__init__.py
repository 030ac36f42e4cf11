"""When batches are sent, waited for and applied: one small class a schedule, on the same sides."""

from isthmus.split.schedules.adaptive import Adaptive
from isthmus.split.schedules.auto import Auto
from isthmus.split.schedules.base import Schedule
from isthmus.split.schedules.exact import Exact, Microbatch
from isthmus.split.schedules.local import Local
from isthmus.split.schedules.names import make_schedule
from isthmus.split.schedules.pipeline import Pipeline

__all__ = [
    "Adaptive",
    "Auto",
    "Exact",
    "Local",
    "Microbatch",
    "Pipeline",
    "Schedule",
    "make_schedule",
]
