"""What every network of the zoo must be: split as pooled, exactly, at whatever party it runs.

A test gives `assert_split_equals_pooled` a function that makes a bottom or a top with its initial
values: `make(party, layout)` a bottom, `make("top", parties)` the top over those parties.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from isthmus.data import Features, FieldLayout, Histories, Layout, Split, split_samples
from isthmus.session import Session, run_parties
from isthmus.split import FeatureData, TrainOptions, bce, train, train_pooled
from isthmus.split.batches import epoch_batches
from isthmus.split.targets import PLAIN, Targets

PARTIES = ("alice", "bob")
SEED = 3
L = 6
"""Length of the toy's sequences."""
OPTIONS = TrainOptions(batch_size=42, epochs=2, learning_rate=0.01, patience=0, device="cpu")


@dataclass
class ZooToy:
    """A federation with a candidate and its history at bob, and one history more at alice."""

    features: dict[str, Features]
    labels: np.ndarray
    split: Split

    def layout(self, party: str) -> Layout:
        return self.features[party].layout

    def data(self, party: str) -> FeatureData:
        return FeatureData(self.features[party])

    def pooled(self) -> "ZooToy":
        """The same with each sequence as the mean of its items."""
        made = {p: f.with_layout(f.layout.pooled()) for p, f in self.features.items()}
        return replace(self, features=made)


def make_zoo_toy(rows: int = 500, seed: int = 0, labels: np.ndarray | None = None) -> ZooToy:
    """Items 1..12 of bob are liked by users whose history holds a near one.

    bob: `item`, `age` (numeric), `liked` (a sequence that shares the item's rows, from events).
    alice: `user`, `seen` (a sequence with rows of its own, stored in columns).
    """
    rng = np.random.default_rng(seed)
    items, events = 12, rng.integers(1, 13, 40 * rows).astype(np.int32)
    start = np.arange(rows, dtype=np.int64) * 40
    end = start + rng.integers(0, L + 4, rows)
    end[:5] = start[:5]
    liked = Histories("liked", events, start, end)
    item = rng.integers(1, items + 1, rows)
    seen = np.zeros((rows, L), dtype=np.int32)
    for row, length in enumerate(rng.integers(0, L + 1, rows)):
        seen[row, L - length :] = rng.integers(11, 17, length)
    near = [(np.abs(events[a:b] - i) <= 2).any() for a, b, i in zip(start, end, item, strict=True)]
    drawn = rng.random(rows) < 0.2 + 0.6 * np.array(near)
    bob = Layout(
        (
            FieldLayout("item", "categorical", 0, 1, 1, items),
            FieldLayout("age", "numeric", 1, 1, items + 1, 2, 0),
            FieldLayout("liked", "sequence", 2, L, 1, 0, slots=L, shares="item"),
        ),
        table_rows=items + 3,
        columns=2 + L,
        values=1,
        history_columns=L,
    )
    alice = Layout(
        (
            FieldLayout("user", "categorical", 0, 1, 1, 10),
            FieldLayout("seen", "sequence", 1, L, 11, 6, slots=L),
        ),
        table_rows=17,
        columns=1 + L,
        values=0,
    )
    own = np.stack([item, np.full(rows, items + 1)], 1).astype(np.int32)
    ages = rng.normal(size=(rows, 1)).astype(np.float32)
    theirs = np.concatenate([rng.integers(1, 11, (rows, 1)), seen], 1).astype(np.int32)
    features = {
        "alice": Features(alice, theirs, np.empty((rows, 0), np.float32)),
        "bob": Features(bob, own, ages, histories=(liked,)),
    }
    # The last epoch's parameters are compared, not the best one's.
    split = split_samples(rows, seed, (0.84, 0.0, 0.16))
    return ZooToy(features, drawn.astype(np.float32) if labels is None else labels, split)


Make = Callable[[str, Any], nn.Module]


def assert_split_equals_pooled(
    toy: ZooToy,
    make: Make,
    *,
    targets: Targets = PLAIN,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = bce,
    schedules: Sequence[str] = ("exact", "microbatch:3"),
    atol: float = 1e-5,
) -> None:
    """20 steps split over links give the losses and parameters of a plain PyTorch loop."""
    modules = _modules(toy, make)
    check_cut(toy, modules)
    expected = _plain_pytorch(toy, modules, loss)
    assert len(expected) == 20
    assert any(
        not torch.equal(a, b)
        for name, made in _modules(toy, make).items()
        for a, b in zip(made.parameters(), modules[name].parameters(), strict=True)
    ), "nothing was learnt"
    for schedule in schedules:
        losses, split = _split(toy, make, replace(OPTIONS, schedule=schedule), targets, loss)
        if schedule == "exact":
            np.testing.assert_allclose(losses, expected, atol=atol, rtol=0)
        for name, module in modules.items():
            state = split[name].state_dict()
            for key, value in module.state_dict().items():
                said = f"{schedule}: {name}.{key}"
                torch.testing.assert_close(
                    state[key], value, atol=atol, rtol=0, msg=lambda m, s=said: f"{s}: {m}"
                )
    _assert_train_pooled_is_exact(toy, make, targets, loss)


def check_cut(toy: ZooToy, modules: dict[str, nn.Module]) -> None:
    """Each bottom's cut is what the top expects; zeros and empty histories give finite logits."""
    rows = np.arange(7)
    cuts = {p: modules[p](toy.data(p).batch(rows, backward=False)) for p in PARTIES}
    for party, shapes in modules["top"].expects.items():
        found = {name: tuple(one.shape[1:]) for name, one in cuts[party].items()}
        assert found == dict(shapes), party
        assert all(one.dtype == torch.float32 for one in cuts[party].values())
    zeros = {p: {n: torch.zeros_like(one) for n, one in cut.items()} for p, cut in cuts.items()}
    modules["top"].eval()
    assert modules["top"](zeros).isfinite().all()
    modules["top"].train()


def logits_alone(toy: ZooToy, make: Make, party: str = "bob") -> torch.Tensor:
    """The logits of the first samples from the network built for one party alone."""
    bottom, top = make(party, toy.layout(party)), make("top", (party,))
    return top({party: bottom(toy.data(party).batch(np.arange(9), backward=False))})


def _modules(toy: ZooToy, make: Make) -> dict[str, nn.Module]:
    return {p: make(p, toy.layout(p)) for p in PARTIES} | {"top": make("top", PARTIES)}


def _plain_pytorch(toy: ZooToy, modules: dict[str, nn.Module], loss: Any) -> list[float]:
    """The pooled network, trained by a loop that knows nothing of parties."""
    tables, dense = [], []
    for module in modules.values():
        for name, one in module.named_parameters():
            (tables if name.endswith("table.weight") else dense).append(one)
    sparse_adam = torch.optim.SparseAdam(tables, lr=OPTIONS.learning_rate)
    adam = torch.optim.Adam(dense, lr=OPTIONS.learning_rate)
    session = Session(me="bob", parties=PARTIES, label_party="bob", seed=SEED)
    losses = []
    for epoch in range(1, OPTIONS.epochs + 1):
        for rows in epoch_batches(session, toy.split.train, epoch, OPTIONS.batch_size):
            cuts = {p: modules[p](toy.data(p).batch(rows, backward=True)) for p in PARTIES}
            value = loss(modules["top"](cuts), torch.from_numpy(toy.labels[rows]))
            sparse_adam.zero_grad()
            adam.zero_grad()
            value.backward()
            sparse_adam.step()
            adam.step()
            losses.append(value.item())
    return losses


def _split(
    toy: ZooToy, make: Make, options: TrainOptions, targets: Targets, loss: Any
) -> tuple[list[float], dict[str, nn.Module]]:
    losses: list[float] = []
    modules: dict[str, nn.Module] = {}

    def recorded(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = loss(logits, labels)
        if logits.requires_grad:
            losses.append(value.item())
        return value

    def alice(session: Session) -> Any:
        bottom = modules["alice"] = make("alice", toy.layout("alice"))
        data = toy.data("alice")
        return train(session, split=toy.split, bottom=bottom, data=data, options=options)

    def bob(session: Session) -> Any:
        modules["bob"], modules["top"] = make("bob", toy.layout("bob")), make("top", PARTIES)
        return train(
            session,
            split=toy.split,
            bottom=modules["bob"],
            data=toy.data("bob"),
            top=modules["top"],
            labels=toy.labels,
            loss=recorded,
            targets=targets,
            options=options,
        )

    run_parties({"alice": alice, "bob": bob}, label_party="bob", seed=SEED)
    return losses, modules


def _assert_train_pooled_is_exact(toy: ZooToy, make: Make, targets: Targets, loss: Any) -> None:
    """`train_pooled` makes the federation's numbers bit for bit."""
    _, split = _split(toy, make, OPTIONS, targets, loss)
    modules = _modules(toy, make)
    train_pooled(
        Session(me="bob", parties=PARTIES, label_party="bob", seed=SEED),
        split=toy.split,
        bottoms={party: modules[party] for party in PARTIES},
        data={party: toy.data(party) for party in PARTIES},
        top=modules["top"],
        labels=toy.labels,
        loss=loss,
        targets=targets,
        options=OPTIONS,
    )
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(split[name].state_dict()[key], value), f"{name}.{key}"
