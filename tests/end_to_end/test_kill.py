"""Killed parties and broken lines: the same command again ends as if nothing had happened."""

import os
import sys

import pytest
from tests.end_to_end.conftest import Site
from tests.end_to_end.disturbing import WRITES, Moment, Stage, draw

from isthmus.data.synthetic import SyntheticOptions, synthetic_tables

SEED = int(os.environ.get("ISTHMUS_MOMENTS", "3"))
"""Another seed tries other moments; a failure tells its own."""
QUICK = (
    Moment("train", 0.55, "kill alice"),
    Moment("checkpoint", 0.52, "kill bob"),
    Moment("train", 0.35, "drop"),
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.timeout(300),
]


def made_site(folder):
    synthetic_tables(1, SyntheticOptions(rows=600, users=60, items=30)).write(folder)
    return Site(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a run leaves in which nothing goes wrong, and how many messages its phases have."""
    stage = Stage(made_site(tmp_path_factory.mktemp("undisturbed")))
    return stage.undisturbed(), stage.totals


@pytest.mark.parametrize(
    "moment",
    [
        *(pytest.param(moment, id=str(moment)) for moment in QUICK),
        *(pytest.param(m, id=str(m), marks=pytest.mark.slow) for m in draw(SEED)),
    ],
)
def test_a_run_that_was_disturbed_ends_like_one_that_was_not(tmp_path, undisturbed, moment):
    expected, totals = undisturbed
    stage = Stage(made_site(tmp_path), totals)
    told = f"seed {SEED}, moment {moment}"
    ended = stage.disturbed(moment)
    for name, one in ended.items():
        assert "Traceback" not in one.said, (told, name, one.said)
        assert one.code in _codes(moment, name), (told, name, one)
    if moment.what != "blink":
        stage.rerun(moment)
    found = stage.results()
    assert found.keys() == expected.keys(), told
    for name, value in expected.items():
        assert found[name] == value, (told, name)
    assert not stage.leftovers(), told


def _codes(moment, name):
    if moment.what == "blink":
        return (0,)
    if moment.phase in WRITES and name in moment.what:
        return (-9,)
    # Killed; lost its partner; had finished by then; `isthmus run` tells of a party that died.
    return (-9, 8, 0, 1)


@pytest.mark.parametrize("victim", ["alice", pytest.param("bob", marks=pytest.mark.slow)])
def test_who_loses_its_partner_is_told_how_to_go_on(tmp_path, undisturbed, victim):
    survivor = "bob" if victim == "alice" else "alice"
    stage = Stage(made_site(tmp_path), undisturbed[1])
    ended = stage.disturbed(Moment("checkpoint", 0.5, f"kill {victim}"))[survivor]
    assert ended.code == 8
    assert ended.said.count("error [") == 1
    assert "error [link.gone]" in ended.said
    assert "--resume at every party" in ended.said
    assert victim in ended.said
    for party in ("alice", "bob"):
        folder = stage.folder(party)
        assert not list(folder.glob("report*"))
        assert not (folder / "train" / "done.json").exists()
        assert not (folder / "train" / "bottom.safetensors").exists()
