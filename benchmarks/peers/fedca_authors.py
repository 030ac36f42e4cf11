r"""Rounds of the authors' programs of FedCA and PFedRec, timed; runs in their environment.

    python fedca_authors.py CHECKOUT fedca-fcf|fedca-fedncf|pfedrec DATA_FOLDER DATASET ROUNDS \
        [SEED]

With a SEED (theirs is 0) every round is judged on test items, without one only the last.
CHECKOUT is a clone of theirs, unmodified. Four things it uses are gone or not here and stand in
for themselves: `random.sample` takes sets, as it did up to Python 3.10, `numpy.in1d` has another
name, a product with a float32 is a float64 as it was in NumPy 1, and `.cuda()` leaves a tensor
where it is. Prints a line of JSON a round.
"""

import itertools
import json
import os
import random
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

FEDCA = {
    "clients_sample_ratio": 1.0, "train_frac": 1.0, "top_k": 10, "local_epoch": 10,
    "threshold": 1e-4, "batch_size": 256, "lr_structure": 1e-2, "lr_embedding": 1e-2,
    "latent_dim": 16, "mlp_layers": [32, 16, 8, 1], "num_negative": 4, "use_cuda": False,
    "agg_clients_ratio": 0.1, "weight_decay": 0.001, "k_principal": 4, "alpha": 0.3, "beta": 0.3,
    "interpolation": 0.9,
}  # fmt: skip
"""The defaults of its train.py."""
PFEDREC = {
    "clients_sample_ratio": 1.0, "local_epoch": 1, "lr_eta": 80, "batch_size": 256, "lr": 0.1,
    "latent_dim": 32, "num_negative": 4, "l2_regularization": 0.0, "use_cuda": False,
    "num_users": 943, "num_items": 1682,
}  # fmt: skip
"""The defaults of its train.py, on ML-100K."""

Steps = tuple[Callable[[], Any], Callable[[Any, int], Any], Callable[[], tuple[float, float]]]
"""Samples of a round, a round, an evaluation of test items: as train.py goes."""


def fedca(backbone: str, data: str, dataset: str, seed: int) -> Steps:
    """The program of FedCA."""
    from model import tools
    from model.model import ModelEngine
    from utils.data import SampleGenerator
    from utils.utils import loadData, setSeed

    setSeed(seed)
    angles = tools.compute_principal_angles
    tools.compute_principal_angles = lambda one, two: np.asarray(angles(one, two), np.float64)
    config = dict(FEDCA, backbone=backbone)
    ratings, config["num_users"], config["num_items"] = loadData(data, dataset, config)
    engine = ModelEngine(config)
    generator = SampleGenerator(ratings=ratings, config=config)
    items = torch.nn.Embedding(config["num_items"], config["latent_dim"])
    layers = None
    if backbone == "FedNCF":
        pairs = itertools.pairwise(config["mlp_layers"])
        layers = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in pairs)
    return (
        lambda: generator.store_all_train_data(config["num_negative"]),
        lambda samples, number: engine.federatedTrainOneRound(samples, items, layers, number),
        lambda: engine.federatedEvaluate(generator.test_data),
    )


def pfedrec(data: str, dataset: str, seed: int) -> Steps:
    """The program of PFedRec."""
    stub = types.ModuleType("tensorboardX")
    stub.SummaryWriter = None
    sys.modules["tensorboardX"] = stub
    from mlp import MLPEngine

    from data import SampleGenerator

    random.seed(seed)
    torch.manual_seed(seed)
    engine = MLPEngine(dict(PFEDREC))
    names = ["uid", "mid", "rating", "timestamp"]
    path = Path(data) / dataset / "ratings.dat"
    ratings = pd.read_csv(path, sep=",", header=None, names=names, engine="python")
    ratings["userId"] = pd.factorize(ratings["uid"])[0]
    ratings["itemId"] = pd.factorize(ratings["mid"])[0]
    generator = SampleGenerator(ratings=ratings[["userId", "itemId", "rating", "timestamp"]])
    return (
        lambda: generator.store_all_train_data(PFEDREC["num_negative"]),
        lambda samples, number: engine.fed_train_a_round(samples, round_id=number),
        lambda: engine.fed_evaluate(generator.test_data)[:2],
    )


def main() -> None:
    """Run the rounds that the command line asks for."""
    checkout, case, data, dataset, rounds, *seeds = sys.argv[1:]
    seed = int(seeds[0]) if seeds else 0
    torch.set_num_threads(1)  # Two are slower: the tensors are tiny.
    drawn = random.sample
    random.sample = lambda of, k: drawn(tuple(of) if isinstance(of, set) else of, k)
    if not hasattr(np, "in1d"):
        np.in1d = np.isin
    torch.Tensor.cuda = lambda tensor, *rest, **more: tensor
    sys.path.insert(0, checkout)
    os.chdir(checkout)
    if case == "pfedrec":
        sample, train, judge = pfedrec(data, dataset, seed)
    else:
        backbone = {"fcf": "FCF", "fedncf": "FedNCF"}[case[6:]]
        sample, train, judge = fedca(backbone, data, dataset, seed)
    for number in range(int(rounds)):
        begin, cpu = time.perf_counter(), time.process_time()
        samples = sample()
        middle = time.perf_counter()
        train(samples, number)
        end, cpu = time.perf_counter(), time.process_time() - cpu
        judged = bool(seeds) or number == int(rounds) - 1
        hr, ndcg = judge() if judged else (None, None)
        found = {"sampling": middle - begin, "training": end - middle, "cpu": cpu,
                 "hr": hr, "ndcg": ndcg}  # fmt: skip
        print("@" + json.dumps(found), flush=True)


main()
