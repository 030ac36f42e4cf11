"""When batches are sent, waited for and applied: one small class a schedule, on the same sides."""

from isthmus.split.schedules.base import Schedule
from isthmus.split.schedules.exact import Exact, Microbatch
from isthmus.split.schedules.names import make_schedule
from isthmus.split.schedules.pipeline import Pipeline

__all__ = ["Exact", "Microbatch", "Pipeline", "Schedule", "make_schedule"]
