"""What a run knows beside its parameters, and how all of it goes into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import StorageError
from isthmus.split.checkpoint import CheckpointFolder, Point, pack, unpack
from isthmus.split.lanes import FeatureLane, LabelLane
from isthmus.split.options import EpochRecord
from isthmus.split.schedules import Schedule
from isthmus.split.sides import Part


@dataclass(frozen=True)
class PartialEpoch:
    """What has been done of an epoch."""

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    loss: float | None = None
    """Mean over the samples so far, where this party knows it."""

    def plus(self, steps: int, samples: int, seconds: float, loss: float | None) -> PartialEpoch:
        """With a further stretch of steps."""
        samples += self.samples
        if loss is not None and self.loss is not None:
            loss = self.loss + (loss - self.loss) * (1.0 - self.samples / samples)
        return PartialEpoch(self.steps + steps, samples, self.seconds + seconds, loss)


@dataclass
class RunState:
    """What a run knows beside the parameters; all of it is in the checkpoint."""

    run: str
    """The same at all parties; see `Point.run`."""
    history: list[EpochRecord] = field(default_factory=list)
    partial: PartialEpoch = field(default_factory=PartialEpoch)
    best_epoch: int = 0
    best_value: float = float("-inf")
    stop_reason: str = ""

    def facts(self) -> dict[str, Any]:
        """As JSON values, less the run."""
        facts = asdict(self)
        del facts["run"]
        return facts

    @classmethod
    def from_facts(cls, run: str, facts: Mapping[str, Any]) -> RunState:
        """What `facts` returned, as a state."""
        state = cls(run, **facts)
        state.history = [EpochRecord(**record) for record in facts["history"]]
        state.partial = PartialEpoch(**facts["partial"])
        return state


class Recovery:
    """Writes the run's checkpoints and goes back to one.

    Args:
        folder: of the checkpoints.
        parts: the modules with their optimisers.
        lanes: to the partners, by name.
        schedule: of the run.
        steps_per_epoch: updates an epoch.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        parts: Mapping[str, Part],
        lanes: Mapping[str, FeatureLane | LabelLane],
        schedule: Schedule,
        steps_per_epoch: int,
    ) -> None:
        self.folder = folder
        self.parts = parts
        self.lanes = lanes
        self.schedule = schedule
        self.steps_per_epoch = steps_per_epoch
        self._generators = _global_generators(parts)

    def save(self, state: RunState) -> None:
        """Write a checkpoint of this moment, at which nothing is in flight. Raises StorageError."""
        groups: dict[str, Mapping[str, Tensor]] = {"schedule": self.schedule.state()}
        for name, part in self.parts.items():
            groups[f"model.{name}"] = part.module.state_dict()
            assert part.optimizer is not None
            groups[f"optimizer.{name}"] = part.optimizer.tensors()
        for name, lane in self.lanes.items():
            arrays = lane.state()
            groups[f"lane.{name}"] = {key: torch.from_numpy(a) for key, a in arrays.items()}
        # Ours draw from generators of their own; a module of the user's may use the global ones,
        # which are one party's own where each party is a process.
        now = _global_generators(self.parts)
        groups["torch"] = {k: v for k, v in now.items() if not torch.equal(v, self._generators[k])}
        step = len(state.history) * self.steps_per_epoch + state.partial.steps
        best = [record.epoch * self.steps_per_epoch for record in state.history if record.best][-2:]
        point = Point(step, state.run)
        self.folder.save(point, len(state.history), pack(groups), state.facts(), best)

    def restore(self, point: Point) -> RunState:
        """Go back to `point`, one of the folder's points.

        Raises:
            StorageError: its checkpoint cannot be read any more.
        """
        checkpoint = self.folder.load(point)
        if checkpoint is None:
            raise _lost(point)
        tensors = checkpoint.tensors()
        for name, part in self.parts.items():
            part.module.load_state_dict(unpack(tensors, f"model.{name}"))
            assert part.optimizer is not None
            part.optimizer.load_tensors(unpack(tensors, f"optimizer.{name}"))
        for name, lane in self.lanes.items():
            saved = _copies(unpack(tensors, f"lane.{name}"))
            lane.load_state({key: tensor.numpy() for key, tensor in saved.items()})
        self.schedule.load_state(_copies(unpack(tensors, "schedule")))
        _set_global_generators(unpack(tensors, "torch"))
        return RunState.from_facts(point.run, checkpoint.facts)

    def load_best(self, state: RunState) -> None:
        """Put the best epoch's parameters into the modules.

        Raises:
            StorageError: its checkpoint cannot be read any more.
        """
        point = Point(state.best_epoch * self.steps_per_epoch, state.run)
        checkpoint = self.folder.load(point)
        if checkpoint is None:
            raise _lost(point)
        load_parameters(self.parts, checkpoint.tensors())


def parameters(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """A copy of the parts' parameters, buffers and generator states, for `load_parameters`."""
    return pack(
        {f"model.{name}": _copies(part.module.state_dict()) for name, part in parts.items()}
    )


def load_parameters(parts: Mapping[str, Part], tensors: Mapping[str, Tensor]) -> None:
    """Put parameters into the parts' modules."""
    for name, part in parts.items():
        part.module.load_state_dict(unpack(tensors, f"model.{name}"))


def stretches(steps: int, length: int, start: int) -> Sequence[range]:
    """The steps of an epoch from `start` on, in stretches that end where checkpoints are written.

    Args:
        steps: of the epoch.
        length: steps between two checkpoints; 0 for one stretch.
        start: steps done, at the end of a stretch.
    """
    length = length if length > 0 else steps
    return [range(a, min(a + length, steps)) for a in range(start, steps, length)]


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _global_generators(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    devices = {part.device for part in parts.values() if part.device.type == "cuda"}
    states = {str(device): torch.cuda.get_rng_state(device) for device in devices}
    return {"cpu": torch.get_rng_state(), **states}


def _set_global_generators(states: Mapping[str, Tensor]) -> None:
    for device, state in _copies(states).items():
        if device == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, torch.device(device))


def _lost(point: Point) -> StorageError:
    return StorageError(
        f"the checkpoint of step {point.step} was there a moment ago and cannot be read now",
        mend="Run the same command again: an older one is used.",
    )
