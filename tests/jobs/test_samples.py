"""What the label party tells of the samples arrives whole, and nothing else is taken."""

import numpy as np
import pytest

from isthmus.data.time_split import parts_by_time
from isthmus.errors import BadMessage, IsthmusError
from isthmus.jobs import samples as module
from isthmus.jobs.samples import TOPIC, SampleFacts, hear_samples, tell_samples
from isthmus.session import run_parties

FRACTIONS = (0.5, 0.2, 0.3)
TIME = np.arange(10.0)
PART = parts_by_time(TIME, FRACTIONS)


def exchange(tell, *, fractions=FRACTIONS, time=True):
    def hear(session):
        try:
            return hear_samples(session, 10, fractions=fractions, time=time)
        except IsthmusError as error:
            return error

    return run_parties({"alice": hear, "bob": tell}, label_party="bob")["alice"]


@pytest.mark.parametrize("chunk", [3, 10, 1 << 20])
@pytest.mark.parametrize("part", [PART, None])
@pytest.mark.parametrize("time", [TIME, None])
def test_what_was_told_is_heard(monkeypatch, chunk, part, time):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = exchange(
        lambda session: tell_samples(session, SampleFacts(part, time)),
        fractions=None if part is None else FRACTIONS,
        time=time is not None,
    )
    for told, heard in ((part, found.part), (time, found.time)):
        assert (heard is None) == (told is None)
        assert told is None or (heard.tolist(), heard.dtype) == (told.tolist(), told.dtype)


@pytest.mark.parametrize(
    "tensors",
    [
        {"part": PART},
        {"part": PART, "time": TIME, "label": TIME},
        {"part": PART, "time": TIME[:9]},
        {"part": PART, "time": TIME.astype(np.float32)},
        {"part": PART.astype(np.int64), "time": TIME},
        {"part": np.zeros(10, np.uint8), "time": TIME},
        {"part": np.full(10, 7, np.uint8), "time": TIME},
        {"part": PART, "time": np.where(TIME == 3, np.nan, TIME)},
        {"part": PART, "time": np.where(TIME == 3, np.inf, TIME)},
    ],
)
def test_anything_else_is_refused(tensors):
    found = exchange(lambda session: session.link("alice").send(TOPIC, tensors))
    assert isinstance(found, BadMessage)
    assert TOPIC in str(found)
