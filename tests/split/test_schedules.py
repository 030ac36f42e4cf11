"""Schedules that visit batches again, choose, or correct: each against its formula."""

import copy
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.split.test_conformance import run_split
from tests.split.test_secure_training import federate as federate_many
from tests.split.test_training import OPTIONS, alice_program, bob_program, federate
from tests.split.toy import PARTIES, make_toy

from isthmus.errors import BadMessage, JobError
from isthmus.link.memory import memory_links
from isthmus.session import Session
from isthmus.split import bce, train
from isthmus.split.batches import epoch_batches
from isthmus.split.foresight import Foresight
from isthmus.split.optim import PartyOptimizer
from isthmus.split.schedules import Adaptive, Auto, make_schedule
from isthmus.split.schedules.auto import Search
from isthmus.split.schedules.local import similarity
from isthmus.split.sides import Part

STALE = ["pipeline:3", "pipeline:3+uncorrected", "local:3", "local:2+unweighted", "adaptive:3"]


def local_reference(toy, options, updates):
    """What `local` without weights says, in one place and by the book; the loss of each exchange.

    After an exchange each side makes an update from it and from each of the last `updates - 1`
    ones; the next cut is made after the first of these updates.
    """
    alice, bob, top = toy.bottom("alice"), toy.bottom("bob"), toy.top()
    optimizers = {m: PartyOptimizer(m, options) for m in (alice, bob, top)}
    session = Session(me="bob", parties=PARTIES, label_party="bob", seed=toy.seed)
    losses = []

    def label_side(rows, cut):
        """An update of bob's modules; the gradient for alice."""
        leaves = {n: t.detach().clone().requires_grad_() for n, t in cut.items()}
        cuts = {"alice": leaves, "bob": bob(toy.data("bob").batch(rows, backward=True))}
        loss = bce(top(cuts), torch.from_numpy(toy.labels[rows]))
        loss.backward()
        for module in (bob, top):
            optimizers[module].step()
        return loss.item(), {n: leaf.grad for n, leaf in leaves.items()}

    def push(bottom, rows, gradient):
        cut = bottom(toy.data("alice").batch(rows, backward=True))
        torch.autograd.backward(list(cut.values()), [gradient[n] for n in cut])

    for epoch in range(1, options.epochs + 1):
        kept = []
        batches = epoch_batches(session, toy.split.train, epoch, options.batch_size)
        then = copy.deepcopy(alice)
        for step, rows in enumerate(batches):
            cut = then(toy.data("alice").batch(rows, backward=True))
            loss, gradient = label_side(rows, cut)
            losses.append(loss)
            kept = [*kept, (rows, cut, gradient)][-(updates - 1) :]
            for past, old, _ in reversed(kept):
                label_side(past, old)
            # Alice's gradient is that of the weights which made the cut.
            torch.autograd.backward(list(cut.values()), [gradient[n] for n in cut])
            for parameter, stale in zip(alice.parameters(), then.parameters(), strict=True):
                parameter.grad = stale.grad
            optimizers[alice].step()
            if step + 1 < len(batches):
                then = copy.deepcopy(alice)
            for past, _, known in reversed(kept):
                push(alice, past, known)
                optimizers[alice].step()
    return losses, {"alice": alice, "bob": bob, "top": top}


@pytest.mark.parametrize(("updates", "epochs"), [(2, 1), (3, 1), (3, 2)])
def test_local_updates_are_those_of_the_reference(updates, epochs):
    toy = make_toy()
    options = replace(OPTIONS, epochs=epochs, schedule=f"local:{updates}+unweighted")
    losses, expected = local_reference(toy, options, updates)
    found, modules, _ = run_split(toy, options)
    # Later visits compute the loss too: the first of each exchange counts.
    exchanges = [found[i] for i in exchange_calls(len(toy.split.train), options, updates)]
    np.testing.assert_allclose(exchanges, losses, atol=2e-5)
    for name, module in expected.items():
        wanted = dict(module.named_parameters())
        for key, parameter in modules[name].named_parameters():
            if epochs == 1:  # else the better epoch's parameters are left
                torch.testing.assert_close(parameter, wanted[key], atol=2e-4, rtol=1e-3)


def exchange_calls(rows, options, updates):
    """At which calls of the loss the exchanges are, visits coming after each."""
    at = 0
    for _ in range(options.epochs):
        for step in range(-(-rows // options.batch_size)):
            yield at
            at += 1 + min(step + 1, updates - 1)


def test_weights_of_samples_are_cosines_and_zero_beyond_60_degrees():
    now = {
        "a": torch.tensor([[1.0], [0.0], [1.0], [0.0]]),
        "b": torch.tensor([[0.0, 1], [2, 0], [0, 0], [0, 0]]),
    }
    then = {
        "a": torch.tensor([[1.0], [2.0], [-1.0], [1.0]]),
        "b": torch.tensor([[0.0, 1], [2, 0], [0, 0], [9, 9]]),
    }
    assert similarity(now, then).tolist() == pytest.approx([1.0, 0.5**0.5, 0.0, 0.0])


@pytest.mark.parametrize("scale", [1e-17, 1e-12, 1e12])
def test_weights_of_samples_do_not_depend_on_how_large_the_numbers_are(scale):
    # A gradient's numbers are 1e-12 where the model is sure, and their squares 1e-24.
    now, then = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    found = similarity({"a": scale * now}, {"a": scale * then})
    # Numbers that are as good as zero may count less, never more.
    wanted = [0.0 if scale < 1e-16 else 0.5**0.5, 0.0]
    assert found.tolist() == pytest.approx(wanted, rel=1e-4)


def trained_part(updates):
    toy = make_toy()
    bottom = toy.bottom("alice")
    part = Part(bottom, torch.device("cpu"), toy.data("alice"), PartyOptimizer(bottom, OPTIONS))
    for step in range(updates):
        rows = toy.split.train[8 * step : 8 * step + 8]
        cut = part.module(part.batch(rows, backward=True))
        sum(tensor.square().sum() for tensor in cut.values()).backward()
        part.update(1.0)
    return toy, part


def adam_step(mean, square, step, lr=OPTIONS.learning_rate):
    """Kingma and Ba, algorithm 1, its last line."""
    return lr * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)


def test_weights_are_foretold_by_the_moments_and_the_batches_in_flight():
    toy, part = trained_part(updates=5)
    table = part.module.table
    before = {name: tensor.clone() for name, tensor in part.module.named_parameters()}
    state = part.optimizer.tensors()
    batches = [part.batch(toy.split.train[a : a + 4], backward=True) for a in (0, 2, 40)]
    seen = []
    with Foresight(part) as foresight:
        around = table.around

        @contextmanager
        def spying(rows):
            with around(rows):
                seen.append((rows, table.weight.detach().clone()))
                yield

        table.around = spying
        for number, batch in enumerate(batches):
            copies = foresight.take_off(0.5)
            part.cut(batch, copies=copies)
            for i, (name, copy) in enumerate(copies.items()):
                step = adam_step(state[f"dense.mean.{i}"], state[f"dense.square.{i}"], 5)
                torch.testing.assert_close(copy, before[name] - 0.5 * number * step)
        step = adam_step(*state["rows.moments.0"].unbind(1), 5)
        for number, (rows, weight) in enumerate(seen):
            touched = torch.zeros(len(weight))
            for batch in batches[:number]:
                touched[batch.plan.rows] += 1
            expected = before["table.weight"] - 0.5 * touched.unsqueeze(1) * step
            torch.testing.assert_close(weight[rows], expected[rows])
        assert touched[seen[2][0]].max() == 2  # some row is in both earlier batches
        for _ in batches:
            foresight.land()
        foresight.take_off(0.5)
        part.cut(batches[0])
        torch.testing.assert_close(seen[3][1], before["table.weight"])
    assert table.around is None
    for name, tensor in part.module.named_parameters():
        assert torch.equal(tensor, before[name])


def test_a_batch_that_looks_rows_up_twice_is_one_update():
    toy, part = trained_part(updates=5)
    batch = part.batch(toy.split.train[:8], backward=True)
    table = part.module.table
    plain = table(batch)
    with Foresight(part) as foresight:
        for flying in range(2):
            foresight.take_off(1.0)
            once, twice = table(batch), table(batch)
            assert torch.equal(once, twice)
            assert torch.equal(once, plain) == (flying == 0)
        foresight.land()
        foresight.land()
        foresight.take_off(1.0)
        assert torch.equal(table(batch), plain)


def test_nothing_is_foretold_before_the_first_update():
    toy, part = trained_part(updates=0)
    batch = part.batch(toy.split.train[:8], backward=True)
    before = part.cut(batch)
    with Foresight(part) as foresight:
        for _ in range(2):
            after = part.cut(batch, copies=foresight.take_off(1.0))
            assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("schedule", [*STALE, "auto:4"])
def test_every_schedule_learns_with_guards_and_dropout(schedule):
    toy = make_toy(rows=2000)
    options = replace(OPTIONS, schedule=schedule, epochs=4, cut_guard="int8", gradient_guard="int8")
    results = federate(alice_program(toy, options), bob_program(toy, options))
    result, scores = results["bob"]
    assert result.epochs[-1].train_loss < 0.9 * result.epochs[0].train_loss
    assert result.epochs[-1].valid_auc > 0.6
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("schedule", [*STALE, "auto:4"])
def test_every_schedule_works_with_three_parties_and_a_secure_sum(schedule):
    result, scores = federate_many(replace(OPTIONS, schedule=schedule, secure_sum=64))
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("schedule", STALE)
def test_stale_schedules_are_repeatable(schedule):
    toy = make_toy()
    options = replace(OPTIONS, schedule=schedule)
    assert run_split(toy, options, 0.2)[0] == run_split(toy, options, 0.2)[0]


def test_adaptive_leaves_exchanges_out_only_while_the_loss_stands_still():
    schedule = Adaptive(4)
    schedule.losses.extend([1.0] * 511)
    assert not schedule.stands_still()  # too little is known
    schedule.losses.append(1.0)
    assert schedule.stands_still()
    schedule.losses.extend([0.99] * 256)
    assert not schedule.stands_still()
    schedule.losses.extend([0.989] * 256)
    assert schedule.stands_still()
    again = Adaptive(4)
    again.load_state(schedule.state())
    assert again.losses == schedule.losses


def test_adaptive_sends_less_on_a_plateau(tmp_path):
    toy = make_toy()
    sent, updates = {}, {}
    for name in ("exact", "adaptive:4"):
        # With this rate nothing is learned.
        options = replace(OPTIONS, schedule=name, learning_rate=1e-9, epochs=8, batch_size=4)

        def alice(session, options=options, name=name):
            train(
                session,
                split=toy.split,
                bottom=toy.bottom("alice"),
                data=toy.data("alice"),
                options=options,
            )
            sent[name] = session.hub.meter.snapshot()["train.cut"].sent_messages
            saved = load_file(next(tmp_path.glob(f"{name}/alice/checkpoints/*step-0000000840.*")))
            updates[name] = int(saved["optimizer.bottom.alice/rows.step"])

        federate(alice, bob_only(toy, options), folder=tmp_path / name)
    assert sent["exact"] == 8 * 105
    # 512 exchanges of nearly five epochs, then about one in four of 105 batches.
    assert sent["adaptive:4"] < 512 + 4 * 30
    assert updates["adaptive:4"] == updates["exact"] == 8 * 105


def bob_only(toy, options):
    def bob(session):
        return train(
            session,
            split=toy.split,
            bottom=toy.bottom("bob"),
            data=toy.data("bob"),
            top=toy.top(),
            labels=toy.labels,
            options=options,
        )

    return bob


def run_search(bound, speeds):
    search = Search(bound)
    tried = []
    while search.next is not None:
        tried.append(search.next.name)
        search.record(speeds[search.next.name])
    return tried, search.best().name


def test_the_search_climbs_while_it_gains():
    speeds = {"exact": 36, "microbatch:2": 38, "microbatch:4": 37, "pipeline:2": 71}
    speeds |= {"pipeline:4": 130, "pipeline:8": 240, "pipeline:16": 245, "pipeline:32": 244}
    tried, best = run_search(64, speeds)
    # The first trial only tells how long one must be, the last confirms the winner.
    assert tried == ["exact", *speeds, "pipeline:8"]
    assert best == "pipeline:8"
    assert run_search(12, speeds | {"pipeline:12": 270})[1] == "pipeline:12"
    assert run_search(1, speeds) == (
        ["exact", "exact", "microbatch:2", "microbatch:4", "microbatch:2"],
        "microbatch:2",
    )
    assert run_search(2, speeds)[1] == "pipeline:2"


def test_the_search_outlasts_one_bad_moment():
    speeds = {"exact": 36, "microbatch:2": 38, "microbatch:4": 37, "pipeline:2": 24}
    speeds |= {"pipeline:4": 130, "pipeline:8": 240}
    assert run_search(8, speeds)[1] == "pipeline:8"


def test_a_winner_by_chance_does_not_win_twice():
    search = Search(8)
    speeds = {"exact": 47, "microbatch:2": 46, "microbatch:4": 30, "pipeline:2": 46}
    speeds |= {"pipeline:4": 60, "pipeline:8": 158}
    while search.next is not None:
        name = search.next.name
        search.record(speeds[name])
        speeds["pipeline:8"] = 61 if name == "pipeline:8" else speeds["pipeline:8"]
    assert search.best().name == "pipeline:4"


def test_the_search_prefers_what_is_exact_and_simple():
    speeds = {"exact": 100, "microbatch:2": 103, "microbatch:4": 90}
    speeds |= {"pipeline:2": 104, "pipeline:4": 90}
    assert run_search(8, speeds)[1] == "exact"
    speeds |= {"microbatch:2": 120, "microbatch:4": 121, "microbatch:8": 90, "pipeline:2": 124}
    speeds["pipeline:8"] = 80
    assert run_search(8, speeds)[1] == "microbatch:2"


def long_toy():
    return make_toy(rows=8000)


def test_auto_chooses_within_its_bound_tells_why_and_both_sides_agree():
    toy, said = long_toy(), {}
    options = replace(OPTIONS, schedule="auto:4", batch_size=8, epochs=2)

    def listening(program, name):
        def run(session):
            said[name] = []
            progress = SimpleNamespace(task=session.progress.task, say=said[name].append)
            return program(replace(session, progress=progress))

        return run

    results = federate(
        listening(alice_program(toy, options), "alice"), listening(bob_program(toy, options), "bob")
    )
    (chosen,) = [text for text in said["bob"] if text.startswith("schedule ")]
    name = chosen.split()[1]
    assert name in (
        "exact",
        "microbatch:2",
        "microbatch:4",
        "microbatch:8",
        "pipeline:2",
        "pipeline:4",
    )
    assert results["alice"].chosen_schedule == results["bob"][0].chosen_schedule == name
    assert "a round trip takes" in chosen
    assert "steps/s of exact" in chosen
    assert f"bob chose the schedule {name}" in said["alice"]


def test_auto_says_that_epochs_are_too_short_for_it():
    toy, said = make_toy(), []
    options = replace(OPTIONS, schedule="auto:4")  # seven steps an epoch

    def bob(session):
        progress = SimpleNamespace(task=session.progress.task, say=said.append)
        return bob_program(toy, options)(replace(session, progress=progress))

    result, _ = federate(alice_program(toy, options), bob)["bob"]
    assert result.chosen_schedule == ""
    assert [text for text in said if "7 steps" in text and "too few for a trial" in text] == said


def test_auto_with_a_bound_of_one_is_exact():
    toy = long_toy()
    options = replace(OPTIONS, batch_size=8, epochs=1, learning_rate=1e-3)
    exact = federate(alice_program(toy, options), bob_program(toy, options))["bob"][1]
    options = replace(options, schedule="auto:1")
    auto = federate(alice_program(toy, options), bob_program(toy, options))["bob"][1]
    np.testing.assert_allclose(auto, exact, atol=2e-4)


def test_auto_keeps_its_choice_in_a_checkpoint_within_the_bound():
    chosen = Auto(8, print)
    chosen.load_state({"chosen": torch.tensor(list(b"pipeline:4"), dtype=torch.uint8)})
    assert chosen.chosen == "pipeline:4"
    again = Auto(8, print)
    again.load_state(chosen.state())
    assert again.chosen == "pipeline:4"
    bounded = Auto(2, print)
    bounded.load_state(chosen.state())
    assert bounded.chosen == ""


@pytest.mark.parametrize(
    ("topic", "header"),
    [
        ("train.plan", {"schedule": "pipeline:64", "steps": 3}),
        ("train.plan", {"schedule": "exact", "steps": -1}),
        ("train.plan", {"schedule": "exact", "steps": 10**9}),
        ("train.plan", {"schedule": "exact", "steps": True}),
        ("train.plan", {"schedule": ["exact"], "steps": 1}),
        ("train.plan", {}),
        ("train.pace", {"pause": 3}),
        ("train.pace", {"pause": -1}),
        ("train.pace", {"pause": "1"}),
        ("train.pace", {}),
    ],
)
def test_a_label_party_that_asks_for_the_impossible_is_caught(topic, header):
    toy = make_toy()
    schedule = "auto:4" if topic == "train.plan" else "adaptive:3"
    options = replace(OPTIONS, schedule=schedule)

    class Lying:
        def __init__(self, link):
            self._link = link

        def __getattr__(self, name):
            return getattr(self._link, name)

        def send(self, about, tensors=None, sent=None, **known):
            if about == topic:
                known = {"header": header}
            self._link.send(about, tensors, sent or known.get("header"))

    def bob(session):
        lying = {name: Lying(link) for name, link in session.links.items()}
        return bob_program(toy, options)(replace(session, links=lying))

    with pytest.raises(BadMessage, match=r"bob (sent no valid plan|asks to leave out)"):
        federate(alice_program(toy, options), bob)


def test_endless_pings_are_refused():
    toy = make_toy()
    options = replace(OPTIONS, schedule="auto:4")

    def bob(session):
        link = session.links["alice"]
        for _ in range(6):
            link.send("train.plan", header={"schedule": "ping"})
        return bob_program(toy, options)(session)

    with pytest.raises(BadMessage, match="no valid plan"):
        federate(alice_program(toy, options), bob)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("warp", "Choose exact, auto, microbatch:4"),
        ("exact:2", "no schedule"),
        ("microbatch", "needs a number from 1 to 64"),
        ("microbatch:0", "needs a number"),
        ("pipeline:-1", "needs a number"),
        ("pipeline:1000", "needs a number"),
        ("pipeline:two", "Such as pipeline:4"),
        ("local:1", "from 2 to 64: updates an exchange"),
        ("local", "needs a number"),
        ("pipeline:4+warp", "Leave `.warp` out; there is nothing to add but uncorrected"),
        ("microbatch:4+corrected", "Leave `.corrected` out"),
        ("auto:0", "batches in flight at most"),
        ("auto:x", "Such as auto:4"),
        ("exact+corrected", "no schedule"),
    ],
)
def test_names_that_are_none(name, said):
    with pytest.raises(JobError, match=said):
        make_schedule(name)


@pytest.mark.parametrize("schedule", ["pipeline:16", "microbatch:16"])
def test_more_in_flight_than_both_windows_hold_is_no_deadlock(monkeypatch, schedule):
    toy, big = make_toy(), 512
    batch = big if schedule.startswith("micro") else big // 16
    options = replace(OPTIONS, schedule=schedule, batch_size=batch, epochs=1)
    _, expected = federate(alice_program(toy, options), bob_program(toy, options))["bob"]
    small = partial(memory_links, window=8192, timeout=5.0)
    monkeypatch.setattr("isthmus.session.local.memory_links", small)
    monkeypatch.setattr("isthmus.split.schedules.flights._UNREAD", 2048)
    _, scores = federate(alice_program(toy, options), bob_program(toy, options))["bob"]
    assert scores.tolist() == expected.tolist()
