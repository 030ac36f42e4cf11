"""Which methods run with their clients on devices, and with what they can be combined."""

from __future__ import annotations

from isthmus.errors import JobError
from isthmus.fedrec.algorithms._one_round import OneRound
from isthmus.fedrec.algorithms.ordered_pairs import OrderedPairs
from isthmus.fedrec.method import Algorithm, Method
from isthmus.fedrec.mixed_tables import MixedTables
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.fits import sums_alone
from isthmus.fedrec.shared_table import SharedTable

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
    elif isinstance(method, OrderedPairs):
        if method.settings.noise:
            raise JobError(
                "noise on the sums of ordered pairs is drawn by `run` alone, not between devices",
                mend="Leave noise out: --secure-sum hides each shard's part.",
            )
        return method
    elif isinstance(method, MixedTables) or (
        isinstance(method, OneRound) and algorithm.name in LEARNED
    ):
        return method
    raise JobError(
        f"{algorithm.name} cannot run on devices: its server needs more of each client than is "
        "sent there",
        mend="Take one with a shared table, such as fedavg, row-wise, pfedrec or fedrap; or "
        "ordered-pairs, ease, fedca, fedem or pfedgraph.",
    )


def check_masked(algorithm: Algorithm, method: Method) -> None:
    """Refuse what is not added up under masks.

    Raises:
        JobError: it is not.
    """
    if not isinstance(method, OneRound):
        sums_alone(algorithm, method)


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
