"""What a secure sum that survives dropouts costs its clients and its server.

    python -m benchmarks.secure_dropouts

One sum of words as FedAvg on MovieLens-100K sends them (1,682 items, 16 numbers each), a tenth of
the clients lost, each at one of three steps. Processor time, each side's own, in one process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import numpy as np

from benchmarks.harness import Bar, Result, machine_facts, publish, versions
from isthmus.fedrec.privacy.secure_client import Client
from isthmus.fedrec.privacy.secure_dropouts import BEFORE_SHARES, NEVER, Drops
from isthmus.fedrec.privacy.secure_server import Server
from isthmus.fedrec.privacy.secure_sum import agreed
from isthmus.fedrec.privacy.secure_terms import Rules

ITEMS, DIM = 1682, 16
WORDS = ITEMS * (DIM + 1) + 1
CASES = (10, 100, 300, 943)

T = TypeVar("T")


class Clock:
    """Adds up processor seconds by who spends them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, who: str, work: Callable[[], T]) -> T:
        """The result of `work`, its time on the account of `who`."""
        begun = time.process_time()
        found = work()
        self.spent[who] = self.spent.get(who, 0.0) + time.process_time() - begun
        return found


def double_masked(count: int) -> dict[str, Any]:
    """One sum that survives dropouts."""
    rules, clock = Rules(), Clock()
    terms = rules.terms(count)
    drops = Drops.drawn(0, 1, rules.lost, terms)
    words = np.random.default_rng(0).integers(0, 2**64, (count, WORDS), dtype=np.uint64)
    up = dict.fromkeys(("keys", "shares", "words", "answer"), 0)
    down = dict.fromkeys(("seat", "boxes", "list"), 0)
    clients = clock("client", lambda: [Client(rules) for _ in range(count)])
    server = Server(rules, WORDS)
    keys = clock("client", lambda: {at: one.join() for at, one in enumerate(clients)})
    seats = clock("server", lambda: server.seat(keys))
    there = [at for at in range(count) if drops.step[at] != BEFORE_SHARES]
    shares = clock("client", lambda: {at: clients[at].share(seats[at]) for at in there})
    boxes = clock("server", lambda: server.deal(shares))
    for at in np.flatnonzero(drops.survive).tolist():
        message = clock("client", partial(clients[at].masked, boxes[at], words[at]))
        up["words"] = max(up["words"], len(message))
        clock("server", partial(server.take, at, message))
    lists = clock("server", server.announce)
    full = [at for at in lists if drops.step[at] == NEVER]
    answers = clock("client", lambda: {at: clients[at].answer(lists[at]) for at in full})
    found = clock("server", lambda: server.total(answers))
    if not np.array_equal(found, words[drops.survive].sum(axis=0, dtype=np.uint64)):
        raise AssertionError("the sum is wrong")
    for sizes, name, messages in (
        (up, "keys", keys), (up, "shares", shares), (up, "answer", answers),
        (down, "seat", seats), (down, "boxes", boxes), (down, "list", lists),
    ):  # fmt: skip
        sizes[name] = max(map(len, messages.values()))
    return {
        "terms": asdict(terms), "up": up, "down": down,
        "client_ms": 1e3 * clock.spent["client"] / count,
        "server_ms": 1e3 * clock.spent["server"] / count,
    }  # fmt: skip


def once_masked(count: int) -> dict[str, Any]:
    """Pairwise masks alone, which one lost client spoils; keys agreed for this sum too."""
    clock = Clock()
    masks = clock("client", lambda: agreed(count))
    words = np.zeros(WORDS, np.uint64)
    for one in masks:
        clock("client", partial(one.add_to, words, "round"))
    return {"client_ms": 1e3 * clock.spent["client"] / count}


def result(raw: dict[str, Any]) -> Result:
    """What is published."""
    rows = []
    for count, case in raw.items():
        terms, up, down = (case["double"][name] for name in ("terms", "up", "down"))
        more = sum(up.values()) - up["words"]
        rows.append([
            count, str(terms["neighbours"]), str(terms["threshold"]), str(terms["lost"]),
            f"{more / 1024:.1f}", f"{sum(down.values()) / 1024:.1f}",
            f"{up['words'] / 1024:.0f}", f"{case['double']['client_ms']:.1f}",
            f"{case['once']['client_ms']:.1f}", f"{case['double']['server_ms']:.1f}",
        ])  # fmt: skip
    most = raw[str(CASES[-1])]["double"]
    on_top = sum(most["up"].values()) - most["up"]["words"]
    return Result(
        name="secure_dropouts",
        title="Secure sums that survive dropouts: what they cost a client and the server",
        summary=f"One sum of {WORDS:,} words of 64 bits (FedAvg on MovieLens-100K) with a tenth of "
        "the clients lost on the way, by the whole protocol; a fifth may be in league with the "
        "server. KiB and milliseconds of processor time are for each client and round; those of "
        "pairwise masks alone, with keys agreed for this one sum, beside them.",
        bars=[
            Bar(f"{CASES[-1]} clients: bytes of the words over what goes up besides",
                most["up"]["words"] / on_top, 20),
            Bar(f"{CASES[-1]} clients: 1 s over a client's processor time",
                1e3 / most["client_ms"], 4),
        ],
        columns=["clients", "neighbours", "threshold", "may be lost", "KiB up besides the words",
                 "KiB down", "KiB words", "ms client", "ms client, masks alone",
                 "ms server, a client"],
        rows=rows,
        raw=raw,
        machine=machine_facts(),
        versions=versions("cryptography", "pycryptodome", "numpy"),
    )  # fmt: skip


def main() -> int:
    """Measure and publish; 1 where a bar is not met."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    raw = {
        str(count): {"double": double_masked(count), "once": once_masked(count)} for count in CASES
    }
    found = result(raw)
    publish(found)
    return int(not all(bar.met for bar in found.bars))


if __name__ == "__main__":
    sys.exit(main())
