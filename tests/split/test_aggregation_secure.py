"""The secure sum end to end: the sum and its gradients, and nothing unmasked on the way."""

import numpy as np
import pytest
import torch
from tests.split.summed import BATCHES, CPU, HUB, WIDTHS, Federation

from isthmus.errors import BadMessage, NotFinite, PartnerFailed, PartnerGone, ShapeMismatch
from isthmus.link.memory import memory_links
from isthmus.session import run_parties
from isthmus.split.aggregation import (
    TOGETHER,
    FixedPoint,
    SecureSumHub,
    SecureSumLane,
    agree_masks,
    relay_keys,
    summed_widths,
)
from isthmus.split.lane import CutLane


def federate(federation, programs=None, hub=None):
    given = {party: federation.program(party) for party in federation.feature_parties}
    given |= programs or {}
    return run_parties(given | {HUB: hub or federation.hub_program()}, label_party=HUB)


@pytest.mark.parametrize("parties", [3, 5])
def test_deepfm_under_a_secure_sum_is_deepfm_under_a_plain_one(parties):
    federation = Federation(parties)
    results = federate(federation)
    steps, top, own = results[HUB]
    everybody = [*federation.feature_parties, HUB]
    plain, plain_top, plain_bottoms = federation.train({}, everybody)

    # The stated bound, at the first step: the weights are still the same. An error of at most d in
    # each summed number changes a logit by d (first) + d |S|_1 (pairs) + d prod |W|_inf (deep).
    logits, cuts, gradients = steps[0]
    wanted, parts, wanted_gradients = plain[0]
    d = federation.ring.bound + 1e-6
    total = {n: sum(cut[n] for cut in parts.values()).detach() for n in ("sum", "first")}
    for name in WIDTHS:
        exact = sum(parts[party][name] for party in federation.feature_parties)
        assert (cuts[TOGETHER][name] - exact).abs().max() <= d
    weights = [layer.weight for layer in federation.top().module.top.tower.layers]
    stretch = np.prod([w.detach().abs().sum(1).max().item() for w in weights])
    bound = d * (1 + total["sum"].abs().sum(1) + stretch) + 1e-6
    assert ((logits - wanted).abs() <= bound).all()
    assert (logits - wanted).abs().max() > 0  # else the two were computed alike

    # Gradients: g = (sigmoid(y) - label) / batch moves by a quarter of the logit's error.
    error = bound / 4 / len(logits)
    for party in federation.feature_parties:
        first = gradients[TOGETHER]["first"] - wanted_gradients[party]["first"]
        assert (first.abs()[:, 0] <= error + 1e-8).all()
        pairs = gradients[TOGETHER]["sum"] - wanted_gradients[party]["sum"]
        limit = error[:, None] * total["sum"].abs() + d / len(logits) + 1e-8
        assert (pairs.abs() <= limit).all()
        deep = gradients[TOGETHER]["deep"] - wanted_gradients[party]["deep"]
        assert deep.abs().max() < 1e-5

    # And after some updates (Adam divides by small numbers at first: a coarser measure).
    theirs = {party: results[party] for party in federation.feature_parties}
    pairs = [(top, plain_top), *((s, plain_bottoms[p]) for p, s in (theirs | own).items())]
    for ours, reference in pairs:
        for name, value in reference.items():
            if value.dtype == torch.float32:
                assert (ours[name] - value).abs().max() < 2e-3, name


def test_fresh_masks_leave_the_result_bit_for_bit():
    federation = Federation(3)
    once, again = federate(federation), federate(federation)
    for party in federation.feature_parties:
        for name, value in once[party].items():
            assert torch.equal(value, again[party][name])


class Ears:
    """A link that remembers what passed through it."""

    def __init__(self, link, heard):
        self.link, self.heard, self.partner = link, heard, link.partner

    def send(self, topic, tensors=None, header=None):
        self.link.send(topic, tensors, header)

    def recv(self, topic, **kwargs):
        message = self.link.recv(topic, **kwargs)
        self.heard.append((self.partner, message))
        return message


def test_the_hub_sees_masked_words_only():
    federation = Federation(3)
    heard, lanes = [], {}

    def hub(session):
        relay_keys(session, "train")
        links = {p: Ears(link, heard) for p, link in session.links.items()}
        plain = {p: CutLane(link, WIDTHS, CPU) for p, link in session.links.items()}
        together = SecureSumHub(links, WIDTHS, federation.ring, plain, CPU)
        return federation.train({TOGETHER: together}, [HUB])

    programs = {p: federation.program(p, lanes=lanes) for p in federation.feature_parties}
    federate(federation, programs, hub)
    assert len(heard) == 2 * len(BATCHES)
    for party, message in heard:
        assert message.topic == "train.cut"
        assert set(message.header) == {"step", "mask"}
        words = np.concatenate([t.ravel() for t in message.tensors.values()])
        assert words.dtype == np.uint32
        # Unmasked words of small numbers lie near 0 and 2^32: these do not.
        signed = words.view(np.int32).astype(np.float64)
        assert abs(signed.mean()) < 6 * 2**32 / np.sqrt(12 * len(words)), party
        assert abs(np.abs(signed).mean() / 2**30 - 1) < 0.2
    assert not any(lane.clipped for lane in lanes.values())


def test_the_gradient_tells_a_feature_party_the_sum():
    # What docs/aggregation.md says is not hidden.
    steps, _, _ = federate(Federation(3))[HUB]
    _, cuts, gradients = steps[0]
    seen = gradients[TOGETHER]["sum"] / gradients[TOGETHER]["first"]
    assert torch.allclose(seen, cuts[TOGETHER]["sum"] + cuts[HUB]["sum"], atol=1e-4)


def lanes_of(n=3, ring=None, widths=WIDTHS, timeout=5.0):
    """Both ends of every lane, in one thread after the keys are agreed."""
    parties = ("alice", "carol", "dave", "eve")[:n]
    ring = ring or FixedPoint(n)
    links = {party: memory_links(HUB, party, timeout=timeout) for party in parties}
    masks = run_parties(
        {p: lambda s: agree_masks(s, "train") for p in parties} | {HUB: hub_relays},
        label_party=HUB,
    )
    ends = {p: CutLane(links[p][0], widths, CPU) for p in parties}
    hub = SecureSumHub({p: links[p][0] for p in parties}, widths, ring, ends, CPU)
    lanes = {
        p: SecureSumLane(
            links[p][1],
            # A party may hold its tensors in another order.
            dict(sorted(widths.items(), reverse=p == "carol")),
            masks[p],
            ring,
            CutLane(links[p][1], widths, CPU),
            say=said.append,
        )
        for p in parties
    }
    said.clear()
    return hub, lanes, links


def hub_relays(session):
    relay_keys(session, "train")


said: list[str] = []


def cut_of(batch, value=1.0, widths=WIDTHS):
    return {name: torch.full((batch, *width), value) for name, width in widths.items()}


def test_validation_may_count_its_steps_anew():
    hub, lanes, _ = lanes_of()
    for step in (0, 1, 0, 1):
        for value, lane in enumerate(lanes.values()):
            lane.send_cut(cut_of(2, float(value)), step, "train.valid")
        total = hub.recv_cut(2, step, "train.valid")
        assert torch.equal(total["deep"], torch.full((2, 6), 3.0))


def test_equal_cuts_never_look_alike():
    _, lanes, links = lanes_of()
    for step, topic in ((0, "train.cut"), (1, "train.cut"), (0, "train.valid"), (0, "train.valid")):
        lanes["alice"].send_cut(cut_of(50), step, topic)
    hub = links["alice"][0]
    found = [hub.recv(t).tensors["deep"].copy() for t in ("train.cut", "train.valid") * 2]
    for i, a in enumerate(found):
        assert all(np.count_nonzero(a == b) < 3 for b in found[:i])


def test_tensors_of_any_shape_and_order_are_summed():
    widths = {"b": (2, 3), "a": (), "c": (4,)}
    hub, lanes, _ = lanes_of(widths=widths)
    for value, lane in enumerate(lanes.values()):
        cut = cut_of(5, value + 0.5, widths)
        lane.send_cut(dict(sorted(cut.items(), reverse=bool(value))), 0)
    total = hub.recv_cut(5, 0)
    assert {name: tuple(t.shape) for name, t in total.items()} == {
        "b": (5, 2, 3),
        "a": (5,),
        "c": (5, 4),
    }
    assert all(torch.equal(t, torch.full_like(t, 4.5)) for t in total.values())


def test_gradients_go_to_everybody_alike():
    hub, lanes, _ = lanes_of()
    gradient = {name: torch.randn(2, *width) for name, width in WIDTHS.items()}
    hub.send_gradient(gradient, 4)
    for lane in lanes.values():
        got = lane.recv_gradient(2, 4)
        assert all(torch.equal(got[name], gradient[name]) for name in WIDTHS)


def test_clipping_is_reported_to_its_owner_once():
    hub, lanes, _ = lanes_of()
    for step in range(2):
        for lane in lanes.values():
            lane.send_cut(cut_of(2, 1e9 if lane is lanes["carol"] else 1.0), step)
        total = hub.recv_cut(2, step)["first"]
        limit = FixedPoint(3).limit
        assert torch.allclose(total, torch.full((2, 1), limit + 2), rtol=1e-6)
    assert lanes["carol"].clipped == {"deep": 24, "sum": 16, "first": 4}
    assert not lanes["alice"].clipped
    assert len(said) == 3
    assert "'deep' at step 0" in said[0]


def test_what_is_not_a_number_does_not_leave():
    _, lanes, links = lanes_of(timeout=0.1)
    bad = cut_of(2)
    bad["sum"][1, 2] = torch.nan
    with pytest.raises(NotFinite):
        lanes["alice"].send_cut(bad, 0)
    assert links["alice"][1].meter.snapshot() == {}


@pytest.mark.parametrize(
    "bad", [{"deep": torch.zeros(2, 6)}, cut_of(2) | {"deep": torch.ones(2, 5)}, {}]
)
def test_another_cut_than_agreed_does_not_leave(bad):
    _, lanes, _ = lanes_of()
    with pytest.raises(ShapeMismatch, match="agreed was"):
        lanes["alice"].send_cut(bad, 0)


def replaced(message, **changes):
    return {"tensors": dict(message.tensors), "header": dict(message.header)} | changes


def hostile(change):
    """A hub to which carol's message comes changed."""
    hub, lanes, links = lanes_of()
    for lane in lanes.values():
        lane.send_cut(cut_of(2), 0)
    near, carol = links["carol"]
    sent = replaced(near.recv("train.cut"))
    change(sent)
    carol.send("train.cut", sent["tensors"], sent["header"])
    return hub


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["header"].update(step=1), "carol sent train.cut of step 1, we are at step 0"),
        (lambda m: m["header"].update(step=False), "step False"),
        (lambda m: m["header"].update(mask=3), "of mask 3"),
        (lambda m: m["header"].clear(), "of step None"),
        (lambda m: m["tensors"].pop("deep"), r"sent the tensors"),
        (lambda m: m["tensors"].update(more=np.zeros(2, np.uint32)), "sent the tensors"),
        (lambda m: m["tensors"].update(deep=np.zeros((2, 6), np.float32)), "as float32"),
        (lambda m: m["tensors"].update(deep=np.zeros((2, 6), np.uint64)), "as uint64"),
        (lambda m: m["tensors"].update(deep=np.zeros((2, 6), np.int32)), "as int32"),
        (lambda m: m["tensors"].update(deep=np.zeros((3, 6), np.uint32)), r"\[3, 6\], agreed was"),
        (lambda m: m["tensors"].update(deep=np.zeros((2, 6, 1), np.uint32)), r"\[2, 6, 1\]"),
        (lambda m: m["tensors"].update(deep=np.zeros((), np.uint32)), r"uint32 \[\]"),
        (lambda m: m["tensors"].update({k: v + v for k, v in m["tensors"].items()}), "not cancel"),
    ],
)
def test_a_message_that_does_not_belong_is_refused(change, words):
    with pytest.raises(BadMessage, match=words):
        hostile(change).recv_cut(2, 0)


def test_a_party_at_another_step_is_an_error():
    hub, lanes, _ = lanes_of()
    for party, lane in lanes.items():
        lane.send_cut(cut_of(2), 1 if party == "carol" else 0)
    with pytest.raises(BadMessage, match=r"carol sent train\.cut of step 1"):
        hub.recv_cut(2, 0)


def test_a_party_that_left_a_message_out_is_an_error():
    # Its masks would be those of another message.
    hub, lanes, _ = lanes_of()
    for lane in lanes.values():
        lane.send_cut(cut_of(2), 0)
    hub.recv_cut(2, 0)
    lanes["carol"]._masks.add_to(np.zeros(22, np.uint32), "train.cut")
    for lane in lanes.values():
        lane.send_cut(cut_of(2), 1)
    with pytest.raises(BadMessage, match=r"carol sent train\.cut of mask 2, we are at mask 1"):
        hub.recv_cut(2, 1)


@pytest.mark.parametrize("how", ["fails", "leaves"])
def test_a_party_that_drops_out_stops_everybody(how):
    federation = Federation(5)
    errors = {}

    def watched(name, program):
        def run(session):
            try:
                return program(session)
            except Exception as error:
                errors[name] = error
                raise

        return run

    def carol(session):
        federation.program("carol", BATCHES[:1])(session)
        if how == "fails":
            raise ShapeMismatch("carol's own matter")

    programs = {p: watched(p, federation.program(p)) for p in federation.feature_parties}
    programs["carol"] = carol
    with pytest.raises((ShapeMismatch, PartnerGone, PartnerFailed)):
        federate(federation, programs, watched(HUB, federation.hub_program()))
    assert set(errors) == {"alice", "dave", "eve", HUB}
    wanted = PartnerFailed if how == "fails" else PartnerGone
    assert isinstance(errors[HUB], wanted)
    assert all(isinstance(errors[p], PartnerFailed) for p in ("alice", "dave", "eve"))
    assert not any("own matter" in str(error) for error in errors.values())


def test_widths_must_be_the_same_at_all_feature_parties():
    assert summed_widths({"alice": WIDTHS, "carol": dict(WIDTHS)}) == WIDTHS
    with pytest.raises(ShapeMismatch, match=r"carol's 'deep' is \['batch', 5\], alice's is \['ba"):
        summed_widths({"alice": WIDTHS, "carol": WIDTHS | {"deep": (5,)}})
    with pytest.raises(ShapeMismatch, match=r"carol's 'more' is \['batch'\], alice's is not there"):
        summed_widths({"alice": WIDTHS, "carol": WIDTHS | {"more": ()}})
