"""A round of FedCA and PFedRec, ours against the authors' programs: its seconds and its quality.

    python -m benchmarks.fedca_vs_authors --checkouts FOLDER

FOLDER (default: $ISTHMUS_BENCH_WORK/fedca_vs_authors) holds clones of the authors' programs:

    git clone https://github.com/hongleizhang/FedCA FOLDER/FedCA
    git clone https://github.com/Zhangcx19/IJCAI-23-PFedRec FOLDER/PFedRec

They come with the data that they are run on here. Nothing else should run while seconds are
measured. A round of theirs takes half a minute: `--cases` measures some, the others stand as they
were measured. `--curve SEED` runs theirs for `--rounds` rounds, each judged; `--quality` trains
ours for 100 rounds, over some seeds, and puts them beside the curves of theirs that there are;
`--publish` writes the result of what there is. Seconds and quality are kept apart: measuring one
leaves the other as it stands.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import WORK, environment, pip
from benchmarks.harness import RESULTS, Bar, Result, machine_facts, publish, versions
from isthmus.fedrec import RunOptions, interactions, protocol, recipe, run

PEER = Path(__file__).parent / "peers" / "fedca_authors.py"
NEEDS = ("cvxpy>=1.6", "osqp", "pandas<3", "scikit-learn", "torch")
ROUNDS, OURS = 100, 7
"""Of the quality runs; and those of ours that are timed, the first of them not counted."""


@dataclass(frozen=True)
class Case:
    """One program on one data set."""

    name: str
    data: str
    algorithm: str
    backbone: str
    bar: float
    sets: tuple[tuple[str, str], ...] = ()
    seeds: int = 5
    """Of ours, for quality."""

    @property
    def peer(self) -> str:
        """The name that the peer's script has for it."""
        return self.name.rpartition("-on-")[0]

    @property
    def checkout(self) -> str:
        """The folder of the authors' clone."""
        return "PFedRec" if self.algorithm == "pfedrec" else "FedCA"

    @property
    def data_folder(self) -> str:
        """Where the data lies in the clones."""
        return "PFedRec/data" if self.data == "ml-100k" else "FedCA/datasets"


_AUTHORS = (("variant", "authors"),)
CASES = (
    # FedCA differs too much from seed to seed, on FilmTrust above all, for five to tell its mean.
    Case("fedca-fcf-on-filmtrust", "filmtrust", "fedca", "fcf", 150, _AUTHORS, seeds=20),
    Case("fedca-fcf-on-ml-100k", "ml-100k", "fedca", "fcf", 150, _AUTHORS, seeds=20),
    Case("fedca-fedncf-on-filmtrust", "filmtrust", "fedca", "fedncf", 40, _AUTHORS),
    Case("fedca-fedncf-on-ml-100k", "ml-100k", "fedca", "fedncf", 40, _AUTHORS),
    Case("pfedrec-on-ml-100k", "ml-100k", "pfedrec", "pfedrec", 200),
)
METRICS = ("hr@10", "ndcg@10")
Curve = list[list[float]]
"""HR@10 and NDCG@10 of a round, from round 1."""


def _command(case: Case, python: Path, checkouts: Path, rounds: int) -> list[str]:
    places = [python, PEER, checkouts / case.checkout, case.peer, checkouts / case.data_folder]
    return [*map(str, places), case.data, str(rounds)]


def _environ() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def theirs(case: Case, python: Path, checkouts: Path, rounds: int) -> list[dict[str, Any]]:
    """Rounds of the authors' program, as its script tells them."""
    command = _command(case, python, checkouts, rounds)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environ())
    return [json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("@")]


def trace(case: Case, python: Path, checkouts: Path, rounds: int, seed: int, folder: Path) -> None:
    """Run the authors' program with each round judged, lines to `folder` as they come."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{case.name}-seed-{seed}.jsonl").open("w") as to:
        command = [*_command(case, python, checkouts, rounds), str(seed)]
        subprocess.run(command, check=True, stdout=to, env=_environ())


def curves(name: str, folder: Path) -> dict[str, Curve]:
    """The authors' program, by seed, as far as it was run."""
    found = {}
    for path in sorted(folder.glob(f"{name}-seed-*.jsonl")):
        # Another process may be in the middle of a line.
        lines = [
            line[1:]
            for line in path.read_text().splitlines()
            if line[:1] == "@" and line[-1:] == "}"
        ]
        told = [json.loads(line) for line in lines]
        found[path.stem.rpartition("-")[2]] = [
            [round(one["hr"], 5), round(one["ndcg"], 5)] for one in told
        ]
    return {seed: curve for seed, curve in found.items() if curve}


def ours(case: Case, seed: int, rounds: int, every: int) -> Any:
    """A run of ours with the same numbers."""
    how = RunOptions(seed=seed, rounds=rounds, every=every, threads=os.cpu_count() or 1)
    made = recipe(case.algorithm, case.backbone, dict(case.sets))
    return run(interactions(case.data), made, [protocol("authors")], how)


def measure(case: Case, python: Path, checkouts: Path, rounds: int) -> dict[str, Any]:
    """Seconds a round of both, samples and server included, evaluation left out."""
    load = os.getloadavg()[0]
    timed = ours(case, 0, OURS, OURS).rounds[1:]
    peer = theirs(case, python, checkouts, rounds)
    timed += ours(case, 0, OURS, OURS).rounds[1:]
    return {
        "ours": statistics.median(one.seconds for one in timed),
        "ours_cpu": statistics.median(one.cpu for one in timed),
        "ours_rounds": [round(one.seconds, 5) for one in timed],
        "theirs": statistics.median(one["sampling"] + one["training"] for one in peer),
        "theirs_rounds": peer,
        "load_before": round(load, 2),
    }


def quality(case: Case, folder: Path, rounds: int, before: dict[str, Any]) -> dict[str, Any]:
    """HR@10 and NDCG@10 on test: ours by round and at the best, theirs as far as it was run.

    Goes on from what was found before, if that is of as many rounds.
    """
    peers = curves(case.name, folder)
    found = list(before.get("ours", [])) if before.get("trained") == rounds else []
    for seed in range(len(found), case.seeds):
        outcome = ours(case, seed, rounds, 1).outcomes["authors"]
        by_round = [[round(one.test[name], 5) for name in METRICS] for one in outcome.judgements]
        best = outcome.best
        found.append({"best": [best.test[name] for name in METRICS], "round": best.number,
                      "rounds": by_round})  # fmt: skip
    return {"ours": found, "theirs": peers, "trained": rounds}


def distances(part: dict[str, Any]) -> list[tuple[int, float, float, float]]:
    """Of each round that both ran and each metric: round, our mean, our deviation, their mean.

    Their mean is over those of their seeds that got so far.
    """
    quality = part.get("quality", {})
    peers, found = list(quality.get("theirs", {}).values()), []
    for at in range(max((len(one) for one in peers), default=0)):
        for which in range(len(METRICS)):
            values = [one["rounds"][at][which] for one in quality["ours"]]
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            them = statistics.mean(one[at][which] for one in peers if len(one) > at)
            found.append((at + 1, mean, deviation, them))
    return found


def closeness(part: dict[str, Any]) -> float:
    """Our deviation over the mean distance from theirs, over all rounds and both metrics."""
    away = [abs(mean - them) / deviation for _, mean, deviation, them in distances(part)]
    return 1 / statistics.mean(away)


def result_of(curve: Curve) -> list[float]:
    """HR@10 and NDCG@10 of the last round with the best HR@10, as their program chooses it."""
    return max(reversed(curve), key=lambda one: one[0])


def results(part: dict[str, Any]) -> tuple[list[list[float]], list[list[float]]]:
    """Both metrics of all whole runs: ours, theirs."""
    quality = part.get("quality", {})
    runs = quality.get("ours", []) if quality.get("trained", ROUNDS) == ROUNDS else []
    whole = [one for one in quality.get("theirs", {}).values() if len(one) >= ROUNDS]
    return [one["best"] for one in runs], [result_of(one) for one in whole]


def apart(part: dict[str, Any]) -> float | None:
    """Our deviation over the distance of the means of the results, the smaller of two metrics."""
    mine, them = results(part)
    if not mine or not them:
        return None
    return min(
        statistics.stdev(ours) / max(abs(statistics.mean(ours) - statistics.mean(others)), 1e-9)
        for ours, others in zip(zip(*mine, strict=True), zip(*them, strict=True), strict=True)
    )


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def _both(runs: Sequence[Sequence[float]]) -> str:
    if not runs:
        return "–"
    values = " / ".join(_spread(values) for values in zip(*runs, strict=True))
    return f"{values} ({len(runs)})"


def table(parts: dict[str, Any]) -> list[list[str]]:
    """A row a case."""
    rows = []
    for case in CASES:
        part = parts.get(case.name)
        if part is None:
            continue
        mine, them = results(part)
        met, run = distances(part)[-len(METRICS) :], part.get("quality", {}).get("theirs", {})
        seeds = sum(len(one) >= met[0][0] for one in run.values()) if met else 0
        rows.append([
            case.name.replace("-on-", " on "),
            f"{part['theirs']:.1f}", f"{part['ours']:.4f}", f"{part['ours_cpu']:.4f}",
            f"{part['theirs'] / part['ours']:.0f}", f"{case.bar:.0f}",
            f"{met[0][0]}" if met else "–",
            " / ".join(f"{mean:.3f} ± {deviation:.3f}" for _, mean, deviation, _ in met) or "–",
            (" / ".join(f"{other:.3f}" for *_, other in met) + f" ({seeds})") if met else "–",
            _both(mine), _both(them),
        ])  # fmt: skip
    return rows


def result(parts: dict[str, Any], machine: dict[str, Any]) -> Result:
    """The benchmark's result from what was measured, the seconds on `machine`."""
    bars = [
        Bar(f"times faster a round, {one.name.replace('-on-', ' on ')}",
            round(parts[one.name]["theirs"] / parts[one.name]["ours"], 1), one.bar)
        for one in CASES if one.name in parts
    ]  # fmt: skip
    for one in CASES:
        ratio = apart(parts.get(one.name, {}))
        if ratio is not None:
            name = one.name.replace("-on-", " on ")
            told = f"deviation over distance from the authors' result, {name}"
            bars.append(Bar(told, round(ratio, 2), 1))
    bars += [
        Bar(f"deviation over distance from the authors' curve, {one.name.replace('-on-', ' on ')}",
            round(closeness(parts[one.name]), 2), 1)
        for one in CASES if distances(parts.get(one.name, {}))
    ]  # fmt: skip
    return Result(
        name="fedca_vs_authors",
        title="A round of FedCA and PFedRec, the authors' programs beside ours",
        summary=(
            "Seconds a round with the released programs' own numbers, drawing samples and the "
            "server's part included, evaluation left out; the median over rounds, both run in one "
            "session on a machine that does nothing else. Theirs on one PyTorch thread, which is "
            "faster than two; ours on all cores, its processor seconds beside. Quality is HR@10 / "
            "NDCG@10 on test under the authors' protocol, which leaks (see the page on protocols), "
            f"mean and deviation over as many seeds as the brackets say: {ROUNDS} rounds of theirs "
            "take up to an hour and more. The result of a run is "
            "its round with the best HR@10, as the protocol has it. Two bars: the means of the "
            "results are no farther apart than our deviation from seed to seed, in both metrics; "
            "and over all rounds that both ran (the table has the last) and both metrics, theirs "
            "is in the mean no farther from our mean than our deviation of that round. One seed of "
            "the same program would be about 0.9 deviations away, and its rounds all to one side."
        ),
        bars=bars,
        columns=["case", "authors, s", "ours, s", "ours, cpu s", "times", "bar",
                 "round", "ours", "authors (seeds)",
                 "ours, result (seeds)", "authors, result (seeds)"],
        rows=table(parts),
        raw=parts,
        machine=machine,
        versions={**versions("numba", "numpy"), "FedCA": "b8e6802", "PFedRec": "a1dd44a"},
    )  # fmt: skip


def _install(python: Path) -> None:
    pip(python, *NEEDS)


def published() -> dict[str, Any]:
    """The committed result."""
    path = RESULTS / "fedca_vs_authors.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def known(kept: Path) -> dict[str, Any]:
    """What was measured: of each case the published seconds and quality, then what is newer."""
    parts: dict[str, Any] = published().get("raw", {})
    newer = json.loads(kept.read_text()) if kept.exists() else {}
    return {name: parts.get(name, {}) | newer.get(name, {}) for name in {**parts, **newer}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    names = [one.name for one in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--checkouts", type=Path, default=WORK / "fedca_vs_authors")
    parser.add_argument("--python", default=sys.executable, help="to make their environment with")
    parser.add_argument("--cases", default=",".join(names))
    parser.add_argument("--rounds", type=int, default=2, help="of theirs")
    parser.add_argument("--curve", type=int, metavar="SEED", help="judge each of their rounds")
    parser.add_argument("--quality", action="store_true", help="train ours in full instead")
    parser.add_argument("--trained", type=int, default=ROUNDS, help="rounds of ours, for quality")
    parser.add_argument("--publish", action="store_true")
    chosen = parser.parse_args(arguments)
    folder = WORK / "fedca_vs_authors"
    kept = folder / "parts.json"
    python = environment(folder / "venv", chosen.python, _install)
    machine = published().get("machine") or machine_facts()
    for case in [one for one in CASES if one.name in chosen.cases.split(",")]:
        begin = time.monotonic()
        if chosen.curve is not None:
            trace(case, python, chosen.checkouts, chosen.rounds, chosen.curve, folder / "curves")
            continue
        if chosen.quality:
            before = known(kept).get(case.name, {}).get("quality", {})
            found = {"quality": quality(case, folder / "curves", chosen.trained, before)}
        else:
            machine = machine_facts()
            found = measure(case, python, chosen.checkouts, chosen.rounds)
        # Read again: another case may have been measured meanwhile.
        parts = known(kept)
        parts[case.name] = {**parts.get(case.name, {}), **found}
        kept.write_text(json.dumps(parts, indent=1))
        print(case.name, f"{time.monotonic() - begin:.0f} s", found, flush=True)
    if chosen.publish:
        parts = known(kept)
        for name, part in parts.items():
            if "quality" in part:  # theirs may have gone on since
                newer = curves(name, folder / "curves")
                part["quality"]["theirs"] = newer or part["quality"]["theirs"]
        timed = {name: part for name, part in parts.items() if "theirs" in part}
        publish(result(timed, machine))


if __name__ == "__main__":
    main()
