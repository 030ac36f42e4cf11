"""Labels of one class, in all samples or in a part of them."""

import numpy as np
import polars as pl
import pytest

from isthmus.data import Split
from isthmus.errors import DataError, PartnerFailed
from isthmus.jobs.classes import check_parts


def split(train, valid, test):
    return Split(*(np.array(rows, dtype=np.int64) for rows in (train, valid, test)))


def labels(text):
    return np.array([float(digit) for digit in text], dtype=np.float32)


def test_parts_with_both_classes_pass():
    check_parts("Rating > 3", labels("010101"), split([0, 1], [2, 3], [4, 5]))
    check_parts("Rating > 3", labels("0101"), split([0, 1], [], [2, 3]))


@pytest.mark.parametrize(
    ("text", "said", "mend"),
    [
        ("000000", "is negative in all 6 aligned samples", "does the expression"),
        ("111111", "is positive in all 6 aligned samples", "does the expression"),
        ("010001", "all 2 valid samples, of 2 positive and 4 negative", "split.valid a larger"),
        ("010111", "is positive in all 2 test samples", "split.test a larger"),
        ("000101", "is negative in all 2 train samples", "split.train a larger"),
    ],
)
def test_a_part_of_one_class_is_told_with_its_name(text, said, mend):
    with pytest.raises(DataError) as caught:
        check_parts("Rating > 3", labels(text), split([0, 1], [2, 3], [4, 5]))
    assert "label.expression 'Rating > 3'" in caught.value.message
    assert said in caught.value.message
    assert mend in caught.value.mend


def test_only_the_label_party_learns_of_it(workshop):
    workshop.spoil("bob", lambda t: t.with_columns(Clicked=1))
    outcome = workshop.run(workshop.job())
    assert isinstance(outcome["bob"], DataError)
    assert "is positive in all" in outcome["bob"].message
    assert isinstance(outcome["alice"], PartnerFailed)
    assert "positive" not in str(outcome["alice"])


def test_a_small_validation_part_is_found_before_training(workshop):
    workshop.spoil("bob", lambda t: t.with_columns(Clicked=(pl.int_range(pl.len()) >= 20)))
    job = workshop.job("label.expression=Clicked", "split={train: 0.6, valid: 0.003, test: 0.397}")
    outcome = workshop.run(job)
    assert "valid samples" in outcome["bob"].message
    assert not (workshop.results(job, "bob") / "train" / "metrics.jsonl").exists()
