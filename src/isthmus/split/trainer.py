"""The two roles in split training, on one frame: parts, epochs, the best epoch, checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from isthmus.data.split import Split
from isthmus.errors import DataError, JobError
from isthmus.metrics import auc, log_loss
from isthmus.session import Session, Task
from isthmus.split.aggregation import Signer
from isthmus.split.batches import PartyData, epoch_batches
from isthmus.split.checkpoint import CheckpointFolder, module_state, pack, unpack
from isthmus.split.handshake import (
    agree_as_feature,
    agree_as_label,
    cut_widths,
    fingerprint,
    send_decision,
    take_decision,
)
from isthmus.split.lanes import (
    FeatureLane,
    LabelLane,
    feature_lane,
    guard_records,
    label_lanes,
)
from isthmus.split.log import EpochLog
from isthmus.split.optim import PartyOptimizer
from isthmus.split.options import EpochRecord, Loss, TrainOptions, TrainResult
from isthmus.split.schedules import make_schedule
from isthmus.split.scoring import label_scores, send_cuts
from isthmus.split.sides import FeatureSide, LabelSide, Part

Labels = npt.NDArray[np.float32]


@dataclass
class _State:
    """What a run knows beside the parameters; all of it is in the checkpoint."""

    history: list[EpochRecord]
    best: dict[str, Tensor]
    best_epoch: int = 0
    best_value: float = float("-inf")
    stop_reason: str = ""


class _Trainer(ABC):
    """What both roles share: parts, epochs, the best epoch, checkpoints."""

    def __init__(
        self,
        session: Session,
        split: Split,
        bottoms: Mapping[str, nn.Module],
        data: Mapping[str, PartyData],
        options: TrainOptions,
    ) -> None:
        self.session = session
        self.split = split
        self.options = options
        self.device = options.torch_device()
        self.schedule = make_schedule(options.schedule)
        self.bottoms = {p: self._part(module, data[p], p) for p, module in bottoms.items()}
        self.parts = {f"bottom.{party}": part for party, part in self.bottoms.items()}
        self.widths = {p: cut_widths(part, split.train) for p, part in self.bottoms.items()}
        self.state = _State([], {})
        self.steps_per_epoch = -(-len(split.train) // options.batch_size)
        if not len(split.train):
            raise DataError("there are no training samples", mend="Check the fractions of `split`.")

    def _part(self, module: nn.Module, data: PartyData | None, party: str) -> Part:
        module.to(self.device)
        return Part(module, self.device, data, PartyOptimizer(module, self.options), party)

    @abstractmethod
    def handshake(self, resumable: list[int]) -> int:
        """Agree on the run; returns the epoch to continue from (0: the beginning)."""

    @abstractmethod
    def lanes(self) -> Mapping[str, FeatureLane | LabelLane]:
        """The lanes that the handshake has made, by the partner's name."""

    @abstractmethod
    def train_epoch(self, epoch: int, task: Task) -> float | None:
        """One epoch of updates; the mean training loss where this party knows it."""

    @abstractmethod
    def close_epoch(self, record: EpochRecord) -> tuple[EpochRecord, str]:
        """Validate and decide: the completed record, and why to stop after it ("" to go on)."""

    def run(self) -> TrainResult:
        """Train to the end and leave the best epoch's parameters in the modules."""
        if self.options.threads is not None:
            torch.set_num_threads(self.options.threads)
        folder = self._checkpoints()
        resumed = self.handshake(folder.epochs() if folder else [])
        if folder:
            folder.clear(after=resumed)
            if resumed:
                self._restore(folder, resumed)
        steps, epochs = self.steps_per_epoch, self.options.epochs
        with (
            EpochLog(self.session.folder, self.options.tensorboard, self.state.history) as log,
            self.session.progress.task("epochs", steps * epochs) as task,
        ):
            task.advance(steps * resumed)
            for epoch in range(resumed + 1, epochs + 1):
                if self.state.stop_reason:
                    break
                self._epoch(epoch, log, task)
                if folder:
                    self._save(folder, epoch)
        for name, part in self.parts.items():
            part.module.load_state_dict(unpack(self.state.best, name))
            part.module.eval()
        history = tuple(self.state.history)
        return TrainResult(
            epochs=history,
            best_epoch=self.state.best_epoch,
            stop_reason=self.state.stop_reason or "all epochs done",
            resumed_from=resumed,
            guards=guard_records(self.session, self.options, self.lanes()),
        )

    def _epoch(self, epoch: int, log: EpochLog, task: Task) -> None:
        options, steps = self.options, self.steps_per_epoch
        for part in self.parts.values():
            part.module.train()
        start = perf_counter()
        loss = self.train_epoch(epoch, task)
        trained = perf_counter()
        for part in self.parts.values():
            part.module.eval()
        record = EpochRecord(
            epoch=epoch,
            steps=steps,
            samples=len(self.split.train),
            seconds=trained - start,
            seconds_validation=0.0,
            learning_rate=options.learning_rate * self.rate(epoch * steps - 1),
            best=False,
            train_loss=loss,
        )
        record, self.state.stop_reason = self.close_epoch(record)
        record = replace(record, seconds_validation=perf_counter() - trained)
        known = "" if record.valid_auc is None else f" AUC {record.valid_auc:.4f}"
        task.note(f"epoch {epoch}/{options.epochs}{known}")
        if record.best:
            self.state.best_epoch = epoch
            self.state.best = pack(
                {name: module_state(part.module) for name, part in self.parts.items()}
            )
        self.state.history.append(record)
        log.write(record)

    def rate(self, step: int) -> float:
        """The factor of the learning rates at `step`, counted from 0 over all epochs."""
        return self.options.rate_factor(step, self.steps_per_epoch * self.options.epochs)

    def _checkpoints(self) -> CheckpointFolder | None:
        if self.session.folder is None:
            return None
        modules = {name: part.module for name, part in self.parts.items()}
        mark = fingerprint(self.session, self.split, self.options, modules)
        return CheckpointFolder(self.session.folder / "checkpoints", mark)

    def _save(self, folder: CheckpointFolder, epoch: int) -> None:
        groups: dict[str, Mapping[str, Tensor]] = {"best": self.state.best}
        for name, part in self.parts.items():
            groups[f"model.{name}"] = module_state(part.module)
            assert part.optimizer is not None
            groups[f"optimizer.{name}"] = part.optimizer.tensors()
        for name, lane in self.lanes().items():
            state = {key: torch.from_numpy(array) for key, array in lane.state().items()}
            groups[f"lane.{name}"] = state
        facts = {
            "history": [asdict(record) for record in self.state.history],
            "best_epoch": self.state.best_epoch,
            "best_value": self.state.best_value,
            "stop_reason": self.state.stop_reason,
        }
        folder.save(epoch, pack(groups), facts)

    def _restore(self, folder: CheckpointFolder, epoch: int) -> None:
        checkpoint = folder.load(epoch)
        if checkpoint is None:
            raise JobError(f"the checkpoint of epoch {epoch} was there a moment ago and is not now")
        for name, part in self.parts.items():
            part.module.load_state_dict(unpack(checkpoint.tensors, f"model.{name}"))
            assert part.optimizer is not None
            part.optimizer.load_tensors(unpack(checkpoint.tensors, f"optimizer.{name}"))
        for name, lane in self.lanes().items():
            saved = unpack(checkpoint.tensors, f"lane.{name}")
            lane.load_state({key: tensor.numpy() for key, tensor in saved.items()})
        facts = checkpoint.facts
        self.state = _State(
            history=[EpochRecord(**record) for record in facts["history"]],
            best=unpack(checkpoint.tensors, "best"),
            best_epoch=facts["best_epoch"],
            best_value=facts["best_value"],
            stop_reason=facts["stop_reason"],
        )
        self.session.progress.say(f"continuing after epoch {epoch}")


class FeatureTrainer(_Trainer):
    """A feature party: one bottom, one link to the label party."""

    def __init__(
        self,
        session: Session,
        split: Split,
        bottoms: Mapping[str, nn.Module],
        data: Mapping[str, PartyData],
        options: TrainOptions,
        signer: Signer | None,
    ) -> None:
        super().__init__(session, split, bottoms, data, options)
        self.signer = signer

    def handshake(self, resumable: list[int]) -> int:
        """See `_Trainer.handshake`."""
        session, options = self.session, self.options
        (bottom,), (widths,) = self.bottoms.values(), self.widths.values()
        epoch = agree_as_feature(session, self.split, options, widths, resumable)
        lane = feature_lane(session, widths, options, "train", self.signer)
        self.side = FeatureSide(bottom, lane, session.hub)
        return epoch

    def lanes(self) -> Mapping[str, FeatureLane | LabelLane]:
        """See `_Trainer.lanes`."""
        return {self.session.label_party: self.side.lane}

    def train_epoch(self, epoch: int, task: Task) -> float | None:
        """See `_Trainer.train_epoch`."""
        batches = epoch_batches(self.session, self.split.train, epoch, self.options.batch_size)
        first = (epoch - 1) * self.steps_per_epoch
        self.schedule.feature_epoch(self.side, batches, first, self.rate, task)
        return None

    def close_epoch(self, record: EpochRecord) -> tuple[EpochRecord, str]:
        """Send the cuts of the validation rows, take the label party's decision."""
        send_cuts(self.side.bottom, self.side.lane, self.split.valid, "train.valid")
        return take_decision(self.session, record)


class LabelTrainer(_Trainer):
    """The label party: the top, its own bottom if any, a link to each feature party.

    In the pooled reference all bottoms are here and there are no links.
    """

    def __init__(
        self,
        session: Session,
        split: Split,
        bottoms: Mapping[str, nn.Module],
        data: Mapping[str, PartyData],
        options: TrainOptions,
        top: nn.Module,
        labels: Labels,
        loss: Loss,
    ) -> None:
        super().__init__(session, split, bottoms, data, options)
        self.labels, self.loss = labels, loss
        self.top = self._part(top, None, session.me)
        self.parts["top"] = self.top
        self.side = LabelSide(self.top, self.bottoms, {}, labels, loss, session.links)

    def handshake(self, resumable: list[int]) -> int:
        """See `_Trainer.handshake`."""
        widths, epoch = agree_as_label(
            self.session, self.split, self.options, self.widths, self.top, resumable
        )
        self.side.lanes = label_lanes(self.session, widths, self.options, "train")
        return epoch

    def lanes(self) -> Mapping[str, FeatureLane | LabelLane]:
        """See `_Trainer.lanes`."""
        return self.side.lanes

    def train_epoch(self, epoch: int, task: Task) -> float | None:
        """See `_Trainer.train_epoch`."""
        batches = epoch_batches(self.session, self.split.train, epoch, self.options.batch_size)
        first = (epoch - 1) * self.steps_per_epoch
        return self.schedule.label_epoch(self.side, batches, first, self.rate, task)

    def close_epoch(self, record: EpochRecord) -> tuple[EpochRecord, str]:
        """Score the validation rows, keep the best epoch, decide, tell the partners."""
        value = 0.0
        if len(self.split.valid):
            scores = label_scores(self.side, self.split.valid, "train.valid")
            truth = self.labels[self.split.valid]
            record = replace(
                record, valid_auc=auc(truth, scores), valid_log_loss=log_loss(truth, scores)
            )
            value = _value(record, self.options.metric)
        # Without validation rows the last epoch is the best one known.
        better = value > self.state.best_value or not len(self.split.valid)
        if better:
            self.state.best_value = value
        record = replace(record, best=better)
        best_epoch = record.epoch if better else self.state.best_epoch
        patience = self.options.patience
        stop = ""
        if patience and record.epoch - best_epoch >= patience:
            stop = f"no better validation {_METRIC_NAMES[self.options.metric]} in {patience} epochs"
        send_decision(self.session, self.options, record, stop)
        return record, stop


_METRIC_NAMES = {"auc": "AUC", "log_loss": "log loss"}


def _value(record: EpochRecord, metric: str) -> float:
    value = record.valid_auc if metric == "auc" else record.valid_log_loss
    assert value is not None
    return value if metric == "auc" else -value
