"""Networks of one's own: what a bottom may return, and what is said about all else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.split.toy import make_toy
from torch import nn

from isthmus.errors import JobError, ShapeMismatch
from isthmus.models import seeded_linear
from isthmus.session import Session, run_parties
from isthmus.split import TrainOptions, predict, train, train_pooled
from isthmus.split.aggregation import TOGETHER, AggregatedTop, Aggregation, Sum
from isthmus.split.cuts import ONLY

OPTIONS = TrainOptions(batch_size=64, epochs=2, learning_rate=0.02, patience=0, device="cpu")
WIDTH = 5
PARTIES = ("alice", "bob")


class Summing(nn.Module):
    """The sum of a row's embeddings, through `shape`."""

    def __init__(self, layout, seed, shape=lambda tensor: tensor):
        super().__init__()
        weights = np.random.default_rng(seed).normal(0.0, 0.3, (layout.table_rows, WIDTH))
        self.table = nn.Embedding.from_pretrained(
            torch.from_numpy(weights.astype(np.float32)), freeze=False, sparse=True
        )
        self.mix = seeded_linear(WIDTH, WIDTH, np.random.default_rng(seed))
        self.shape = shape

    def forward(self, batch):
        return self.shape(torch.tanh(self.mix(self.table(batch.index).sum(1))))


class Joining(nn.Module):
    def __init__(self, parties, name=ONLY, width=WIDTH):
        super().__init__()
        self.parties, self.name = parties, name
        self.layer = seeded_linear(width * len(parties), 1, np.random.default_rng(9))

    def forward(self, cuts):
        together = torch.cat([cuts[party][self.name] for party in self.parties], 1)
        return self.layer(together).squeeze(1)


def federate(toy, shapes=None, top=None, options=OPTIONS, parties=PARTIES, folder=None):
    """Scores, and the bottoms' parameters."""
    shapes = shapes or {}

    def program(party):
        def run(session):
            bottom = Summing(toy.features[party].layout, len(party), shapes.get(party, lambda t: t))
            data = toy.data(party)
            ours = {"top": top or Joining(parties)} if session.is_label_party else {}
            labels = {"labels": toy.labels} if session.is_label_party else {}
            train(
                session,
                split=toy.split,
                bottom=bottom,
                data=data,
                options=options,
                **ours,
                **labels,
            )
            scores = predict(
                session, samples=toy.split.test, bottom=bottom, data=data, options=options, **ours
            )
            return scores, bottom.state_dict()

        return run

    programs = {party: program(party) for party in parties}
    return run_parties(programs, label_party="bob", seed=toy.seed, folder=folder)


def equal(one, other):
    np.testing.assert_array_equal(one["bob"][0], other["bob"][0])
    for party in one:
        for name, value in one[party][1].items():
            torch.testing.assert_close(value, other[party][1][name], rtol=0, atol=0)


SCHEDULES = (
    "exact",
    "microbatch:3",
    "pipeline:3",
    "pipeline:3+uncorrected",
    "local:3",
    "local:3+unweighted",
    "adaptive:3",
)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_bare_tensor_is_a_dict_of_one(schedule):
    toy = make_toy()
    options = replace(OPTIONS, schedule=schedule)
    bare = federate(toy, options=options)
    named = {party: lambda t: {"mine": t} for party in PARTIES}
    equal(bare, federate(toy, named, Joining(PARTIES, "mine"), options))
    start = Summing(toy.features["alice"].layout, len("alice")).state_dict()
    assert not torch.equal(bare["alice"][1]["table.weight"], start["table.weight"])


def test_a_bare_tensor_trains_as_in_one_place():
    toy = make_toy()
    split = federate(toy)
    bottoms = {party: Summing(toy.features[party].layout, len(party)) for party in PARTIES}
    top = Joining(PARTIES)
    inputs = {"bottoms": bottoms, "data": {party: toy.data(party) for party in PARTIES}}
    session = Session(me="bob", parties=PARTIES, label_party="bob", seed=toy.seed)
    train_pooled(session, split=toy.split, top=top, labels=toy.labels, options=OPTIONS, **inputs)
    for party, bottom in bottoms.items():
        for name, value in bottom.state_dict().items():
            torch.testing.assert_close(value, split[party][1][name], rtol=0, atol=1e-6)


def test_bare_tensors_pass_guards():
    toy = make_toy()
    rough = federate(toy, options=replace(OPTIONS, cut_guard="int8", gradient_guard="int8"))
    exact = federate(toy)
    np.testing.assert_allclose(rough["bob"][0], exact["bob"][0], atol=0.05)
    assert not np.array_equal(rough["bob"][0], exact["bob"][0])


@pytest.mark.parametrize("bits", [0, 64])
def test_bare_tensors_are_summed(bits):
    toy = make_toy()
    toy.features["carol"] = toy.features["alice"]
    parties = ("alice", "bob", "carol")
    top = AggregatedTop(Joining((TOGETHER, "bob")), ("alice", "carol"), Aggregation(Sum()))
    options = replace(OPTIONS, secure_sum=bits)
    result = federate(toy, top=top, options=options, parties=parties)

    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.top = Joining((TOGETHER, "bob"))

        def forward(self, cuts):
            together = cuts["alice"][ONLY] + cuts["carol"][ONLY]
            return self.top({TOGETHER: {ONLY: together}, "bob": cuts["bob"]})

    plain = federate(toy, top=Adding(), parties=parties)
    np.testing.assert_allclose(result["bob"][0], plain["bob"][0], atol=1e-5)


@pytest.mark.parametrize("schedule", [*SCHEDULES, "auto"])
def test_one_number_a_sample_may_cross(schedule):
    toy = make_toy()
    flat = {party: lambda t: t.sum(1) for party in PARTIES}

    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(()))

        def forward(self, cuts):
            return sum(cut[ONLY] for cut in cuts.values()) + self.bias

    options = replace(OPTIONS, schedule=schedule)
    assert np.isfinite(federate(toy, flat, Adding(), options)["bob"][0]).all()


@pytest.mark.parametrize("schedule", [*SCHEDULES, "auto"])
def test_a_bottom_without_parameters(schedule):
    """A party may send features as they are: it has nothing to learn."""
    toy, options = make_toy(), replace(OPTIONS, schedule=schedule)

    class Raw(nn.Module):
        def forward(self, batch):
            return batch.index[:, :1].float() / 20

    def alice(session):
        given = {"bottom": Raw(), "data": toy.data("alice"), "options": options}
        train(session, split=toy.split, **given)
        predict(session, samples=toy.split.test, **given)

    def bob(session):
        top = Joining(("alice",), width=1)
        train(session, split=toy.split, top=top, labels=toy.labels, options=options)
        return predict(session, samples=toy.split.test, top=top, options=options)

    programs = {"alice": alice, "bob": bob}
    assert np.isfinite(run_parties(programs, label_party="bob", seed=1)["bob"]).all()


UNFIT = [
    (lambda t: (t, t), JobError, "a tuple"),
    (lambda t: None, JobError, "None"),
    (lambda t: {}, JobError, "an empty dict"),
    (lambda t: {"a": {"b": t}}, JobError, "'a' as a dict"),
    (lambda t: {"a": None}, JobError, "'a' as None"),
    (lambda t: {3: t}, JobError, "a tensor called 3"),
    (lambda t: t.long(), JobError, r"'cut' as int64 \[3, 5\]"),
    (lambda t: {"a": t.double()}, JobError, r"'a' as float64 \[3, 5\]"),
    (lambda t: t.bfloat16(), JobError, r"'cut' as bfloat16 \[3, 5\]"),
    (lambda t: t.detach().numpy(), JobError, "a ndarray"),
    (
        lambda t: t.mean(0, keepdim=True),
        ShapeMismatch,
        r"'cut' with shape \[1, 5\] for a batch of 3, expected \[3, 5\]",
    ),
    (lambda t: {"a": t.T}, ShapeMismatch, r"'a' with shape \[5, 3\] for a batch of 3"),
    (lambda t: t.mean(), ShapeMismatch, r"'cut' with shape \[\] for a batch of 3"),
    (lambda t: t[:, :0], JobError, r"'cut' with shape \['batch', 0\]"),
    (
        lambda t: t[:, None, None, None, None],
        JobError,
        r"'cut' with shape \['batch', 1, 1, 1, 1, 5\]",
    ),
    (lambda t: {str(i): t for i in range(65)}, JobError, "more than 64 tensors"),
]


@pytest.mark.parametrize("party", PARTIES)
@pytest.mark.parametrize(("shape", "error", "said"), UNFIT)
def test_what_else_a_bottom_returns_is_named_with_its_party(party, shape, error, said):
    toy = make_toy()
    with pytest.raises(error, match=f"{party}'s bottom returns {said}"):
        federate(toy, {party: shape})


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("party", PARTIES)
def test_a_row_that_is_lost_on_the_way_is_named_before_it_leaves(party, schedule):
    toy = make_toy()

    def forgetful(tensor):
        return tensor[:-1] if len(tensor) > 3 else tensor

    size = 64 if schedule != "microbatch:3" else 22
    said = rf"{party}'s bottom returns 'cut' with shape \[{size - 1}, 5\] for a batch of {size}"
    with pytest.raises(ShapeMismatch, match=said):
        federate(toy, {party: forgetful}, options=replace(OPTIONS, schedule=schedule))


def test_a_width_that_changes_later_names_party_tensor_and_both_shapes():
    toy = make_toy()
    with pytest.raises(
        ShapeMismatch, match=r"alice sent train\.cut 'cut' with shape \[64, 4\], expected \[64, 5\]"
    ):
        federate(toy, {"alice": lambda t: t[:, :4] if len(t) > 3 else t})


def test_a_top_for_another_width_names_what_it_was_given():
    toy = make_toy()
    narrow = {"alice": lambda t: {"mine": t[:, :4]}, "bob": lambda t: {"mine": t}}
    with pytest.raises(ShapeMismatch) as caught:
        federate(toy, narrow, Joining(PARTIES, "mine"))
    for part in ("'mine' of alice ['batch', 4]", "'mine' of bob ['batch', 5]", "2x9", "10x1"):
        assert part in caught.value.message
    with pytest.raises(ShapeMismatch, match=r"'mine' of bob .*: KeyError: 'cut'"):
        federate(toy, narrow, Joining(PARTIES))


def test_a_top_that_says_what_it_expects_has_a_plainer_error():
    toy = make_toy()
    top = Joining(PARTIES)
    top.expects = {party: {ONLY: (WIDTH,)} for party in PARTIES}
    said = (
        r"the top model expects 'cut' of alice with shape \['batch', 5\], alice's bottom makes "
        r"\['batch', 4\]"
    )
    with pytest.raises(ShapeMismatch, match=said):
        federate(toy, {"alice": lambda t: t[:, :4]}, top)
    assert federate(toy, top=top)["bob"][0].shape == toy.split.test.shape


class Wrong(Joining):
    def __init__(self, change):
        super().__init__(PARTIES)
        self.change = change

    def forward(self, cuts):
        return self.change(super().forward(cuts))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: (t, t), "returns tuple for a batch of 2"),
        (lambda t: {"logits": t}, "returns dict for a batch of 2"),
        (lambda t: t.unsqueeze(1), r"returns \[2, 1\] for a batch of 2"),
        (lambda t: t.mean(), r"returns \[\] for a batch of 2"),
        (lambda t: t.nothing, "AttributeError"),
    ],
)
def test_a_top_that_returns_something_else(change, said):
    with pytest.raises(ShapeMismatch, match=f"the top model .*{said}"):
        federate(make_toy(), top=Wrong(change))


def normed(toy, folder, options):
    """A run with batch normalisation at both parties, and the two layers."""
    shapes = {party: nn.BatchNorm1d(WIDTH) for party in PARTIES}
    return federate(toy, shapes, options=options, folder=folder), shapes


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_moving_figures_are_kept_and_found_again(tmp_path, schedule):
    toy, options = make_toy(), replace(OPTIONS, schedule=schedule)
    whole, norms = normed(toy, tmp_path / "a", options)
    assert norms["alice"].num_batches_tracked > 0
    assert norms["alice"].running_mean.abs().sum() > 0
    normed(toy, tmp_path / "b", options)
    newest = list((tmp_path / "b").glob("*/checkpoints/epoch-000002*"))
    assert len(newest) >= len(PARTIES)
    for path in newest:
        path.unlink()
    again, _ = normed(toy, tmp_path / "b", options)
    equal(whole, again)
