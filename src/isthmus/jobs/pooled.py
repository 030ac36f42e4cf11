"""The pooled reference: the job's network trained on all parties' columns in one place.

Only a simulation can know it, since it reads the encoded features of every party: it uses what
`isthmus run` left in the parties' folders, after the parties have finished.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from isthmus.errors import StorageError
from isthmus.files import write_bytes
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.job import Job
from isthmus.jobs.learners import learner_of
from isthmus.jobs.measured import Scores
from isthmus.jobs.rehearsal import rehearsal_secret
from isthmus.jobs.runner import POOLED
from isthmus.jobs.steps import encode
from isthmus.jobs.steps.evaluate import SCORES, reported
from isthmus.jobs.targets import load_targets
from isthmus.jobs.training import bottom_of, data_of, options_of, top_of, tower_of
from isthmus.models.towers import WholeTop
from isthmus.session import Progress, Session, SilentProgress
from isthmus.split import train_pooled
from isthmus.split.scoring import label_scores
from isthmus.split.sides import LabelSide, Part
from isthmus.split.targets import divided, together


def add_pooled(job: Job, folder: Path, progress: Progress | None = None) -> None:
    """Train the pooled model and leave its scores beside the steps of the parties with labels.

    Args:
        job: the job; all its parties have finished it.
        folder: the job's folder, with a folder a party.
        progress: where training reports to.

    Raises:
        StorageError: a party's files are missing or cannot be written.
    """
    party = PartyFolder(folder / job.spec.label.party)
    evaluated, pooled = party.step("evaluate").marker(), party.step(POOLED)
    if evaluated is None:
        raise StorageError(f"{party.path} holds no finished evaluation")
    known = pooled.marker()
    if known is not None and known.token == evaluated.token:
        return
    began = time.monotonic()
    pooled.clear()
    pooled.create()
    progress = progress or SilentProgress()
    with progress.task("train"):
        scores = _train_and_score(job, folder, progress)
    seconds = time.monotonic() - began
    for tower_party in job.spec.tower_parties:
        step = PartyFolder(folder / tower_party).step(POOLED)
        step.clear()
        step.create()
        write_bytes(step.file(SCORES), save({"pooled": scores[tower_party]}))
        step.seal(evaluated.token, seconds)
    write_bytes(pooled.file(SCORES), save({"pooled": scores[job.spec.label.party]}))
    pooled.seal(evaluated.token, seconds)


def _train_and_score(job: Job, folder: Path, progress: Progress) -> dict[str, Scores]:
    """The scores of each party with labels, of its own targets."""
    spec = job.spec
    if (learner := learner_of(spec)) is not None:
        return {spec.label.party: learner.pooled(job, folder, progress)}
    sessions = {
        party: Session(
            me=party,
            parties=spec.order,
            label_party=spec.label.party,
            seed=spec.seed,
            progress=progress,
            secret=rehearsal_secret(spec.seed, party),
        )
        for party in spec.order
    }
    inputs = {party: PartyFolder(folder / party).step("encode").path for party in spec.order}
    data = {party: data_of(spec, encode.load(inputs[party])) for party in spec.bottom_parties}
    bottoms = {
        party: bottom
        for party in data
        if (bottom := bottom_of(spec, sessions[party], data[party].features.layout)) is not None
    }
    label_session = sessions[spec.label.party]
    own = inputs[spec.label.party]
    split = encode.load_split(own, len(encode.load(own)))
    held = {p: load_targets(inputs[p]) for p in (spec.label.party, *spec.tower_parties)}
    top = top_of(spec, label_session, held[spec.label.party].tasks)
    assert top is not None
    targets, labels = held[spec.label.party], encode.load_labels(own)
    if spec.tower_parties:
        targets, labels = together([(held[p], encode.load_labels(inputs[p])) for p in held])
        made = {p: tower_of(spec, sessions[p], held[p].tasks) for p in spec.tower_parties}
        top = WholeTop(top, {p: tower for p, tower in made.items() if tower is not None})
    options = options_of(spec)
    train_pooled(
        label_session,
        split=split,
        bottoms=bottoms,
        data=data,
        top=top,
        labels=labels,
        options=options,
        targets=targets,
    )
    device = options.torch_device()
    parts = {party: Part(bottom, device, data[party]) for party, bottom in bottoms.items()}
    side = LabelSide(Part(top, device), parts, {}, np.empty(0, np.float32), targets.loss)
    scores = label_scores(side, split.test, POOLED, targets, options.score_batch)
    if not spec.tower_parties:
        return {spec.label.party: reported(spec, own, bottoms.get(spec.label.party), scores)}
    return dict(zip(held, divided(scores, list(held.values())), strict=True))
