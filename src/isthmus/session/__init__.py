"""A job as one party sees it, and the way to run all parties in one process."""

from isthmus.session.local import run_parties
from isthmus.session.progress import Progress, SilentProgress, Task
from isthmus.session.session import PATIENCE, Session

__all__ = ["PATIENCE", "Progress", "Session", "SilentProgress", "Task", "run_parties"]
