"""DIN and BST from a job file: who has the candidate, and what crosses."""

from dataclasses import replace

import pytest
import torch
from tests.jobs.test_spec import parse
from tests.split import zoo

from isthmus.errors import JobError
from isthmus.jobs.training import bottom_of, data_of, options_of, top_of
from isthmus.session import Session

TEXT = """\
isthmus: 1
name: histories
parties:
  alice:
    table: alice.csv
    features:
      user: categorical
      seen: {kind: sequence, length: 6}
  bob:
    table: bob.csv
    features:
      item: categorical
      age: numeric
      liked: {kind: sequence, of: item, by: user, time: when, length: 6, share: item}
label: {party: bob, expression: "Rating > 3"}
train:
  model:
    name: din
    dim: 4
    bottom: [8, 5]
    top: [8]
    embedding_std: 0.3
    attention: {candidate: item, tokens: 2, width: 8}
"""


def session(me="bob", parties=("alice", "bob")):
    return Session(me=me, parties=parties, label_party="bob", seed=3)


def spec_of(**attention):
    spec = parse(TEXT).spec
    name = attention.pop("name", "din")
    part = spec.train.model.attention.model_copy(update=attention)
    model = spec.train.model.model_copy(update={"name": name, "attention": part})
    return spec.model_copy(update={"train": spec.train.model_copy(update={"model": model})})


def factory(spec):
    def make(name, given):
        if name == "top":
            return top_of(spec, session(parties=given))
        return bottom_of(spec, session(name), given)

    return make


@pytest.mark.parametrize("name", ["din", "bst"])
@pytest.mark.parametrize("history", ["interests", "sent"])
def test_a_job_s_network_is_split_as_pooled(name, history):
    toy = zoo.make_zoo_toy()
    zoo.assert_split_equals_pooled(
        toy, factory(spec_of(name=name, history=history)), schedules=("exact",)
    )


@pytest.mark.parametrize("name", ["din", "bst"])
def test_the_label_party_alone_and_the_cut_of_each_party(name):
    toy, spec = zoo.make_zoo_toy(), spec_of(name=name)
    make = factory(spec)

    def alone(party, given):
        if party == "top":
            return make("top", given)
        return bottom_of(spec, session(party, (party,)), given)

    assert torch.isfinite(zoo.logits_alone(toy, alone)).all()
    assert set(make("top", zoo.PARTIES).expects["alice"]) == {"deep", "sum", "first", "interests"}
    assert "candidate" not in make("top", ("bob",)).expects["bob"]
    assert options_of(spec).score_batch < 8192


def test_histories_come_by_position():
    toy = zoo.make_zoo_toy()
    assert data_of(spec_of(), toy.features["alice"]).features.layout.slots == 1 + zoo.L


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ({"candidate": None}, "train.model.attention.candidate is missing"),
        ({"candidate": "age"}, "'age' is not a categorical feature of bob"),
        ({"candidate": "user"}, "'user' is not a categorical feature of bob"),
    ],
)
def test_what_cannot_be_built(attention, said):
    with pytest.raises(JobError, match=said):
        factory(spec_of(**attention))("top", zoo.PARTIES)
    with pytest.raises(JobError, match=said):
        factory(spec_of(**attention))("alice", zoo.make_zoo_toy().layout("alice"))


def test_no_candidate_is_needed_where_every_history_has_its_own():
    spec = spec_of(candidate=None)
    made = bottom_of(spec, session("bob", ("bob",)), zoo.make_zoo_toy().layout("bob"))
    assert made.side.offers is None
    assert made.side.here == (replace(made.side.here[0], candidate="item"),)
