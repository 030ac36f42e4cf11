"""Which methods run with their clients on devices, and the sums that those of one round need."""

from __future__ import annotations

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec.algorithms._one_round import OneRound, gram
from isthmus.fedrec.algorithms.popularity import popularity
from isthmus.fedrec.method import Algorithm, Method
from isthmus.fedrec.population import Floats
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.shared_table import SharedTable
from isthmus.fedrec.task import Task

LEARNED = {"ease": 2, "item-knn": 2, "popularity": 1}
"""Algorithms of one round that need no more than sums, and how many times M numbers they learn."""


def check_method(method: Method, algorithm: Algorithm) -> Method:
    """`method`, if its clients can be elsewhere.

    Raises:
        JobError: the server of this algorithm needs more than clients send here.
    """
    if isinstance(method, SharedTable):
        kind = type(method)
        if kind.round is SharedTable.round and kind.score is SharedTable.score:
            return method
    elif isinstance(method, OneRound) and algorithm.name in LEARNED:
        return method
    raise JobError(
        f"{algorithm.name} cannot run on devices: its server needs more of each client than the "
        "rows that it trained, or clients keep whole tables",
        mend="Take one with a shared table, such as fedavg, row-wise, pfedrec or fedrap, or ease.",
    )


def check_defences(defences: Defences) -> None:
    """Refuse what is not done between devices.

    Raises:
        JobError: it is not.
    """
    if defences.secure_sum and defences.noise:
        raise JobError(
            "noise on the sum is not drawn between devices yet",
            mend="Leave --secure-sum out: noise of each client's own goes; or leave --noise out.",
        )
    if defences.dropouts:
        raise JobError("dropouts are simulated; between devices they come by themselves")


def total(task: Task, what: str) -> Floats:
    """The sum called `what` over the clients of a task, float32.

    `gram` is [M, M], how many clients have both items; `popularity` [M], how many have each.

    Raises:
        BadMessage: there is no such sum.
    """
    if what == "gram":
        return gram(task)
    if what == "popularity":
        return popularity(task)
    raise BadMessage("the server asks for a sum that is not known here")
