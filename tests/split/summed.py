"""A federation of many feature parties with a secure or a plain sum, for the tests."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch

from isthmus.data import fit_encoder
from isthmus.models import DeepFMBottom, DeepFMTop
from isthmus.split import FeatureData, TrainOptions, bce
from isthmus.split.aggregation import (
    TOGETHER,
    AggregatedTop,
    Aggregation,
    FixedPoint,
    SecureSumHub,
    SecureSumLane,
    Sum,
    agree_masks,
    relay_keys,
)
from isthmus.split.lane import CutLane
from isthmus.split.optim import PartyOptimizer
from isthmus.split.sides import Part

CPU = torch.device("cpu")
OPTIONS = TrainOptions(learning_rate=0.02, device="cpu")
HUB = "lab"
ROWS = 96
BATCHES = [np.arange(start, start + 32) for start in range(0, ROWS, 32)]
WIDTHS = {"deep": (6,), "sum": (4,), "first": (1,)}


def backward(cut, gradient):
    torch.autograd.backward(list(cut.values()), [gradient[name] for name in cut])


@dataclass
class Federation:
    """`parties` organisations; the label party has features of its own."""

    parties: int
    feature_parties: tuple[str, ...] = field(init=False)
    data: dict[str, FeatureData] = field(init=False)
    labels: np.ndarray = field(init=False)

    def __post_init__(self):
        self.feature_parties = ("alice", "carol", "dave", "eve")[: self.parties - 1]
        rng = np.random.default_rng(self.parties)
        kinds = {"thing": "categorical", "amount": "numeric"}
        self.data = {}
        for party in (*self.feature_parties, HUB):
            frame = pl.DataFrame(
                {"thing": rng.integers(0, 9, ROWS), "amount": rng.normal(3, 2, ROWS)}
            )
            encoder = fit_encoder(frame, kinds, np.arange(ROWS))
            self.data[party] = FeatureData(encoder.encode(frame))
        self.labels = rng.integers(0, 2, ROWS).astype(np.float32)

    @property
    def ring(self):
        return FixedPoint(len(self.feature_parties))

    def bottom(self, party):
        module = DeepFMBottom(
            self.data[party].features.layout,
            dim=4,
            hidden=(8, 6),
            embedding_std=0.3,
            seed=len(party) + ord(party[0]),
        )
        return Part(module, CPU, self.data[party], PartyOptimizer(module, OPTIONS))

    def top(self):
        inner = DeepFMTop({TOGETHER: 6, HUB: 6}, dim=4, hidden=(8,), seed=1)
        module = AggregatedTop(inner, self.feature_parties, Aggregation(Sum()))
        return Part(module, CPU, None, PartyOptimizer(module, OPTIONS))

    def program(self, party, batches=BATCHES, signer=None, lanes=None):
        """A feature party's whole run; returns its bottom's state."""

        def run(session):
            masks = agree_masks(session, "train", signer=signer)
            plain = CutLane(session.hub, WIDTHS, CPU)
            lane = SecureSumLane(session.hub, WIDTHS, masks, self.ring, plain)
            if lanes is not None:
                lanes[party] = lane
            bottom = self.bottom(party)
            for step, rows in enumerate(batches):
                cut = bottom.module(self.data[party].batch(rows, backward=True))
                lane.send_cut(cut, step)
                gradient = lane.recv_gradient(len(rows), step)
                backward(cut, gradient)
                bottom.update(1.0)
            return bottom.module.state_dict()

        return run

    def hub_program(self, batches=BATCHES):
        def run(session):
            relay_keys(session, "train")
            lanes = {p: CutLane(link, WIDTHS, CPU) for p, link in session.links.items()}
            together = SecureSumHub(session.links, WIDTHS, self.ring, lanes, CPU)
            return self.train({TOGETHER: together}, [HUB], batches)

        return run

    def train(self, lanes, own, batches=BATCHES):
        """A label party's run: each step's logits, cuts and gradients; states of top and bottoms.

        Without lanes all bottoms are its own: the network in one place, plainly summed.
        """
        top, bottoms = self.top(), {party: self.bottom(party) for party in own}
        steps = []
        for step, rows in enumerate(batches):
            made = {
                p: b.module(self.data[p].batch(rows, backward=True)) for p, b in bottoms.items()
            }
            received = {p: lane.recv_cut(len(rows), step) for p, lane in lanes.items()}
            cuts = {
                party: {n: t.detach().requires_grad_() for n, t in cut.items()}
                for party, cut in (made | received).items()
            }
            logits = top.module(cuts)
            bce(logits, torch.from_numpy(self.labels[rows])).backward()
            gradients = {p: {n: t.grad for n, t in cut.items()} for p, cut in cuts.items()}
            steps.append((logits.detach(), cuts, gradients))
            for party, lane in lanes.items():
                lane.send_gradient(gradients[party], step)
            top.update(1.0)
            for party, cut in made.items():
                backward(cut, gradients[party])
                bottoms[party].update(1.0)
        return (
            steps,
            top.module.state_dict(),
            {p: b.module.state_dict() for p, b in bottoms.items()},
        )
