"""Methods whose server has more of a client than its rows: vectors, references, copies, a sum."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up
from tests.fedrec.devices.conftest import HONEST, QUICK, without_times
from tests.fedrec.devices.inside import begun

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec import RunOptions, recipe, run
from isthmus.fedrec.algorithms.gpfedrec import neighbours
from isthmus.fedrec.devices import Conduct
from isthmus.fedrec.devices.copied_here import filled
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.one_round import _Counted
from isthmus.fedrec.devices.wire import Answer, Ask, Shard, pack_scoring
from isthmus.fedrec.devices.worker import Worker
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.uploads import Tables, Uploads

PERFEDREC = recipe("perfedrec", "fcf", QUICK | {"per_round": 9, "clusters": 3})
FEDFAST = recipe("fedfast", "fcf", QUICK | {"share": 0.6, "clusters": 3})
GPFEDREC = recipe("gpfedrec", None, {"dim": 16, "epochs": 2})
COFEDREC = recipe("cofedrec", None, {"dim": 4, "groups": 4})
PFEDMOE = recipe("pfedmoe", None, QUICK)
NONE, MASKED = Defences(), Defences(secure_sum=True)
EVERY = [PERFEDREC, FEDFAST, GPFEDREC, COFEDREC, PFEDMOE]
EVE = np.array([11, 12, 13])


def titled(chosen):
    return chosen.algorithm.name


def ended(chosen, rounds=3, **more):
    going, crew, carrier = begun(chosen=chosen, defences=NONE, rounds=rounds, **more)
    result = going.go(lambda result: None)
    return going, crew, carrier, result


def up(carrier, kind="train"):
    """The arrays of all messages of this kind."""
    return [arrays for _, answer, arrays in carrier.sent if answer.kind == kind and arrays]


@pytest.mark.parametrize("chosen", EVERY, ids=titled)
def test_a_server_that_was_killed_goes_on_to_the_same_end(federation, tmp_path, chosen):
    options = RunOptions(rounds=4, folder=tmp_path, checkpoint_every=2)
    served = federation.killed_and_resumed(chosen, options)
    found, wanted = (
        without_times(one) for one in (served.result, federation.simulated(chosen, options))
    )
    assert [one.number for one in served.rounds] == [3, 4]
    if chosen is COFEDREC:
        # The server's copies are not in its checkpoint: whole tables come once.
        third = found.rounds[2]
        assert third.up > wanted.rounds[2].up
        found.rounds[2] = replace(third, up=wanted.rounds[2].up)
    assert found == wanted


@pytest.mark.parametrize("chosen", [PERFEDREC, FEDFAST], ids=titled)
def test_vectors_go_up_of_those_that_train_and_of_nobody_else(chosen):
    going, crew, carrier, _ = ended(chosen)
    names = {"clients", "indptr", "items", "rows", "network", "weight", "user"}
    sent = [one for one in up(carrier) if "rows" in one]
    assert all(set(one) == names for one in sent)
    assert sum(len(one["clients"]) for one in sent) == sum(one.trained for one in crew.notes)
    known = going.state()
    assert "own" not in known
    assert known["user"].shape == (14, 4)
    for one in up(carrier, "judge"):
        assert all(name.partition(".")[0] in ("honest-sampled", "full-ranking") for name in one)


def test_a_server_that_needs_no_vectors_gets_none():
    for chosen in (GPFEDREC, PFEDMOE):
        going, _, carrier, _ = ended(chosen, rounds=1)
        assert all("user" not in one for one in up(carrier))
        assert not {"user", "own"} & going.state().keys()


def test_users_that_were_not_drawn_move_with_their_cluster_at_home():
    going, _, carrier, _ = ended(FEDFAST)
    simulated = FEDFAST.build(task())
    for number in (1, 2, 3):
        simulated.round(number, lambda clients, score: None)
    assert np.array_equal(going.method.user, simulated.user)
    for worker in carrier.workers.values():
        assert np.array_equal(worker.method.user, simulated.user[worker.part.clients])


def task():
    from isthmus.fedrec import make_task

    return make_task(made_up(clients=14, items=30), HONEST[0], 0)


@pytest.mark.parametrize("chosen", [PERFEDREC, FEDFAST], ids=titled)
def test_the_vector_of_who_is_lost_stays_as_the_server_knew_it(chosen):
    going, crew, carrier = begun(chosen=chosen, defences=NONE, rounds=1, lose={("eve", 1, "train")})
    before = going.method.user.copy()
    clients = going.method.clients(1)
    result = going.go(lambda result: None)
    assert "is gone" in crew.notes[0].left_out["eve"]
    assert result.rounds[0].clients == len(np.setdiff1d(clients, EVE))
    moved = np.flatnonzero((going.method.user != before).any(axis=1))
    wanted = np.setdiff1d(clients, EVE)
    if chosen is PERFEDREC:
        assert np.array_equal(moved, wanted)
    else:
        assert set(wanted) <= set(moved)
    assert len(up(carrier, "judge")) == 5


def test_a_client_scores_with_what_it_trained_in_this_round_alone():
    """Who is not drawn, or judged in a later round, has no model of its own to score with."""
    _, _, carrier = begun(chosen=PERFEDREC, defences=NONE, rounds=1)
    worker = carrier.workers["ann"]
    method, clients = worker.method, worker.part.clients
    whole = begun(chosen=PERFEDREC, defences=NONE)[0].method
    asks = [Ask(kind="train", number=2), Ask(kind="judge", number=2), Ask(kind="judge", number=3)]
    told = []
    real = method.scored
    method.scored = lambda scoring, *rest: told.append(len(scoring.trained)) or real(scoring, *rest)
    arrays = pack_scoring(whole.scoring(), clients)
    for ask in asks:
        list(worker.answer(ask, arrays))
    assert set(told[: len(told) // 2]) == {1}
    assert set(told[len(told) // 2 :]) == {0}
    for wrong in (
        {"general.items": arrays["general.items"][:, 1:]}, {"general.of": arrays["general.of"] + 9},
        {"general.items": arrays["general.items"] * np.float32(np.nan)},
        {"general.network": np.zeros((1, 3), np.float32)},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            list(worker.answer(asks[1], arrays | wrong))


def test_references_are_made_of_those_that_came_and_the_others_keep_theirs():
    going, crew, _ = begun(chosen=GPFEDREC, defences=NONE, rounds=2, lose={("eve", 1, "train")})
    method = going.method
    made = []
    real = method.__class__._untouched

    def untouched(work, part):
        made.append(part.clients)
        return real(method, work, part)

    method._untouched = untouched
    method.round(1, lambda clients, score: None)
    others = np.setdiff1d(np.arange(14), EVE)
    assert np.array_equal(np.concatenate(made), others)
    assert np.array_equal(method.near[EVE], np.repeat(method.model.initial.items[None], 3, axis=0))
    assert (method.near[others] != method.model.initial.items).any()
    # The start is the mean over those that came.
    mean = method.near[others].mean(axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(method.shared.items, mean)
    method.round(2, lambda clients, score: None)
    assert [one.trained for one in crew.notes] == [11, 14]
    assert (method.near[EVE] != method.model.initial.items).any()


def test_references_are_the_same_however_few_tables_fit_the_servers_memory():
    going, _, _ = begun(chosen=GPFEDREC, defences=NONE, rounds=2)
    going.method.task = replace(going.method.task, memory=1)
    going.go(lambda result: None)
    assert np.array_equal(going.method.near, ended(GPFEDREC, rounds=2)[0].method.near)


def test_of_one_client_there_are_no_neighbours_but_itself():
    tables = np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32)
    assert np.array_equal(neighbours(tables.copy(), GPFEDREC.build(task()).settings), tables)


def unheard(carrier, name, number):
    """Have what `name` trains in this round be lost on its way."""
    real = carrier.ask

    def ask(requests):
        lost = {}
        if name in requests and (requests[name].ask.kind, requests[name].ask.number) == (
            "train", number,
        ):  # fmt: skip
            one = requests[name]
            list(carrier.workers[name].answer(one.ask, one.arrays))
            requests = {other: it for other, it in requests.items() if other != name}
            lost[name] = "is late"
        return real(requests) | lost

    carrier.ask = ask


@pytest.mark.parametrize("step", ["nothing", "train", "answer", "mix"])
def test_copies_are_those_tables_again_when_who_was_lost_comes_back(step):
    lose = {("eve", 2, step), ("ann", 3, "mix")}
    going, crew, carrier = begun(chosen=COFEDREC, defences=NONE, rounds=5, lose=lose)
    if step == "answer":
        unheard(carrier, "eve", 2)
    result = going.go(lambda result: None)
    words = {"train": "is gone", "answer": "is late", "mix": "did not take its table"}
    assert words.get(step, "") in crew.notes[1].left_out.get("eve", "")
    assert "did not take its table" in crew.notes[2].left_out["ann"]
    gone = 3 if step in ("train", "answer") else 0
    assert [one.clients for one in result.rounds] == [14, 14 - gone, 14, 14, 14]
    for worker in carrier.workers.values():
        assert np.array_equal(worker.method.items, going.method.items[worker.part.clients])
    rows = {}
    for name, answer, arrays in carrier.sent:
        if answer.kind == "train" and arrays:
            rows[name, answer.number] = set(np.diff(arrays["indptr"]).tolist())
    # Who never was asked has trained nothing that the server does not know.
    assert (rows["eve", 3] == {30}) is (step in ("answer", "mix"))
    assert rows["ann", 4] == {30}
    assert all(rows[name, number] != {30} for name, number in (("ann", 1), ("eve", 4), ("ben", 4)))
    assert going.state().keys() == {"groups"}


def test_a_shard_that_begins_anew_sends_its_tables_whole():
    going, _, carrier = begun(chosen=COFEDREC, defences=NONE, rounds=4)

    def told(result):
        old = carrier.workers["eve"]
        if result.rounds[-1].number == 2:
            carrier.workers["eve"] = Worker(old.part, old.order, Conduct(), Keeper(None))

    going.go(told)
    for worker in carrier.workers.values():
        assert np.array_equal(worker.method.items, going.method.items[worker.part.clients])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 5), data=st.data())
def test_a_whole_table_puts_the_same_rows_as_the_touched_ones(seed, count, data):
    rng = np.random.default_rng(seed)
    tables = rng.standard_normal((count, 6, 2)).astype(np.float32)
    lists = [np.flatnonzero(rng.random(6) < 0.4).astype(np.int32) for _ in range(count)]
    indptr = np.append(0, np.cumsum([len(one) for one in lists]))
    items = np.concatenate(lists)
    rows = rng.standard_normal((len(items), 2)).astype(np.float32)
    nothing = np.zeros((count, 0), np.float32)
    starts = Tables.personal(tables, nothing)
    chunk = Uploads(
        np.arange(count), indptr, items, rows, nothing, np.ones(count), starts, nothing,
        np.zeros(0, np.int32), np.zeros(0, np.float32),
    )  # fmt: skip
    whole = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    found = filled(chunk, whole)
    for place in range(count):
        assert np.array_equal(found.row_table(place), chunk.row_table(place))
        assert not whole[place] or found.indptr[place + 1] - found.indptr[place] == 6


def test_a_shard_takes_no_groups_and_no_table_that_cannot_be():
    _, _, carrier = begun(chosen=COFEDREC, defences=NONE)
    worker = carrier.workers["ann"]
    own = worker.part.clients
    fine = np.zeros(30, np.int64)

    def train(**arrays):
        return list(worker.answer(Ask(kind="train", number=2), {"clients": own, **arrays}))

    for wrong in (
        {}, {"groups": fine - 1}, {"groups": fine + 30}, {"groups": fine[1:]},
        {"groups": fine.astype(float)}, {"groups": fine, "clients": own + 1},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            train(**wrong)
    assert len(train(groups=fine)) == 2
    table = np.ones((30, 4), np.float32)
    mine = {"clients": own[:2], "table": table}

    def give(arrays, number=2):
        worker._tables._trained = 2, np.arange(len(own) - 1)
        return list(worker.answer(Ask(kind="mix", number=number), arrays))

    before = worker.method.items.copy()
    for wrong in (
        mine | {"clients": own + 1}, mine | {"clients": own}, mine | {"table": table[1:]},
        mine | {"table": table * np.float32(np.inf)}, {"clients": own[:2]},
        mine | {"table": table.astype(float)}, mine | {"table": table * np.float32(1e9)},
    ):  # fmt: skip
        with pytest.raises(BadMessage):
            give(wrong)
    with pytest.raises(BadMessage, match="was not trained"):
        give(mine, number=3)
    assert np.array_equal(worker.method.items, before)
    give(mine)
    assert np.array_equal(worker.method.items[:2], np.stack([table, table]))
    with pytest.raises(BadMessage, match="was not trained"):
        list(worker.answer(Ask(kind="mix", number=2), mine))


VECTORS = Shard(np.array([3, 5, 9]), 10, Sizes(2, 0, 3, 4, 0), vectors=True)
STARTS = Tables(np.zeros((1, 10, 2), np.float32), np.zeros((1, 4), np.float32), np.zeros(10, int))


def fair():
    return {
        "clients": np.array([3, 9]), "indptr": np.array([0, 1, 2]),
        "items": np.array([1, 4], np.int32), "rows": np.ones((2, 2), np.float32),
        "network": np.ones((2, 4), np.float32), "weight": np.array([1.0, 2.0]),
        "user": np.ones((2, 3), np.float32),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["<i8", "<f4", "<f8"]),
    shape=st.one_of(st.just([2, 3]), st.lists(st.integers(0, 4), max_size=3)),
    value=st.floats(width=32),
)
def test_a_vector_is_finite_and_bounded_or_the_message_bad(kind, shape, value):
    fits = kind == "<f4" and shape == [2, 3] and abs(value) <= 1e6
    with np.errstate(invalid="ignore"):
        user = np.full(shape, value).astype(kind)
    try:
        found = VECTORS.uploads(fair() | {"user": user}, VECTORS.clients, -1, STARTS)
    except BadMessage:
        assert not fits
        return
    assert fits
    assert np.array_equal(found.user, user)


def test_vectors_are_told_where_they_are_missing_and_not_read_where_nobody_asked():
    without = {name: one for name, one in fair().items() if name != "user"}
    with pytest.raises(BadMessage, match="user is missing"):
        VECTORS.uploads(without, VECTORS.clients, -1, STARTS)
    found = replace(VECTORS, vectors=False).uploads(fair(), VECTORS.clients, -1, STARTS)
    assert found.user.shape == (2, 0)


def test_a_shard_takes_no_vectors_that_cannot_be():
    _, _, carrier = begun(chosen=FEDFAST, defences=NONE)
    worker = carrier.workers["ann"]
    clients = worker.part.clients
    whole = begun(chosen=FEDFAST, defences=NONE)[0].method
    arrays = pack_scoring(whole.scoring(), clients)
    user = np.ones((len(clients), 4), np.float32)
    before = worker.method.user.copy()
    wrongs = (None, user[1:], user[:, 1:], user.astype(float), user * np.float32(np.nan))
    for kind in ("train", "judge"):
        for wrong in wrongs:
            more = {} if wrong is None else {"user": wrong}
            with pytest.raises(BadMessage):
                list(worker.answer(Ask(kind=kind, number=1), arrays | more))
    assert np.array_equal(worker.method.user, before)
    list(worker.answer(Ask(kind="judge", number=1), arrays | {"user": user}))
    assert np.array_equal(worker.method.user, user)


def test_how_popular_items_are_is_added_up_once():
    going, crew, carrier, result = ended(PFEDMOE, rounds=3)
    assert len(up(carrier, "total")) == 5
    assert [one.number for one in crew.notes] == [1, 1, 2, 3]
    assert len(result.rounds) == 3
    assert np.array_equal(going.state()["popular"], going.method.popular)
    one = going.method.sum_of("popularity")
    assert going.method.sum_of("gram") is None
    for _, answer, arrays in carrier.sent:
        if answer.kind == "total":
            _Counted(one, 14).add(answer, arrays)
            with pytest.raises(BadMessage, match="none of so many"):
                _Counted(one, 0).add(answer, arrays)
            with pytest.raises(BadMessage):
                _Counted(one, 14).add(answer, {"words": arrays["words"][1:]})
    with pytest.raises(BadMessage, match="not known here"):
        list(carrier.workers["ann"].answer(Ask(kind="total", number=1, what="gram"), {}))


def test_under_masks_how_popular_items_are_and_rows_are_sums_over_shards():
    going, _, carrier = begun(chosen=PFEDMOE, defences=MASKED, rounds=2)
    result = going.go(lambda result: None)
    for _, answer, arrays in carrier.sent:
        assert not {"rows", "items", "words"} & arrays.keys(), answer.kind
    data = made_up(clients=14, items=30)
    wanted = run(data, PFEDMOE, HONEST, RunOptions(rounds=2))
    assert result.rounds[0].loss == wanted.rounds[0].loss
    assert result.rounds[1].loss == pytest.approx(wanted.rounds[1].loss, abs=1e-5)
    with pytest.raises(BadMessage, match="a second time"):
        list(carrier.workers["ann"].answer(Ask(kind="total", number=1, what="popularity"), {}))


@pytest.mark.parametrize(
    ("chosen", "defences", "told"),
    [
        (PERFEDREC, MASKED, "own vectors"),
        (FEDFAST, MASKED, "own vectors"),
        (GPFEDREC, MASKED, "own tables"),
        (COFEDREC, MASKED, "own tables"),
        (PERFEDREC, Defences(clip=1.0, noise=1.0), "user's vector, which no guard reaches"),
        (FEDFAST, Defences(pseudo_items=1), "user's vector, which no guard reaches"),
        (GPFEDREC, Defences(clip=1.0, noise=1.0), "how many batches"),
        (COFEDREC, Defences(clip=1.0, noise=1.0), "tables of their own"),
        (PFEDMOE, Defences(clip=1.0, noise=1.0), "which items it has"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_makes_no_sense_is_refused_by_the_server_and_by_a_shard(chosen, defences, told):
    with pytest.raises(JobError, match=told):
        begun(chosen=chosen, defences=defences)
    _, _, carrier = begun(chosen=chosen, defences=NONE)
    old = carrier.workers["ann"]
    if not defences.secure_sum:
        with pytest.raises(JobError, match=told):
            Worker(old.part, old.order, Conduct(defences=defences), Keeper(None))
    asked = replace(defences, discrete=bool(defences.noise and defences.secure_sum))
    order = old.order.model_copy(update={"defences": vars(asked)})
    with pytest.raises(JobError, match=told):
        Worker(old.part, order, Conduct(), Keeper(None))


def test_noise_on_the_sum_does_not_reach_how_popular_items_are():
    noised = Defences(secure_sum=True, clip=1.0, noise=1.0)
    with pytest.raises(JobError, match="which items it has"):
        begun(chosen=PFEDMOE, defences=noised)
    _, _, carrier = begun(chosen=PFEDMOE, defences=MASKED)
    old = carrier.workers["ann"]
    order = old.order.model_copy(update={"defences": vars(replace(noised, discrete=True))})
    with pytest.raises(JobError, match="which items it has"):
        Worker(old.part, order, Conduct(), Keeper(None))


@pytest.mark.parametrize("chosen", [GPFEDREC, COFEDREC], ids=titled)
def test_tables_beyond_the_machines_memory_are_told_before_anybody_dials(monkeypatch, chosen):
    monkeypatch.setattr("isthmus.fedrec.own_tables.os.sysconf", lambda name: 90)
    with pytest.raises(JobError, match="an item table for each client takes"):
        begun(chosen=chosen, defences=NONE)


def test_references_beyond_a_message_end_the_run_with_what_helps(monkeypatch):
    going, _, _ = begun(chosen=GPFEDREC, defences=NONE, rounds=2)
    going.method.round(1, lambda clients, score: None)
    monkeypatch.setattr("isthmus.fedrec.devices.crew.MESSAGE_LIMIT", 2000)
    with pytest.raises(JobError, match="what the 6 clients of ann are sent") as caught:
        going.method.round(2, lambda clients, score: None)
    assert "more shards" in caught.value.mend


def test_an_answer_of_another_kind_is_no_word_that_a_table_was_taken():
    from isthmus.fedrec.devices.mixing import Taken

    with pytest.raises(BadMessage, match="took what it was given"):
        Taken().add(Answer(kind="train", number=1, last=True), {})
