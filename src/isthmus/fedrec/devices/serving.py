"""The server's process: rounds over whoever is there, checkpoints, result and who took part."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import JobError
from isthmus.fedrec.devices.abilities import check_defences, check_method
from isthmus.fedrec.devices.crew import Carrier, Crew, RoundNotes, Say
from isthmus.fedrec.devices.gate import Gate, Limits
from isthmus.fedrec.devices.parts import Census
from isthmus.fedrec.devices.unseen import unseen_task
from isthmus.fedrec.devices.wire import Order
from isthmus.fedrec.method import Arrays
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy.fits import sums_alone
from isthmus.fedrec.protocols import EvalProtocol
from isthmus.fedrec.results import RunResult
from isthmus.fedrec.runner import Facts, Run, RunOptions, Told
from isthmus.fedrec.shared_table import SharedTable
from isthmus.files import write_json
from isthmus.link import Listener


@dataclass(frozen=True)
class Plan:
    """What is trained, on which population."""

    census: Census
    recipe: Recipe
    protocols: tuple[EvalProtocol, ...]
    options: RunOptions

    def __post_init__(self) -> None:
        census = self.census
        for one in self.protocols:
            if one.ground != (census.file_order, census.leaks):
                raise JobError(
                    f"the parts were not cut for the protocol {one.name}",
                    mend="Cut them anew: `isthmus fedrec split --protocol`.",
                )
        if census.seed != self.options.seed:
            raise JobError(
                f"the parts were cut with seed {census.seed}, the run has {self.options.seed}"
            )
        check_defences(self.options.defences)


@dataclass(frozen=True)
class Served:
    """A run on devices: its result, and who took part."""

    result: RunResult
    rounds: list[RoundNotes]
    refused: dict[str, str]
    traffic: dict[str, tuple[int, int]]
    """Bytes up and down of each shard, as its links counted them."""

    def to_json(self) -> dict[str, Any]:
        """Who took part, as plain values."""
        traffic = {name: {"up": up, "down": down} for name, (up, down) in self.traffic.items()}
        rounds = [asdict(one) for one in self.rounds]
        return {"rounds": rounds, "refused": self.refused, "shards": traffic}


class DeviceRun(Run):
    """A run whose clients are elsewhere: their private state is not in its checkpoints."""

    def state(self) -> Arrays:
        """What the server holds."""
        private = PRIVATE if isinstance(self.method, SharedTable) else ()
        return {name: one for name, one in self.method.state().items() if name not in private}

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        if isinstance(self.method, SharedTable):
            state = state | {"user": self.method.user, "own": self.method.own}
        self.method.restore(state)


PRIVATE = ("user", "own")


def device_run(plan: Plan, crew: Crew) -> DeviceRun:
    """The run of `plan` with the clients of `crew`.

    Raises:
        JobError: the algorithm cannot run on devices, or not under the masks that `plan` asks for.
    """
    census, found = plan.census, plan.recipe.algorithm
    method = plan.recipe.build(unseen_task(census, found.name, crew))
    check_method(method, found)
    crew.masked = plan.options.defences.secure_sum
    if crew.masked:
        sums_alone(found, method)
    if isinstance(method, SharedTable):
        # No client's is here.
        method.own = method.own[:0, :0]
    facts = Facts(census.name, census.clients, census.items, census.interactions)
    return DeviceRun(facts, plan.recipe, plan.protocols, plan.options, crew, method)


def order_of(plan: Plan, run: DeviceRun, start: str) -> Order:
    """What a shard that joins now is told."""
    recipe = plan.recipe
    return Order(
        algorithm=recipe.algorithm.name,
        backbone=recipe.backbone,
        values=recipe.values(),
        protocols=[one.name for one in plan.protocols],
        defences=asdict(plan.options.defences),
        mark=run.mark,
        start=start,
        done=run.result.rounds[-1].number if run.result.rounds else 0,
    )


def serve(
    plan: Plan,
    folder: Path,
    me: str,
    listener: Listener,
    *,
    shards: Mapping[str, Longs | None] | None = None,
    limits: Limits | None = None,
    told: Told = lambda result: None,
    say: Say = lambda text: None,
    gate: Callable[..., Gate] = Gate,
) -> Served:
    """Run `plan` with the shards that join.

    Args:
        plan: what to train.
        folder: the server's identity folder; `me`: its name.
        listener: where shards dial; stays open.
        shards: who may join, see `Gate`.
        limits: how long to wait, and for how many.
        told: called after each judged round.
        say: told in sentences who comes and goes.
        gate: makes the gate, for tests.

    Raises:
        JobError: the algorithm cannot run on devices, or the checkpoint is of another run.
        TrainError: too few clients took part in a round.
    """
    limits = limits or Limits()
    start = secrets.token_hex(16)
    crew = _crew(plan, limits)
    run = device_run(plan, crew)
    run.begin()
    with gate(
        folder, me, listener, plan.census, lambda: order_of(plan, run, start),
        shards=shards, limits=limits, say=say,
    ) as open_gate:  # fmt: skip
        crew.carrier, crew.ready = open_gate, _Waiting(open_gate, limits, plan.census)
        result = run.go(told)
    served = Served(result, crew.notes, open_gate.refused, open_gate.traffic)
    if plan.options.folder is not None:
        write_json(plan.options.folder / "devices.json", served.to_json())
    return served


class _Nobody:
    """Stands in until the gate is open."""

    def present(self) -> dict[str, Longs]:
        return {}

    def ask(self, requests: Mapping[str, Any]) -> dict[str, str]:
        return dict.fromkeys(requests, "is gone")


def _crew(plan: Plan, limits: Limits, carrier: Carrier | None = None) -> Crew:
    return Crew(
        carrier or _Nobody(), plan.census, plan.protocols, limits.min_clients,
        plan.options.checkpoint_every,
    )  # fmt: skip


class _Waiting:
    """Before the first round waits for all clients that were asked for, later for the fewest."""

    def __init__(self, gate: Gate, limits: Limits, census: Census) -> None:
        self._gate, self._fewest = gate, limits.min_clients
        self._first = limits.begin_with or census.clients

    def __call__(self, number: int) -> None:
        wanted, self._first = max(self._first, self._fewest), 0
        self._gate.wait_for(wanted)
