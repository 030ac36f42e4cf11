"""Which methods run with their clients on devices, and with what they can be combined."""

from __future__ import annotations

from isthmus.errors import JobError
from isthmus.fedrec.algorithms._one_round import OneRound
from isthmus.fedrec.algorithms.fedca_sketched import Settings, SketchedFedCA
from isthmus.fedrec.algorithms.ordered_pairs import OrderedPairs
from isthmus.fedrec.copied_tables import CopiedTables
from isthmus.fedrec.method import Algorithm, Method
from isthmus.fedrec.mixed_tables import MixedTables
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.fits import rows_alone, sums_alone
from isthmus.fedrec.shared_table import SharedTable

SUMS = {"ease", "item-knn", "gfcf", "fedcia-model-free", "popularity", "fcf-als"}
"""Algorithms that need no more than sums of words."""


def check_method(method: Method, algorithm: Algorithm) -> Method:
    """`method`, if its clients can be elsewhere.

    Raises:
        JobError: the server of this algorithm needs more than clients send here.
    """
    if isinstance(method, SharedTable):
        kind = type(method)
        if kind.round is SharedTable.round and kind.score is SharedTable.score:
            return method
    elif isinstance(method, (OrderedPairs, MixedTables, CopiedTables, SketchedFedCA)) or (
        isinstance(method, OneRound) and algorithm.name in SUMS
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


def check_noise(method: Method, *, masked: bool) -> None:
    """Refuse noise on a sum that is made without masks.

    Raises:
        JobError: it is asked for.
    """
    if isinstance(method, OrderedPairs) and method.settings.noise and not masked:
        raise JobError(
            "without a secure sum each shard's share of the noise would stand alone on its sum",
            mend="Set --secure-sum as well.",
        )


def noise_on_sum(method: Method, asked: Defences) -> float:
    """In clips, on the sum over shards; 0 where there is none."""
    found = asked.noise if asked.discrete else 0.0
    if isinstance(method, OrderedPairs):
        found = method.settings.noise
    return found if asked.secure_sum else 0.0


def check_least_noise(method: Method, asked: Defences, least: float) -> None:
    """Refuse less noise on the sum over shards than `least`, in clips: a shard's own condition.

    Raises:
        JobError: there is less, or there are no masks, so that there is no such sum.
    """
    found = noise_on_sum(method, asked)
    if found < least:
        told = f"noise of {found:g} clips" if found else "no noise"
        raise JobError(
            f"the server asks for {told} on the sum, and this shard wants {least:g} clips or more",
            mend=f"Let the server be started with --secure-sum --clip and --noise {least:g} (for "
            f"ordered-pairs --set clip= and --set noise={least:g}), or join with a lower "
            "--least-noise.",
        )


def check_sums_only(method: Method) -> None:
    """Refuse what, beside sums, tells of single clients: the condition of a shard with `sums_only`.

    Raises:
        JobError: their sketches have less noise than they have unless it is asked for.
    """
    if not isinstance(method, SketchedFedCA):
        return
    found, most = method.settings.epsilon, Settings().epsilon
    if not 0 < found <= most:
        told = f"an epsilon of {found:g}" if found else "no noise"
        raise JobError(
            f"the server asks for each client's sketch with {told}, and this shard gives no more "
            "than sums",
            mend=f"Let the server be started without --set epsilon= ({most:g} is the most that "
            "--sums-only takes), or join without --sums-only.",
        )


def check_guards(algorithm: Algorithm, method: Method, defences: Defences) -> None:
    """Refuse what the shards would refuse, see `privacy.fits.check`, before any of them dials.

    Raises:
        JobError: guards would not reach what clients send.
    """
    title, asked = algorithm.title, defences
    if not (asked.clip or asked.clip_rows or asked.noise or asked.pseudo_items):
        return
    if not method.takes_guards:
        raise JobError(
            f"{title} does not send item rows, which is what guards work on",
            mend="Leave --clip, --noise and --pseudo-items out.",
        )
    if asked.noise and isinstance(method, OwnTables):
        raise JobError(
            f"clients of {title} go on from tables of their own, which later uploads would show "
            "without noise",
            mend="Leave --noise out, or take an algorithm with a shared table, such as fedavg.",
        )
    if asked.noise or asked.pseudo_items:
        rows_alone(algorithm, method)


def check_defences(defences: Defences) -> None:
    """Refuse what is not done between devices.

    Raises:
        JobError: it is not.
    """
    if defences.dropouts:
        raise JobError("dropouts are simulated; between devices they come by themselves")
