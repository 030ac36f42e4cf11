"""pFedMoE and DA-PFL on their own ground: digits with label skew, plain methods beside them.

python -m benchmarks.fedrec_images
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import randomness
from isthmus.fedrec.images import METHODS, Found, Settings, deal, load, run
from isthmus.fedrec.images.data import Skew

SEEDS = (0, 1, 2)
CLIENTS = 20
SKEWS: tuple[tuple[Skew, float], ...] = (("dirichlet", 0.1), ("dirichlet", 1.0), ("shards", 2))
RATES = (0.05, 0.2)


def trained(skew: Skew, strength: float, method: str, seed: int) -> Found:
    """The run whose rate did best on validation."""
    images = load("digits")
    rng = randomness.generator(seed, randomness.SPLIT)
    clients = deal(images, CLIENTS, skew, strength, rng)
    runs = [run(images, clients, method, Settings(rate=rate), seed) for rate in RATES]
    return max(runs, key=lambda one: max(one.valid))


def text(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def main() -> int:
    """Train all, publish."""
    machine = machine_facts()
    found = {
        (skew, strength, method): [trained(skew, strength, method, seed) for seed in SEEDS]
        for skew, strength in SKEWS
        for method in METHODS
    }

    def mean(skew: Skew, strength: float, method: str) -> float:
        return statistics.mean(one.accuracy for one in found[skew, strength, method])

    bars = [
        Bar(
            f"{method}, {skew} {strength:g}: accuracy over each client's alone",
            mean(skew, strength, method) / mean(skew, strength, "local-only"),
            1.0,
        )
        for method in ("pfedmoe", "da-pfl")
        for skew, strength in SKEWS
    ]
    publish(
        Result(
            name="fedrec_images",
            title="Digits with label skew: pFedMoE, DA-PFL and plain methods",
            summary=(
                f"scikit-learn's digits dealt out to {CLIENTS} clients, 60% training, 20% "
                "validation, 20% test of each client's own images; 50 rounds of 10 steps, batches "
                "of 32, networks 64-32-10. Accuracy is the mean over clients, each on its own "
                f"images; round and learning rate ({' or '.join(map(str, RATES))}) chosen on "
                "validation; mean and standard deviation over 3 seeds."
            ),
            bars=bars,
            columns=["skew", "method", "accuracy", "10th percentile of clients", "numbers up"],
            rows=[
                [
                    f"{skew} {strength:g}", method, text([one.accuracy for one in runs]),
                    text([one.lowest[one.chosen - 1] for one in runs]), f"{runs[0].up:,}",
                ]
                for (skew, strength, method), runs in found.items()
            ],
            raw={"/".join(map(str, key)): [one.to_json() for one in r] for key, r in found.items()},
            machine=machine,
            versions=versions("numpy", "scikit-learn"),
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
