"""Orders of a server that are no orders: what a shard insists on, numbers that cannot be."""

from dataclasses import asdict

import numpy as np
import pytest
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, QUICK
from tests.fedrec.devices.inside import GROUPS, MASKED, begun

from isthmus.errors import BadMessage, JobError, NotFinite, TrainError
from isthmus.fedrec import RunOptions, recipe
from isthmus.fedrec.devices import Conduct, Limits, split
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.wire import Ask, Order
from isthmus.fedrec.devices.worker import Worker
from isthmus.fedrec.privacy import Defences

PART = split(made_up(clients=14, items=30), HONEST[0], 0, GROUPS)[0]
OWN = {"clients": PART.clients}


def worker(name, values, defences=MASKED, conduct=None):
    usual = recipe(name).values() if ":" not in name else {}
    order = Order(
        algorithm=name, backbone=recipe(name).backbone, values=usual | values,
        protocols=["honest-sampled"], defences=asdict(defences), mark="m", start="s", done=0,
    )  # fmt: skip
    return Worker(PART, order, conduct or Conduct(1), Keeper(None))


def answered(shard, kind, arrays, what="", number=1):
    return list(shard.answer(Ask(kind=kind, number=number, what=what), arrays))


def test_a_shard_that_gives_sums_alone_sends_no_sketch_with_little_noise():
    insists = Conduct(1, sums_only=True)
    for epsilon, told in ((0.0, "with no noise"), (8.5, "with an epsilon of 8.5")):
        with pytest.raises(JobError, match=told) as found:
            worker("fedca-sketched", {"epsilon": epsilon}, conduct=insists)
        assert "--sums-only" in found.value.mend
        worker("fedca-sketched", {"epsilon": epsilon})
    for epsilon in (8.0, 1.0):
        worker("fedca-sketched", {"epsilon": epsilon}, conduct=insists)


def test_a_shard_that_insists_on_noise_gives_no_sum_without():
    noisy = {"clip": 4.0, "noise": 2.0}
    insists = Conduct(1, least_noise=2.0)
    assert len(answered(worker("ordered-pairs", noisy, conduct=insists), "total", {}, "pairs")) == 1
    # There is no noise on a sketch, whose words are 32 bits wide.
    shard = worker("ordered-pairs", noisy | {"whole_items": 0}, conduct=insists)
    with pytest.raises(JobError, match="noise cannot be put on a sketch"):
        answered(shard, "total", {}, "sketch")


def test_nothing_is_judged_for_a_choice_where_sums_are_clipped():
    shard = worker("ordered-pairs", {"clip": 4.0, "noise": 2.0})
    with pytest.raises(BadMessage, match="sums that are clipped"):
        answered(shard, "try", OWN, "0")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("name", "field"),
    [("fedca-sketched", "epsilon"), ("ordered-pairs", "noise"), ("fcf-als", "ridge")],
)
def test_numbers_are_finite(name, field, value):
    for made in (
        lambda: worker(name, {field: value}),
        lambda: recipe(name, None, {field: str(value)}),
    ):
        with pytest.raises(JobError, match=field):
            made()


def test_least_squares_without_a_solution_are_an_error_of_ours():
    shard = worker("fcf-als", {"ridge": 0.0, "dim": 4}, defences=Defences())
    with pytest.raises(NotFinite, match="no one solution"):
        answered(shard, "total", {"learned": np.zeros((30, 4), np.float32)}, "gradients")


@pytest.mark.parametrize(
    "value",
    [{"temperature": 0.0}, {"base_temperature": -1.0}, {"contrast": -5}, {"groups": 0}],
)
def test_numbers_of_cofedrec_that_cannot_be(value):
    with pytest.raises(JobError, match=next(iter(value))):
        worker("cofedrec", value, defences=Defences())


def test_sums_of_more_groups_than_a_message_holds_are_refused(monkeypatch):
    shard = worker("fedca-sketched", QUICK)
    answered(shard, "train", OWN)
    direction = np.array([[1.0, 0, 0, 0]])
    given = OWN | {"of": np.zeros(len(PART.clients), np.int64), "directions": direction}
    monkeypatch.setattr("isthmus.fedrec.devices.grouped_here.MESSAGE_LIMIT", 8 * 30 * 4)
    with pytest.raises(BadMessage, match="more than a message holds"):
        answered(shard, "total", given, "groups")
    monkeypatch.undo()
    assert len(answered(shard, "total", given, "groups")) == 1


@pytest.mark.parametrize("error", [MemoryError("112 GiB"), ZeroDivisionError()])
def test_a_shard_ends_with_an_error_of_ours_where_it_cannot_do_what_is_asked(
    federation, monkeypatch, error
):
    def cannot(self, ask, arrays):
        raise error

    monkeypatch.setattr(Worker, "_train", cannot)
    with federation.listening() as listener:
        shard = federation.shard("ann", listener)
        limits = Limits(round=60, wait=60, reconnect=0.3, begin_with=6)
        with pytest.raises(TrainError):
            federation.serve(listener, recipe("fedavg", "fcf", QUICK), RunOptions(rounds=1), limits)
        shard.join(30)
    assert isinstance(shard.error, JobError)
    assert "hub" in shard.error.message
    assert "112" not in shard.error.message


def test_a_shards_owner_is_told_of_masks_and_noise():
    noisy = Defences(secure_sum=True, clip=1.0, noise=4.0, discrete=True)
    pairs = {"clip": 4.0, "noise": 2.0}
    for name, values, defences, told in (
        ("fedavg", {}, Defences(clip=1.0, noise=4.0), "without masks"),
        ("fedavg", {}, MASKED, "under masks"),
        ("fedavg", {}, noisy, "under masks, with noise of 4 clips on the sum"),
        ("ordered-pairs", pairs, MASKED, "under masks, with noise of 2 clips on the sum"),
    ):
        assert worker(name, values, defences).shown == told


@pytest.mark.parametrize("value", [np.nan, np.inf, -2e6])
def test_a_server_whose_parameters_no_shard_takes_ends_the_run_itself(value):
    """Shards would end one by one, each with an error that blames the server."""
    going, crew, carrier = begun(defences=Defences(), rounds=2)
    going.method.shared.items[3, 1] = value
    with pytest.raises(NotFinite, match="which no shard takes"):
        going.go(lambda result: None)
    assert not carrier.sent
    assert crew.notes[0].number == 1
