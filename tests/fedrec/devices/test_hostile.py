"""What neither side believes: messages that cannot be, other people's clients, strange orders."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fedrec.devices.conftest import QUICK, Puppet, gate_in, in_thread, until

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec import RunOptions, Tables, Work, recipe
from isthmus.fedrec.devices import Limits
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.parcels import Packer, Unpacker
from isthmus.fedrec.devices.wire import (
    Order,
    Over,
    Shard,
    check_counts,
    check_loss,
    pack_work,
)
from isthmus.fedrec.devices.worker import Conduct, Worker
from isthmus.fedrec.kernels.arrays import Sizes

FEDAVG = recipe("fedavg", "fcf", QUICK)
PATIENT = Limits(round=60, wait=60, reconnect=0.3)
SIZES = Sizes(2, 0, 3, 4, 0)
SHARD = Shard(np.array([3, 5, 9]), 10, SIZES)
STARTS = Tables(np.zeros((1, 10, 2), np.float32), np.zeros((1, 4), np.float32), np.zeros(10, int))


def fair():
    """An upload of clients 3 and 9."""
    return {
        "clients": np.array([3, 9]),
        "indptr": np.array([0, 2, 5]),
        "items": np.array([1, 7, 0, 4, 9], np.int32),
        "rows": np.ones((5, 2), np.float32),
        "network": np.ones((2, 4), np.float32),
        "weight": np.array([1.0, 2.0]),
    }


def test_a_fair_upload_is_taken_as_it_is():
    found = SHARD.uploads(fair(), SHARD.clients, -1, STARTS)
    for name, array in fair().items():
        np.testing.assert_array_equal(getattr(found, name), array)


BAD = {
    "a client of another shard": ("clients", np.array([3, 4])),
    "a client beyond all": ("clients", np.array([3, 11])),
    "a negative client": ("clients", np.array([-3, 9])),
    "clients that fall": ("clients", np.array([9, 3])),
    "a client twice": ("clients", np.array([3, 3])),
    "clients of another kind": ("clients", np.array([3, 9], np.int32)),
    "an item out of range": ("items", np.array([1, 7, 0, 4, 10], np.int32)),
    "a negative item": ("items", np.array([-1, 7, 0, 4, 9], np.int32)),
    "items that fall": ("items", np.array([7, 1, 0, 4, 9], np.int32)),
    "an item twice": ("items", np.array([1, 1, 0, 4, 9], np.int32)),
    "too few items": ("items", np.array([1, 7, 0, 4], np.int32)),
    "items in a table": ("items", np.zeros((5, 1), np.int32)),
    "an indptr that does not begin": ("indptr", np.array([1, 2, 5])),
    "an indptr that falls": ("indptr", np.array([0, 6, 5])),
    "an indptr beyond": ("indptr", np.array([0, 2, 6])),
    "a short indptr": ("indptr", np.array([0, 5])),
    "rows of another width": ("rows", np.ones((5, 3), np.float32)),
    "too many rows": ("rows", np.ones((6, 2), np.float32)),
    "rows of another kind": ("rows", np.ones((5, 2))),
    "NaN": ("rows", np.full((5, 2), np.nan, np.float32)),
    "infinity": ("rows", np.full((5, 2), -np.inf, np.float32)),
    "huge numbers": ("rows", np.full((5, 2), 1e30, np.float32)),
    "NaN in a network": ("network", np.full((2, 4), np.nan, np.float32)),
    "another network": ("network", np.ones((2, 5), np.float32)),
    "a negative weight": ("weight", np.array([-1.0, 2.0])),
    "a heavy weight": ("weight", np.array([1.0, 1e9])),
    "no number for a weight": ("weight", np.array([1.0, np.nan])),
    "a weight too many": ("weight", np.ones(3)),
}


@pytest.mark.parametrize("what", BAD)
def test_an_upload_that_cannot_be_is_refused(what):
    name, array = BAD[what]
    with pytest.raises(BadMessage):
        SHARD.uploads(fair() | {name: array}, SHARD.clients, -1, STARTS)


def test_clients_that_were_not_asked_or_come_twice_are_refused():
    with pytest.raises(BadMessage, match="not asked"):
        SHARD.uploads(fair(), np.array([3, 5]), -1, STARTS)
    with pytest.raises(BadMessage, match="twice"):
        SHARD.uploads(fair(), SHARD.clients, 3, STARTS)
    for name in fair():
        with pytest.raises(BadMessage, match="missing"):
            SHARD.uploads({k: v for k, v in fair().items() if k != name}, SHARD.clients, -1, STARTS)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(fair())),
    kind=st.sampled_from(["<i8", "<i4", "<f4", "<f8", "|u1"]),
    shape=st.lists(st.integers(0, 6), max_size=3),
    seed=st.integers(0, 1000),
)
def test_whatever_an_array_is_the_answer_is_an_upload_in_bounds_or_a_bad_message(
    name, kind, shape, seed
):
    array = np.random.default_rng(seed).integers(-2, 12, shape).astype(kind)
    try:
        found = SHARD.uploads(fair() | {name: array}, SHARD.clients, -1, STARTS)
    except BadMessage:
        return
    assert set(found.clients) <= set(SHARD.clients)
    assert len(found.items) == len(found.rows) == found.indptr[-1]
    assert not len(found.items) or 0 <= found.items.min() <= found.items.max() < 10


def test_sums_and_counts_that_cannot_be_are_refused():
    with pytest.raises(BadMessage, match="losses"):
        check_loss(1 << 60, 2)
    fine = np.append(np.zeros(20), 3).astype(np.int64)
    np.testing.assert_array_equal(check_counts({"a": fine}, "a", 3), fine)
    for counts in (-fine, fine[:20], fine.astype(np.int32), fine + 1):
        with pytest.raises(BadMessage):
            check_counts({"a": counts}, "a", 3)


def orders(federation, **changes):
    order = Order(
        algorithm="fedavg", backbone="fcf", values=FEDAVG.values(), protocols=["full-ranking"],
        mark="m", start="s", done=0,
    )  # fmt: skip
    return Worker(
        federation.parts["ann"], order.model_copy(update=changes), Conduct(), Keeper(None)
    )


def test_a_shard_takes_no_module_nor_unknown_names_from_the_server(federation):
    for changes in (
        {"algorithm": "os:system"},
        {"algorithm": "nobody"},
        {"backbone": "nothing"},
        {"protocols": ["none"]},
        {"values": {"epochs": "many"}},
        {"values": {"nonsense": 1}},
        {"algorithm": "fedcia", "values": {}},
        {"algorithm": "gpfedrec", "values": {}, "defences": {"secure_sum": True}},
        {"algorithm": "gpfedrec", "values": {}, "defences": {"clip": 1.0, "noise": 1.0}},
        {"algorithm": "fedfast", "values": {}, "defences": {"pseudo_items": 1}},
        {"algorithm": "fedca", "values": {}, "defences": {"secure_sum": True}},
        {"algorithm": "fedca", "values": {}, "defences": {"clip": 1.0, "noise": 1.0}},
        {"defences": {"noise": 1.0}},
        {"defences": {"secure_sum": True, "clip": 1.0, "noise": 1.0}},
        {"defences": {"discrete": True}},
        {"defences": {"secure_sum": True, "dropouts": 0.1}},
        {"algorithm": "fedatt", "values": {}, "defences": {"secure_sum": True}},
    ):
        with pytest.raises((JobError, BadMessage)):
            orders(federation, **changes)


def test_a_shard_takes_no_work_that_cannot_be(federation):
    worker = orders(federation)
    method, clients = worker.method, federation.parts["ann"].clients
    shard, like = Shard(clients, 30, method.model.sizes), method.work(1)
    everyone = np.zeros(14, np.int64)
    whole = Work(replace(like.tables, of=everyone), like.user, 1)
    fine = pack_work(whole, clients)
    np.testing.assert_array_equal(shard.work(fine, like).tables.items, like.tables.items)
    for name, array in {
        "tables.of": fine["tables.of"] + 1,
        "tables.items": fine["tables.items"][:, :5],
        "tables.network": np.zeros((1, 3), np.float32),
        "extra": np.zeros(2, np.float32),
        "clients": clients + 1,
    }.items():
        with pytest.raises(BadMessage):
            shard.work(fine | {name: array}, like)
    with pytest.raises(BadMessage, match="NaN"):
        shard.work(fine | {"tables.items": fine["tables.items"] * np.float32(np.nan)}, like)


def test_arrays_are_sent_once_and_unknown_ones_refused():
    packer, unpacker = Packer(), Unpacker()
    first = {"a": np.arange(3), "b": np.arange(2.0)}
    tensors, header = packer.pack(Over(), first)
    assert len(tensors) == 2
    words, arrays = unpacker.unpack(header, tensors)
    assert words == {"kind": "over"}
    tensors, header = packer.pack(Over(), {"c": np.arange(3), "d": np.arange(4)})
    assert len(tensors) == 1
    _, arrays = unpacker.unpack(header, tensors)
    np.testing.assert_array_equal(arrays["c"], np.arange(3))
    # A step of a secure sum between leaves what is held as it is.
    passing = {"message": np.arange(5, dtype=np.uint8)}
    tensors, header = packer.pack(Over(), passing)
    assert unpacker.unpack(header, tensors)[1].keys() == {"message"}
    tensors, header = packer.pack(Over(), {"c": np.arange(3), "d": np.arange(4)})
    assert tensors == {}
    _, arrays = unpacker.unpack(header, tensors)
    np.testing.assert_array_equal(arrays["d"], np.arange(4))
    # Only the last message is held.
    tensors, header = packer.pack(Over(), {"b": np.arange(2.0)})
    assert len(tensors) == 1
    with pytest.raises(BadMessage, match="never sent"):
        unpacker.unpack(header, {})


def test_a_hostile_shard_is_refused_and_the_run_goes_on(federation):
    gates, refusals = [], []
    with federation.listening() as listener:
        shards = [federation.shard(one, listener) for one in ("ann", "ben")]

        def told(result):
            if result.rounds[-1].number == 1:
                puppet = Puppet(federation, "cat", listener)
                assert puppet.words["kind"] == "order"
                until(lambda: "cat" in gates[0].present())

                def attack():
                    ask, arrays = puppet.asked()
                    (answer, upload), *rest = puppet.replies(ask, arrays)
                    bad = upload["rows"].copy()
                    bad[0, 0] = np.nan
                    puppet.send([(answer, upload | {"rows": bad}), *rest])

                refusals.append(in_thread(attack))
            if result.rounds[-1].number == 2:
                until(lambda: "cat" in gates[0].refused)
                again = Puppet(federation, "cat", listener)
                refusals.append(again.words)

        limits = replace(PATIENT, begin_with=9)
        served = federation.serve(
            listener, FEDAVG, RunOptions(rounds=3), limits, told=told, gate=gate_in(gates)
        )
        for one in shards:
            one.join(30)
            assert one.error is None
    assert "NaN" in served.refused["cat"]
    assert "was refused: rows holds NaN" in served.rounds[1].left_out["cat"]
    assert [one.trained for one in served.rounds] == [9, 9, 9]
    assert refusals[1]["kind"] == "refused"
    assert "refused before" in refusals[1]["reason"]


def test_nobody_stands_for_the_clients_of_another(federation):
    gates, words = [], {}
    with federation.listening() as listener:
        shards = [federation.shard(one, listener) for one in ("ann", "ben")]

        def told(result):
            if result.rounds[-1].number == 1:
                for what, clients in {
                    "another shard": np.array([5, 6, 7]),
                    "not its own": np.array([10, 12]),
                    "ascending": np.array([7, 5]),
                    "ascending ": np.array([13, 14]),
                    "ascending  ": np.zeros(0, np.int64),
                }.items():
                    words[what] = Puppet(federation, "cat", listener, clients).words
                other = federation.parts["cat"].census.model_copy(update={"seed": 1})
                words["another population"] = Puppet(
                    federation, "cat", listener, census=other
                ).words

        limits = replace(PATIENT, begin_with=9)
        own = {"ann": None, "ben": None, "cat": np.array([5, 6, 7, 9, 12, 13])}
        served = federation.serve(
            listener, FEDAVG, RunOptions(rounds=2), limits, told=told, shards=own,
            gate=gate_in(gates),
        )  # fmt: skip
        for one in shards:
            one.join(30)
    for what, said in words.items():
        assert said["kind"] == "refused", what
        assert what.strip() in said["reason"]
    assert [one.trained for one in served.rounds] == [9, 9]
