"""The server's process: rounds over whoever is there, checkpoints, result and who took part."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from isthmus.errors import IsthmusError, JobError, PartnerAbsent
from isthmus.fedrec import checkpoint
from isthmus.fedrec.algorithms.fedca_sketched import SketchedFedCA
from isthmus.fedrec.copied_tables import CopiedTables
from isthmus.fedrec.devices.abilities import (
    check_defences,
    check_guards,
    check_masked,
    check_method,
    check_noise,
)
from isthmus.fedrec.devices.carrier import Carrier
from isthmus.fedrec.devices.crew import Crew, Say
from isthmus.fedrec.devices.gate import Gate, Limits, who_may_join
from isthmus.fedrec.devices.notes import RoundNotes
from isthmus.fedrec.devices.parts import Census
from isthmus.fedrec.devices.unseen import unseen_task
from isthmus.fedrec.devices.wire import Order
from isthmus.fedrec.method import Arrays
from isthmus.fedrec.mixed_tables import MixedTables
from isthmus.fedrec.options import Recipe
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy.secure_terms import LEAST
from isthmus.fedrec.protocols import EvalProtocol
from isthmus.fedrec.results import RunResult
from isthmus.fedrec.runner import Facts, Run, RunOptions, Told, finished_before
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
                    mend=f"Cut them anew: `isthmus fedrec split --protocol {one.name}`.",
                )
        if census.seed != self.options.seed:
            raise JobError(
                f"the parts were cut with seed {census.seed}, the run has {self.options.seed}"
            )
        asked = self.options.defences
        check_defences(asked)
        if asked.secure_sum and asked.noise and not asked.discrete:
            # A round that is done again is released again, with fresh noise: no more than one.
            options = replace(
                self.options, defences=replace(asked, discrete=True), checkpoint_every=1
            )
            object.__setattr__(self, "options", options)


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

    @staticmethod
    def of_json(result: RunResult, value: dict[str, Any]) -> Served:
        """What `to_json` gave, and the result that it goes with."""
        rounds = [RoundNotes(**one) for one in value["rounds"]]
        traffic = {name: (one["up"], one["down"]) for name, one in value["shards"].items()}
        return Served(result, rounds, value["refused"], traffic)


DEVICES = "devices.json"


class DeviceRun(Run):
    """A run whose clients are elsewhere: their private state is not in its checkpoints."""

    def state(self) -> Arrays:
        """What the server holds."""
        private = self._private()
        return {name: one for name, one in self.method.state().items() if name not in private}

    def _private(self) -> tuple[str, ...]:
        """What of the method's state is with the clients alone."""
        method = self.method
        if isinstance(method, SharedTable):
            return ("own",) if method.sends_vectors else ("user", "own")
        if isinstance(method, (CopiedTables, SketchedFedCA)):
            return method.PRIVATE
        return tuple(method.state()) if isinstance(method, MixedTables) else ()

    def restore(self, state: Arrays) -> None:
        """Go on from `state()`."""
        mine = self.method.state()
        self.method.restore(state | {name: mine[name] for name in self._private()})


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
        check_masked(found, method)
    check_noise(method, masked=crew.masked)
    check_guards(found, method, plan.options.defences)
    if isinstance(method, SharedTable):
        # No client's is here.
        method.own = method.own[:0, :0]
    return DeviceRun(_facts(plan), plan.recipe, plan.protocols, plan.options, crew, method)


def see_fit(
    plan: Plan, folder: Path, shards: Mapping[str, Longs | None] | None = None
) -> Served | None:
    """See all that can be seen before anybody dials; an earlier run that was asked for the same.

    Args:
        plan: what to train.
        folder: the server's identity folder.
        shards: who may join, see `Gate`.

    Raises:
        JobError: the algorithm cannot run on devices, a shard can never join, or the folder holds
            a finished run or a checkpoint of other options.
        IdentityError: a trusted certificate cannot be used.
        StorageError: the folder cannot be written, or what lies there cannot be read.
    """
    options = plan.options
    run = device_run(plan, _crew(plan, Limits()))
    options.see_folder()
    found = finished_before(_facts(plan), plan.recipe, plan.protocols, options)
    if found is not None and options.folder is not None:
        return _served_before(options.folder / DEVICES, found)
    run.begin()
    who_may_join(folder, shards)
    return None


def _served_before(path: Path, found: RunResult) -> Served:
    try:
        return Served.of_json(found, json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Served(found, [], {}, {})


def _facts(plan: Plan) -> Facts:
    census = plan.census
    return Facts(census.name, census.clients, census.items, census.interactions)


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
        JobError: the algorithm cannot run on devices, a shard that may join is not trusted, or the
            checkpoint is of another run.
        PartnerAbsent: nobody came.
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
        crew.carrier, crew.ready = open_gate, _Waiting(open_gate, limits, crew)
        result = run.go(told)
    served = Served(result, crew.notes, open_gate.refused, open_gate.traffic)
    if plan.options.folder is not None:
        write_json(plan.options.folder / DEVICES, served.to_json())
    return served


class _Nobody:
    """Stands in until the gate is open."""

    def present(self) -> dict[str, Longs]:
        return {}

    def ask(self, requests: Mapping[str, Any]) -> dict[str, str]:
        return dict.fromkeys(requests, "is gone")


def _crew(plan: Plan, limits: Limits, carrier: Carrier | None = None) -> Crew:
    folder = plan.options.folder
    return Crew(
        carrier or _Nobody(), plan.census, plan.protocols, limits.min_clients,
        plan.options.checkpoint_every,
        resumable=lambda: folder is not None and (folder / checkpoint.FILE).is_file(),
    )  # fmt: skip


class _Waiting:
    """Before the first round waits for all clients that were asked for, later for the fewest; for a
    secure sum also for as many shards as it needs.
    """

    def __init__(self, gate: Gate, limits: Limits, crew: Crew) -> None:
        self._gate, self._limits = gate, limits
        self._first = limits.begin_with or crew.census.clients
        self._shards = LEAST if crew.masked else 1

    def __call__(self, number: int) -> None:
        begins, wanted = self._first > 0, max(self._first, self._limits.min_clients)
        self._first = 0
        if self._gate.wait_for(wanted, self._shards) == 0 and begins:
            raise _nobody_came(self._gate, self._limits)


def _nobody_came(gate: Gate, limits: Limits) -> IsthmusError:
    """Nobody took part from the start: what to see to is who may join, not what was lost."""
    names = gate.expected
    who = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return PartnerAbsent(
        f"no shard took part within {limits.wait:g} s; {who} may join",
        mend="Start them with `isthmus fedrec join`; each needs a part of this census and has to "
        "trust this server's certificate. --wait waits longer.",
    )
