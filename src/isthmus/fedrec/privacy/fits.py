"""Which defences an algorithm can have: what it does not pass through them must not be claimed."""

from __future__ import annotations

from isthmus.errors import JobError
from isthmus.fedrec.method import Algorithm, Method
from isthmus.fedrec.privacy.noise import LocalNoise
from isthmus.fedrec.privacy.pseudo_items import PseudoItems
from isthmus.fedrec.privacy.secure_sum import SecureSum
from isthmus.fedrec.shared_table import SharedTable


def check(algorithm: Algorithm, method: Method) -> None:
    """Refuse guards and secure sums that would not reach all that `method` sends.

    Raises:
        JobError: the algorithm sends something that the task's guards or its sealing miss.
    """
    task, title = method.task, algorithm.title
    if not task.guards and task.sealing is None:
        return
    if algorithm.leaves == "nothing":
        raise JobError(f"{title} sends nothing, so there is nothing to guard")
    if not method.takes_guards:
        raise JobError(
            f"{title} does not send item rows, which is what guards work on",
            mend="Take one that sends rows in rounds, such as fedavg; see the page on privacy.",
        )
    noised = any(isinstance(one, LocalNoise) for one in task.guards)
    if task.sealing is not None:
        sums_alone(algorithm, method)
        _all_answer(algorithm, method)
        noised = isinstance(task.sealing, SecureSum) and task.sealing.noise > 0
    if noised and not isinstance(method, SharedTable):
        raise JobError(
            f"clients of {title} go on from tables of their own, which later uploads would show "
            "without noise",
            mend="Noise is for algorithms that begin each round from what the server sent.",
        )
    if noised or task.sealing is not None or _has_pseudo_items(method):
        rows_alone(algorithm, method)


def rows_alone(algorithm: Algorithm, method: Method) -> None:
    """Refuse what sends more than guards reach.

    Raises:
        JobError: it does.
    """
    if method.beside:
        raise JobError(
            f"{algorithm.title} also sends {method.beside}, which no guard reaches",
            mend="Take an algorithm that sends item rows and a network alone, such as fedavg.",
        )


def _all_answer(algorithm: Algorithm, method: Method) -> None:
    sealing = method.task.sealing
    lossy = isinstance(sealing, SecureSum) and sealing.dropouts > 0
    if lossy and not isinstance(method, SharedTable):
        raise JobError(
            f"the server of {algorithm.title} divides its sums by how many clients were asked",
            mend="Leave --dropouts out, or take an algorithm with a shared table, such as fedavg.",
        )


def _has_pseudo_items(method: Method) -> bool:
    return any(isinstance(one, PseudoItems) for one in method.task.guards)


def sums_alone(algorithm: Algorithm, method: Method) -> None:
    """Refuse a server that needs more than masked sums.

    Raises:
        JobError: it does.
    """
    if algorithm.leaves != "sums":
        raise JobError(
            f"the server of {algorithm.title} needs each client's own {algorithm.leaves}, a "
            "secure sum hides them",
            mend="Take one that `isthmus fedrec list` marks with --secure-sum, such as fedavg.",
        )
    if not method.masks_sums:
        raise JobError(
            f"{algorithm.title} would add up more than item rows; that is not masked here",
            mend="Take fedavg, fedavgm, fedadam, fedprox, row-wise, fedrap or pfedrec.",
        )
