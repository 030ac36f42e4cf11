"""The cost of reading a history, by its length: the linear encoder beside the transformer block.

Processor time of a forward and a backward pass on histories of random items, one thread, both
encoders in turn within each repetition, the fastest of several. The slope of the logarithms from
500 to 2,000 positions tells how the cost grows: near 1 linear, near 2 with the square.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.models.attention import TransformerBlock
from isthmus.models.linear_encoder import LinearEncoder

LENGTHS = (50, 100, 200, 500, 1000, 2000)
BATCH, WIDTH, HEADS = 32, 32, 2
_SLOPE_FROM = 500
_KINDS: Mapping[str, type[nn.Module]] = {"transformer": TransformerBlock, "linear": LinearEncoder}
_LINEAR_SLOPE = 1.15
"""At most this; a little over 1 for what leaves the processor's caches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    given = parser.parse_args()
    machine = machine_facts()
    torch.set_num_threads(1)
    seconds = measure(given.lengths, given.batch, given.repeats)
    publish(_result(seconds, given.batch, given.repeats, machine))


def measure(lengths: Sequence[int], batch: int, repeats: int) -> dict[str, dict[int, float]]:
    """Fastest processor seconds of a forward and backward pass, by encoder and length."""
    found: dict[str, dict[int, float]] = {name: {} for name in _KINDS}
    for length in lengths:
        rng = torch.Generator().manual_seed(length)
        x = torch.randn(batch, length, WIDTH, generator=rng)
        sizes = torch.randint(length // 2, length + 1, (batch, 1), generator=rng)
        mask = torch.arange(length) >= length - sizes
        modules = {
            n: kind(WIDTH, HEADS, 0.0, np.random.default_rng(0)) for n, kind in _KINDS.items()
        }
        for name, module in modules.items():
            _once(module, x, mask)
            found[name][length] = math.inf
        for _ in range(repeats):
            for name, module in modules.items():
                found[name][length] = min(found[name][length], _once(module, x, mask))
        said = ", ".join(f"{name} {1e3 * by[length]:.1f} ms" for name, by in found.items())
        print(f"{length}: {said}", flush=True)
    return found


def _once(module: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> float:
    x = x.clone().requires_grad_()
    gc.collect()
    began = time.process_time()
    module(x, mask).sum().backward()
    return time.process_time() - began


def slope(seconds: Mapping[int, float]) -> float:
    """Of the logarithms, by least squares, over the long histories."""
    long = [n for n in seconds if n >= _SLOPE_FROM]
    fit = np.polyfit([math.log(n) for n in long], [math.log(seconds[n]) for n in long], 1)
    return float(fit[0])


def _result(
    seconds: Mapping[str, Mapping[int, float]],
    batch: int,
    repeats: int,
    machine: Mapping[str, Any],
) -> Result:
    slopes = {name: slope(by) for name, by in seconds.items()}
    longest = max(seconds["linear"])
    faster = {n: seconds["transformer"][n] / seconds["linear"][n] for n in seconds["linear"]}
    rows = [
        [str(n), *(f"{1e6 * by[n] / batch:,.0f}" for by in seconds.values()), f"{faster[n]:.2f}"]
        for n in seconds["linear"]
    ]
    rows.append(["slope from 500 on", *(f"{value:.2f}" for value in slopes.values()), ""])
    return Result(
        name="encoder_length",
        title="Reading histories by their length: linear encoder and transformer block",
        summary=(
            f"Processor time of a forward and backward pass over {batch} histories of {WIDTH} "
            f"numbers a position, {HEADS} heads, one thread, the fastest of {repeats} after a "
            "first one, both encoders in turn. The slope is that of the logarithms."
        ),
        bars=[
            Bar(
                f"the linear encoder's slope is at most {_LINEAR_SLOPE} (share of it)",
                _LINEAR_SLOPE / slopes["linear"],
                1.0,
            ),
            Bar(
                f"at {longest} positions it is faster than the block (times)", faster[longest], 1.0
            ),
        ],
        columns=["positions", "transformer, µs a history", "linear, µs a history", "times faster"],
        rows=rows,
        raw={
            "seconds": {name: {str(n): s for n, s in by.items()} for name, by in seconds.items()},
            "slopes": slopes,
            "batch": batch,
            "repeats": repeats,
        },
        machine=machine,
        versions=versions("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
