"""Wide & Deep, DCN-V2 and AutoInt as a job builds them."""

import pytest
from tests.jobs.test_spec import TEXT, parse
from tests.split import zoo

from isthmus.jobs.training import bottom_of, data_of, top_of
from isthmus.models.dcn import cross_width
from isthmus.session import Session
from isthmus.split.aggregation import AggregatedTop

NAMES = ("wide_deep", "dcn", "autoint")


def spec_of(name, more=""):
    model = f"train: {{model: {{name: {name}, dim: 4, bottom: [8, 5], top: [6]{more}}}}}\n"
    return parse(TEXT + model).spec


def session(me="bob", parties=("alice", "bob")):
    return Session(me=me, parties=parties, label_party="bob", seed=zoo.SEED)


@pytest.mark.parametrize("name", NAMES)
def test_the_parties_bottoms_and_the_top_fit_together(name):
    toy, spec = zoo.make_zoo_toy(), spec_of(name)
    modules = {"top": top_of(spec, session())}
    for party in zoo.PARTIES:
        layout = data_of(spec, toy.features[party]).features.layout
        modules[party] = bottom_of(spec, session(party), layout)
    zoo.check_cut(toy.pooled(), modules)


@pytest.mark.parametrize("name", NAMES)
def test_the_label_party_alone(name):
    spec, alone = spec_of(name), session(parties=("bob",))
    assert set(top_of(spec, alone).expects) == {"bob"}


def test_the_job_says_how_many_cross_layers_and_of_which_rank():
    spec = spec_of("dcn", ", cross: {layers: 3, rank: 4}")
    assert top_of(spec, session()).expects["alice"]["cross"] == (cross_width(3, 4),)


def test_sums_over_parties_may_be_made_of_dcn_s_crosses():
    spec = parse(TEXT + "train: {model: {name: dcn}, aggregation: sum}\n").spec
    assert isinstance(top_of(spec, session()), AggregatedTop)
