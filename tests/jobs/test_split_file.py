"""A split file that does not fit the samples is told with what to do, not by a traceback."""

import numpy as np
import pytest
from safetensors.numpy import save

from isthmus.errors import StorageError
from isthmus.jobs.artefacts import PartyFolder
from isthmus.jobs.context import Context
from isthmus.jobs.outcome import build_report
from isthmus.jobs.pooled import add_pooled
from isthmus.jobs.steps import encode
from isthmus.session import Session


@pytest.mark.parametrize(
    "parts", [[0, 1, 2], [0, 0, 1, 2, 2], [0, 7, 1, 2], []], ids=["short", "long", "7", "none"]
)
def test_a_damaged_split(workshop, parts):
    job = workshop.job()
    session = Session(me="bob", parties=job.spec.order, label_party="bob", seed=3)
    context = Context(job=job, session=session, folder=PartyFolder(workshop.folder / "run"))
    folder = context.step("encode")
    folder.create()

    def write(numbers):
        np.save(folder.file(encode.SPLIT), np.array(numbers, np.uint8).reshape(-1, 1))

    write([0, 0, 1, 2])
    assert encode.split_of(context, 4).test.tolist() == [3]
    write(parts)
    with pytest.raises(StorageError, match=r"split\.npy") as caught:
        encode.split_of(context, 4)
    assert "without --resume" in caught.value.mend


def test_neither_the_report_nor_the_pooled_model_takes_another_split(workshop):
    job = workshop.job("train.epochs=1", "evaluate.alone=false")
    folder = PartyFolder(workshop.run(job)["bob"].parent)
    path = folder.step("encode").file(encode.SPLIT)
    np.save(path, np.load(path)[:-1])
    with pytest.raises(StorageError, match="samples, where there are"):
        build_report(job, "bob", folder)
    with pytest.raises(StorageError, match="samples, where there are"):
        add_pooled(job, workshop.out / job.folder_name)


def test_labels_of_another_number_of_samples(workshop):
    folder = PartyFolder(workshop.run(workshop.job("train.epochs=1"))["bob"].parent)
    inputs = folder.step("encode").path
    labels = encode.load_labels(inputs)
    (inputs / encode.LABELS).write_bytes(save({"labels": labels[:-1].copy()}))
    with pytest.raises(StorageError, match=rf"{len(labels) - 1} labels, where there are") as caught:
        encode.load_labels(inputs)
    assert "without --resume" in caught.value.mend
