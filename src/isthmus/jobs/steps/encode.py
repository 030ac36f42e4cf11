"""Step `encode`: fit the encoders on the training rows and write the features as arrays.

Files: `split.npy` (uint8 [samples]: 0 for training, 1 for validation, 2 for test), `encoder.json`
(vocabularies and statistics; stays with its owner), `features/` (memory-mapped arrays),
`histories/` (of the sequences that are built from events), `samples.safetensors` where many samples
share a row (`rows`, int64 [samples]: the encoded row of each), and where labels are
`labels.safetensors` (`labels`, float32 [samples] or [samples, columns]) and, where there is more
than one binary label, `targets.json` (what the columns are). Of a two-tower job also `catalogue/`,
the items that are in no sample. Of a job about tables `table.parquet` (`isthmus.jobs.tabular`)
and `cleaning.json`; encoder and features only where a network is trained. Where an earlier job's
model is applied `unseen.json`, what of its values the training had not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from isthmus.align import Alignment
from isthmus.data import (
    Encoder,
    Features,
    FeatureSpec,
    Split,
    fit_encoder,
    load_features,
    read_table,
    split_samples,
)
from isthmus.data.arrays import open_array, writing_array
from isthmus.data.columns import as_text, column_of
from isthmus.data.history_files import load_histories, save_histories
from isthmus.data.schema import source_columns, text_columns
from isthmus.data.time_split import parts_by_time, parts_of, split_of_parts
from isthmus.data.times import Times, times_of
from isthmus.errors import DataError, StorageError
from isthmus.files import write_bytes, write_json
from isthmus.jobs import tabular
from isthmus.jobs.applied import COLUMNS, check_same_training, columns_json, trained_features
from isthmus.jobs.classes import check_parts
from isthmus.jobs.collaborative import add_collaborative, collaborative_in
from isthmus.jobs.context import Context
from isthmus.jobs.histories import add_histories, histories_in, own_time
from isthmus.jobs.label_data import labels_of
from isthmus.jobs.retrieval.catalogue import FOLDER, encode_catalogue
from isthmus.jobs.retrieval.labels import columns_of, retrieval_labels
from isthmus.jobs.samples import (
    SampleFacts,
    hear_samples,
    hear_weights,
    tell_samples,
    tell_weights,
)
from isthmus.jobs.steps import align
from isthmus.jobs.tables import features_of, read_columns
from isthmus.jobs.targets import TARGETS, load_targets, save_targets
from isthmus.jobs.unseen import keep_unseen, unseen_in_features, unseen_in_table

SPLIT = "split.npy"
ENCODER = "encoder.json"
FEATURES = "features"
HISTORIES = "histories"
SAMPLES = "samples.safetensors"
LABELS = "labels.safetensors"

Rows = NDArray[np.int64]
Labels = NDArray[np.float32]


def run(context: Context) -> None:
    """Encode this party's columns, and the label where it is held. Raises DataError, LinkError."""
    rows = align.load_rows(context)
    if context.spec.applies:
        _apply(context, rows)
        return
    facts = _facts(context, rows)
    split = _split(context, facts, len(rows))
    if context.spec.label.targets_of(context.me):
        _write_labels(context, rows, split)
    if context.spec.is_tabular:
        tabular.write(context, rows, split.train)
    if context.spec.learns != "network":
        return
    encoder = _encode(context, rows, split, facts.time)
    context.log.info(
        "encoded", columns=len(encoder.layout.fields), table_rows=encoder.layout.table_rows
    )


def _apply(context: Context, rows: Rows) -> None:
    """Encode as in the job whose model is applied; there are no labels, and nothing is divided."""
    check_same_training(context)
    folder, trained = context.step("encode"), context.trained("encode")
    if trained.file(TARGETS).exists():
        write_bytes(folder.file(TARGETS), trained.file(TARGETS).read_bytes())
    train = load_split(trained.path, open_array(trained.file(SPLIT), np.uint8).size).train
    # With `align.rows: label` a party may lack samples: they have no values to know.
    train = train[Alignment.load(context.trained("align").path).rows[train] >= 0]
    if context.spec.is_tabular:
        tabular.write(context, rows)
        found = unseen_in_table(context, train, rows >= 0)
    if context.spec.learns == "network":
        features = trained_features(context)
        frame = _with_a_row_of_nothing(_read(context, features), rows)
        _write_features(context, Encoder.load(trained.file(ENCODER)), frame, rows)
        found = unseen_in_features(load(trained.path), train, load(folder.path), rows >= 0)
    keep_unseen(context, found)


def load(folder: Path) -> Features:
    """The features in an encode folder, by sample of the agreed order."""
    features = load_features(folder / FEATURES)
    if (folder / SAMPLES).exists():
        features = features.with_rows(load_file(folder / SAMPLES)["rows"])
    if not features.layout.history_columns:
        return features
    return features.with_histories(load_histories(folder / HISTORIES, features.layout))


def load_labels(folder: Path) -> Labels:
    """A party's labels in its encode folder, float32 [samples] or [samples, columns].

    Raises:
        StorageError: they are of another number of samples than the cut beside them.
    """
    labels: Labels = load_file(folder / LABELS)["labels"]
    if len(labels) != (samples := open_array(folder / SPLIT, np.uint8).size):
        raise StorageError(
            f"{folder / LABELS} holds {len(labels)} labels, where there are {samples} samples",
            mend="It was damaged or exchanged: run the job again without --resume.",
        )
    return labels


def load_split(folder: Path, samples: int) -> Split:
    """The cut of the `samples` in an encode folder, the same at every party.

    Raises:
        StorageError: it cannot be read, or is one of another number of samples.
    """
    parts = open_array(folder / SPLIT, np.uint8).astype(np.uint8, copy=False)
    split = split_of_parts(parts.reshape(-1))
    if (found := len(split.train) + len(split.valid) + len(split.test)) != samples:
        raise StorageError(
            f"{folder / SPLIT} divides {found} samples, where there are {samples}",
            mend="It was damaged or exchanged: run the job again without --resume.",
        )
    return split


def split_of(context: Context, samples: int) -> Split:
    """The cut of the `samples` into training, validation and test. Raises StorageError."""
    return load_split(context.step("encode").path, samples)


def _facts(context: Context, rows: Rows) -> SampleFacts:
    """What is known of the samples: their times and parts, told by the label party if by anyone."""
    spec, label = context.spec, context.spec.label
    by_time = spec.split.by == "time"
    if not context.is_label_party:
        fractions = spec.split.fractions if by_time else None
        return hear_samples(context.session, len(rows), fractions=fractions, time=label.share_time)
    if label.time is None:
        return SampleFacts()
    columns = [label.time, *([spec.split.per] if spec.split.per else [])]
    text = [spec.split.per] if spec.split.per not in (None, label.time) else []
    frame = read_columns(context.job, context.me, columns, text=[name for name in text if name])
    time = _times(context, frame, rows)
    part = None
    if by_time:
        part = parts_by_time(time, spec.split.fractions, _groups(context, frame, rows))
    told = SampleFacts(part, time if label.share_time else None)
    tell_samples(context.session, told)
    return SampleFacts(part, time)


def _times(context: Context, frame: pl.DataFrame, rows: Rows) -> Times:
    """Of each sample, float64 [samples], none missing."""
    name = context.spec.label.time or ""
    source = str(context.job.table_of(context.me))
    times = times_of(column_of(frame, name, source), source)[rows]
    if missing := int(np.count_nonzero(np.isnan(times))):
        raise DataError(
            f"{source}: the time {name!r} is missing in {missing} of {len(rows)} aligned rows",
            mend="Fill the column or drop these rows before the job.",
        )
    return times


def _groups(context: Context, frame: pl.DataFrame, rows: Rows) -> Rows | None:
    """The value of `split.per` of each sample as a number; missing ones are a group of theirs."""
    name = context.spec.split.per
    if name is None:
        return None
    source = str(context.job.table_of(context.me))
    text = as_text(column_of(frame, name, source), source).gather(rows)
    groups = text.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return np.asarray(groups, dtype=np.int64)


def _split(context: Context, facts: SampleFacts, samples: int) -> Split:
    """The cut of the samples, as it is written down."""
    spec = context.spec
    if facts.part is None:
        split = split_samples(samples, spec.seed, spec.split.fractions)
        part = parts_of(split, samples)
    else:
        part, split = facts.part, split_of_parts(facts.part)
    with writing_array(context.step("encode").file(SPLIT), samples, 1, np.uint8) as add:
        add(part[:, None])
    return split


def _encode(context: Context, rows: Rows, split: Split, time: Times | None) -> Encoder:
    job, me = context.job, context.me
    features = features_of(job, me)
    source = str(job.table_of(me))
    frame = _with_a_row_of_nothing(_read(context, features), rows)
    train = rows[split.train]
    train = train[train >= 0]
    shared = len(np.unique(rows)) < len(rows)
    encoder = fit_encoder(frame, features, np.unique(train) if shared else train, source=source)
    folder = context.step("encode")
    encoder, histories = add_histories(job, me, features, encoder, frame, rows, split, time)
    if any(collaborative_in(features)):
        encoder, frame = _with_collaborative(context, encoder, frame, rows, split, time)
    if histories:
        folder.file(HISTORIES).mkdir(exist_ok=True)
        save_histories(folder.file(HISTORIES), histories)
    write_json(folder.file(COLUMNS), columns_json(features))
    if context.is_label_party and context.spec.train.model.retrieval is not None:
        encode_catalogue(job, encoder, rows, folder.file(FOLDER))
    _write_features(context, encoder, frame, rows)
    return encoder


def _with_a_row_of_nothing(frame: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """The table, with missing values in a last row where -1 stands for a row that is not there."""
    return pl.concat([frame, frame.clear(1)]) if (rows < 0).any() else frame


def _write_features(context: Context, encoder: Encoder, frame: pl.DataFrame, rows: Rows) -> None:
    """Leave the encoder and what it makes of the samples, each row of the table once."""
    folder, source = context.step("encode"), str(context.job.table_of(context.me))
    local, position = np.unique(rows, return_inverse=True)
    shared = len(local) < len(rows)
    encoder.save(folder.file(ENCODER))
    encoder.encode(frame, folder.file(FEATURES), rows=local if shared else rows, source=source)
    if shared:
        write_bytes(folder.file(SAMPLES), save({"rows": position.astype(np.int64)}))


def _with_collaborative(
    context: Context,
    encoder: Encoder,
    frame: pl.DataFrame,
    rows: Rows,
    split: Split,
    time: Times | None,
) -> tuple[Encoder, pl.DataFrame]:
    """The encoder and the table with the signals that are made of the training labels."""
    spec, me, folder = context.spec, context.me, context.step("encode").path
    group, by_time = None, spec.split.by == "time"
    if by_time and spec.split.per is not None:
        per = [spec.split.per]
        group = _groups(context, read_columns(context.job, me, per, text=per), rows)
    return add_collaborative(
        features_of(context.job, me),
        encoder,
        frame,
        rows,
        split,
        load_targets(folder).column(load_labels(folder), 0),
        seed=context.session.seed_for("collaborative"),
        time=time if by_time else None,
        group=group,
        source=str(context.job.table_of(me)),
    )


def _read(context: Context, features: Mapping[str, FeatureSpec]) -> pl.DataFrame:
    """This party's table with the columns that its features need."""
    job, me = context.job, context.me
    built = [spec for _, spec in histories_in(features)]
    codes = text_columns(features)
    codes += [spec.by for spec in built if spec.by is not None]
    present = read_table(job.table_of(me)).collect_schema().names()
    times = [column for spec in built if (column := own_time(spec, present)) is not None]
    # A table of no columns would have no rows either.
    columns = [*source_columns(features), *times] or context.spec.key_of(me)
    return read_columns(job, me, dict.fromkeys(columns), text=[c for c in codes if c not in times])


def times_of_samples(context: Context, rows: Rows) -> Times:
    """At the label party: the time of each sample, float64 [samples], none missing."""
    assert context.spec.label.time is not None
    return _times(context, read_columns(context.job, context.me, [context.spec.label.time]), rows)


def _write_labels(context: Context, rows: Rows, split: Split) -> None:
    label = context.spec.label
    source = str(context.job.table_of(context.me))
    if context.spec.train.model.retrieval is not None:
        ids = columns_of(context.spec)
        columns = dict.fromkeys([*label.columns, *ids])
        frame = read_columns(context.job, context.me, columns, text=ids)
        target, numbered = retrieval_labels(context.spec, frame, rows, split, source=source)
        folder = context.step("encode")
        write_bytes(folder.file(LABELS), save({"labels": numbered}))
        save_targets(folder.path, target)
        return
    me, told = context.me, None
    if label.weight is not None and not context.is_label_party:
        told = hear_weights(context.session, len(rows))
    frame = read_columns(context.job, me, label.columns_of(me))
    targets, labels = labels_of(
        label, frame, rows, split.train, source=source, party=me, weights=told
    )
    if context.is_label_party and targets.weighted:
        tell_weights(context.session, context.spec.tower_parties, labels[:, -1])
    if context.is_label_party and targets.first.kind == "binary":
        check_parts(label.expression, targets.column(labels, 0), split)
    folder = context.step("encode")
    write_bytes(folder.file(LABELS), save({"labels": labels}))
    save_targets(folder.path, targets, named=bool(context.spec.tower_parties))
