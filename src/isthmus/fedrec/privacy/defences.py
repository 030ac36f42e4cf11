"""Which defences a run has: checked against each other, put on a task, and told in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from isthmus.errors import JobError
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.privacy.accounting import epsilon_concentrated, epsilon_of
from isthmus.fedrec.privacy.bound import NormBound
from isthmus.fedrec.privacy.noise import LocalNoise
from isthmus.fedrec.privacy.pseudo_items import PseudoItems
from isthmus.fedrec.privacy.secure_sum import SecureSum
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Guard


@dataclass(frozen=True)
class Defences:
    """What honest clients do to their uploads. None by default.

    Raises:
        JobError: a number is out of range, or two defences do not go together.
    """

    pseudo_items: int = 0
    """Pseudo-items for each training item."""
    pseudo_fresh: bool = False
    """Drawn afresh each round, which protects nothing: for demonstration."""
    clip: float = 0.0
    """The most that a client's whole change may measure (2-norm); 0: any."""
    clip_rows: float = 0.0
    """The most that each row's change may measure; 0: any."""
    noise: float = 0.0
    """Deviation of normal noise in clips: on each client's upload, or with `secure_sum` on the
    sum."""
    secure_sum: bool = False
    """The server sees sums alone."""
    masks_left_out: bool = False
    """With `secure_sum`: the same result bit for bit without the masks, to measure sooner."""
    dropouts: float = 0.0
    """With `secure_sum`: the share of a round's clients that is lost in the middle of its sum,
    drawn by seed; the sum is that of the others."""
    delta: float = 1e-5
    """The delta at which epsilon is told."""
    discrete: bool = False
    """With `secure_sum` and `noise`: each device adds a share of discrete noise to its words, which
    happens between devices alone."""

    def __post_init__(self) -> None:
        for name in ("pseudo_items", "clip", "clip_rows", "noise", "dropouts"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise JobError(f"{name} must be a number of at least 0")
        if not 0 < self.delta < 1:
            raise JobError("delta must lie between 0 and 1")
        if self.noise and not self.clip:
            raise JobError(
                "noise without a clip protects nobody: a change may have any size",
                mend="Set --clip as well.",
            )
        if self.noise and self.pseudo_items:
            raise JobError(
                "with noise all rows are sent, pseudo-items add nothing",
                mend="Leave --pseudo-items out.",
            )
        if self.dropouts > 1 / 3:
            raise JobError("dropouts of more than a third of the clients are not withstood")
        if self.dropouts and not self.secure_sum:
            raise JobError(
                "dropouts are those of a secure sum",
                mend="Set --secure-sum as well; without it, let fewer clients take part.",
            )
        if self.discrete and not (self.secure_sum and self.noise):
            raise JobError("discrete noise is that of a secure sum")
        if self.pseudo_fresh and not self.pseudo_items:
            raise JobError("pseudo_fresh without pseudo_items does nothing")

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self != Defences(masks_left_out=self.masks_left_out, delta=self.delta)

    def protect(self, task: Task) -> Task:
        """The task with these defences before the guards that it has: hostile clients do not keep
        to them, and observers see what comes of them.
        """
        if self.discrete:
            raise JobError("discrete noise is added between devices, not in a simulation")
        guards: list[Guard] = []
        if self.pseudo_items:
            guards.append(PseudoItems(task, self.pseudo_items, kept=not self.pseudo_fresh))
        if self.clip or self.clip_rows:
            bound = NormBound(self.clip or math.inf, self.clip_rows or math.inf)
            guards.append(bound)
        sealing = None
        if self.secure_sum:
            sealing = SecureSum(
                task, self.noise * self.clip, not self.masks_left_out, self.dropouts
            )
            if self.noise:
                guards.append(Alike())
        elif self.noise:
            guards.append(LocalNoise(task, self.clip, self.noise))
        return replace(task, guards=(*guards, *task.guards), sealing=sealing)

    @property
    def multiplier(self) -> float:
        """Deviation by sensitivity: two data sets of a client move it by two clips at most."""
        return self.noise / 2

    def epsilon(self, rounds: int) -> float:
        """The epsilon of a run of `rounds` in which a client takes part in all."""
        account = epsilon_concentrated if self.discrete else epsilon_of
        return account(self.multiplier, rounds, self.delta)

    def record(self, rounds: int, algorithm: Algorithm) -> dict[str, Any]:
        """For the result: the numbers, epsilon and what is protected; empty without defences.

        Epsilon is None where it is infinite or above 500.
        """
        if not self:
            return {}
        found: dict[str, Any] = asdict(self)
        if self.noise:
            found["rounds"] = rounds
            found["epsilon_round"] = _finite(self.epsilon(1))
            found["epsilon"] = _finite(self.epsilon(rounds))
        found["protects"] = self.sentences(rounds, algorithm)
        return found

    def sentences(self, rounds: int, algorithm: Algorithm) -> list[str]:
        """What is protected, and what is not, for a user to read."""
        out = []
        if self.noise:
            who = "the sum, whoever sees it" if self.secure_sum else "each upload, from the server"
            out.append(
                f"Noise of {self.noise:g} clips on {who}: epsilon {_told(self.epsilon(1))} a "
                f"round, {_told(self.epsilon(rounds))} over {rounds} rounds, at delta "
                f"{self.delta:g}; for all of a client's data, which rows it touched included."
            )
            if self.discrete:
                out.append(
                    "Each shard adds its share of it to its words: enough though a third of the "
                    "shards are lost and a fifth of them, in league with the server, take theirs "
                    "off. Losses by shard and counts of ranks are outside this epsilon."
                )
        elif self.clip or self.clip_rows:
            out.append("Clipping without noise bounds what a client can do; it hides nothing.")
        if self.pseudo_items and self.pseudo_fresh:
            out.append("Pseudo-items drawn afresh each round protect nothing: rounds intersect.")
        elif self.pseudo_items:
            out.append(
                f"{self.pseudo_items} kept pseudo-items for each training item: rows that change "
                f"in all rounds are training items with a chance of 1/{self.pseudo_items + 1}. "
                "No differential privacy."
            )
        if self.secure_sum:
            out.append(
                "Secure sum: a server that keeps to the protocol sees the sums of a round and no "
                "client's part of them"
                + (
                    f"; {self.dropouts:.3g} of the clients drop out of each, and the sums are "
                    "the others'."
                    if self.dropouts
                    else "."
                )
            )
        elif algorithm.leaves in ("tables", "vectors"):
            out.append(f"{algorithm.title} needs each client's own {algorithm.leaves}.")
        return out


class Alike:
    """A guard: all clients count the same, so that the number of items is not told."""

    def __call__(self, uploads: Any, number: int) -> Any:
        """The uploads with the weight 1."""
        return replace(uploads, weight=uploads.weight * 0 + 1)


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None


def _told(epsilon: float) -> str:
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "above 500"
