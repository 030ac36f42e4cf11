"""With everybody there, a run on devices is the simulated run, bit for bit."""

from dataclasses import replace

import pytest
from tests.fedrec.devices.conftest import QUICK, without_times

from isthmus.fedrec import RunOptions, recipe
from isthmus.fedrec.privacy import Defences


@pytest.mark.parametrize(
    ("name", "backbone", "sets"),
    [
        ("fedavg", "fcf", QUICK),
        ("fedavg", "fedncf", QUICK | {"share": 0.5}),
        ("fedprox", "fcf", QUICK),
        ("fedadam", "fcf", QUICK),
        ("fedavgm", "fcf", QUICK),
        ("row-wise", "fcf", QUICK),
        ("fedatt", "fcf", QUICK),
        ("trimmed-mean", "fcf", QUICK),
        ("pfedrec", None, {"dim": 4}),
        ("fedrap", None, {"dim": 4}),
        ("perfedrec", "fcf", QUICK | {"per_round": 6, "clusters": 3}),
        ("perfedrec", "fedncf", QUICK | {"per_round": 9, "clusters": 2}),
        ("fedfast", "fcf", QUICK | {"share": 0.5, "clusters": 3}),
        ("gpfedrec", None, {"dim": 16, "epochs": 2}),
        ("pfedmoe", None, QUICK),
        ("ease", None, {}),
        ("item-knn", None, {}),
        ("popularity", None, {}),
        ("gfcf", None, {"components": 5}),
        ("fedcia-model-free", None, {}),
        ("fcf-als", None, {"dim": 4}),
        ("ordered-pairs", None, {}),
        ("ordered-pairs", None, {"judges": 9}),
        ("ordered-pairs", None, {"whole_items": 10, "sketch_words": 1 << 14}),
    ],
)
def test_the_result_is_that_of_the_simulated_run(federation, name, backbone, sets):
    chosen, options = recipe(name, backbone, sets), RunOptions(rounds=3, every=2)
    served = federation.whole(chosen, options)
    assert without_times(served.result) == without_times(federation.simulated(chosen, options))
    assert served.refused == {}
    assert all(not one.left_out and not one.absent for one in served.rounds)


@pytest.mark.parametrize(
    ("name", "backbone", "sets"),
    [
        ("fedca", "fcf", QUICK | {"mixed": 0.6}),
        ("fedca", "fedncf", QUICK | {"mixed": 0.6, "variant": "authors"}),
        ("fedca", "pfedrec", {"dim": 4, "mixed": 1.0}),
        ("fedem", None, {"dim": 4, "epochs": 2, "mixed": 0.6}),
        ("pfedgraph", "fedncf", QUICK | {"mixed": 0.6, "closeness": 5.0}),
    ],
)
def test_own_tables_are_mixed_as_in_the_simulated_run(federation, name, backbone, sets):
    chosen, options = recipe(name, backbone, sets), RunOptions(rounds=4, every=2)
    served = federation.whole(chosen, options)
    found, wanted = (
        without_times(one) for one in (served.result, federation.simulated(chosen, options))
    )
    # Whole tables of those that are mixed go up, where `run` counts the touched rows of all.
    assert {one.up for one in found.rounds} != {one.up for one in wanted.rounds}
    assert without_up(found) == without_up(wanted)
    assert served.refused == {}
    assert all(not one.left_out and not one.absent for one in served.rounds)


@pytest.mark.parametrize("defences", [Defences(), Defences(clip=0.5)])
def test_copies_of_own_tables_are_blended_as_in_the_simulated_run(federation, defences):
    chosen = recipe("cofedrec", None, {"dim": 4, "groups": 4})
    options = RunOptions(rounds=4, every=2, defences=defences)
    served = federation.whole(chosen, options)
    found, wanted = (
        without_times(one) for one in (served.result, federation.simulated(chosen, options))
    )
    # What a guard has changed does not complete a copy: then whole tables go up.
    assert (found == wanted) is not bool(defences)
    assert without_up(found) == without_up(wanted)
    assert served.refused == {}


def without_up(result):
    return replace(result, rounds=[replace(one, up=0) for one in result.rounds])
