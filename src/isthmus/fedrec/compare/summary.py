"""What a comparison found, as data: one row an algorithm, its figures under each protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.fedrec.compare.leak import ALONE, METRIC, LeakFinding, chance, check, spread
from isthmus.fedrec.compare.picture import Picture
from isthmus.fedrec.compare.plan import Cell, Entry, Failure
from isthmus.fedrec.compare.published import Published, published
from isthmus.fedrec.compare.statistics import Against, Mean, against, client_values, mean_of
from isthmus.fedrec.population import Interactions, leave_out
from isthmus.fedrec.protocols import EvalProtocol
from isthmus.fedrec.results import RunResult

Ranks = NDArray[np.int32]


@dataclass(frozen=True)
class Finished:
    """One training that is done."""

    cell: Cell
    result: RunResult
    ranks: Mapping[str, Ranks]
    """The clients' test ranks at the chosen round by protocol, int32 [U], 0 for none."""
    picture: Picture | None = None


@dataclass(frozen=True)
class Curve:
    """The test metric round by round, means over seeds."""

    round: tuple[int, ...]
    traffic: tuple[float, ...]
    """Bytes up and down a client, up to the round."""
    seconds: tuple[float, ...]
    """Of training, up to the round."""
    value: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """A row under one protocol."""

    metrics: dict[str, Mean]
    """Test metrics at the chosen rounds."""
    chosen: tuple[int, ...]
    """The chosen round, by seed."""
    curve: Curve
    against: Against | None = None
    """None for the reference itself, or without it."""


@dataclass(frozen=True)
class Cost:
    """What one training takes, means over seeds; of the row's first ground."""

    rounds: int
    seconds: float
    """A round, the median."""
    up: float
    """Bytes a client that takes part sends in a round."""
    down: float
    total: float
    """Bytes a client, up and down, over the whole training."""


@dataclass(frozen=True)
class Row:
    """One algorithm."""

    name: str
    label: str
    kind: str
    leaves: str
    private: str
    paper: str
    backbone: str | None
    values: dict[str, Any]
    scores: dict[str, Score]
    """By protocol; empty where no training ended well."""
    cost: Cost | None
    published: tuple[Published, ...]
    picture: Picture | None


@dataclass(frozen=True)
class Comparison:
    """The whole comparison."""

    data: str
    clients: int
    items: int
    interactions: int
    order: str
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]
    metric: str
    """What methods are tested in, and curves show."""
    reference: str | None
    """The row that the others are tested against."""
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    leaks: tuple[LeakFinding, ...]
    version: int = 1
    notes: tuple[str, ...] = field(default=())
    """What a reader of the figures should know, in sentences."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def row(self, name: str) -> Row:
        """The row called so."""
        return next(one for one in self.rows if one.name == name)


def summarise(
    data: Interactions,
    rows: Sequence[Entry],
    rules: Sequence[EvalProtocol],
    seeds: Sequence[int],
    found: Sequence[Finished],
    failures: Sequence[Failure],
    metric: str,
    reference: str | None,
) -> Comparison:
    """All figures of the trainings that are done so far."""
    by_row = {row.name: [one for one in found if one.cell.entry.name == row.name] for row in rows}
    tests = {one.name: _tests(by_row, one.name, metric, reference) for one in rules}
    made = tuple(_row(data, row, rules, by_row[row.name], tests, metric) for row in rows)
    return Comparison(
        data.name, data.users, data.items, len(data.user), data.order, tuple(seeds),
        tuple(one.name for one in rules), metric, reference, made, tuple(failures),
        tuple(_leaks(data, rules, made, by_row.get(ALONE, ()))), notes=_notes(found, seeds),
    )  # fmt: skip


def _notes(found: Sequence[Finished], seeds: Sequence[int]) -> tuple[str, ...]:
    """What the results say of data and judging, those of the first seed for all."""
    first = [one.result.notes for one in found if one.cell.seed == seeds[0]]
    return tuple(dict.fromkeys(note for notes in first for note in notes))


def usual_reference(rows: Sequence[Entry]) -> str | None:
    """What the others are tested against unless the user says otherwise."""
    names = [one.name for one in rows]
    known = [one for one in ("fedavg", "popularity") if one in names]
    return (known or names or [None])[0]


def _row(
    data: Interactions,
    entry: Entry,
    rules: Sequence[EvalProtocol],
    found: Sequence[Finished],
    tests: Mapping[str, Mapping[str, Against]],
    metric: str,
) -> Row:
    what = entry.recipe.algorithm
    scores = {}
    for one in rules:
        results = [each.result for each in found if one.name in each.result.outcomes]
        if results:
            scores[one.name] = _score(results, one.name, metric, tests[one.name].get(entry.name))
    pictures = [one.picture for one in found if one.picture is not None]
    known = published(data.name, what.name, entry.recipe.backbone)
    return Row(
        entry.name, entry.label, what.kind, what.leaves, what.private, what.paper,
        entry.recipe.backbone, entry.recipe.values(), scores, _cost(found),
        tuple(known) if "+" not in entry.name else (), pictures[-1] if pictures else None,
    )  # fmt: skip


def _score(
    results: Sequence[RunResult], protocol: str, metric: str, tested: Against | None
) -> Score:
    outcomes = [one.outcomes[protocol] for one in results]
    best = [one.best.test for one in outcomes]
    metrics = {name: mean_of([one[name] for one in best]) for name in best[0]}
    chosen = tuple(one.chosen for one in outcomes)
    return Score(metrics, chosen, _curve(results, protocol, metric), tested)


def _curve(results: Sequence[RunResult], protocol: str, metric: str) -> Curve:
    numbers = [one.number for one in results[0].outcomes[protocol].judgements]
    traffic, seconds, values = [], [], []
    for one in results:
        sent = np.cumsum([(r.up + r.down) / one.clients for r in one.rounds])
        taken = np.cumsum([r.seconds for r in one.rounds])
        traffic.append([float(sent[n - 1]) for n in numbers])
        seconds.append([float(taken[n - 1]) for n in numbers])
        values.append([j.test[metric] for j in one.outcomes[protocol].judgements])
    over = [tuple(np.mean(part, axis=0).tolist()) for part in (traffic, seconds, values)]
    return Curve(tuple(numbers), *over)


def _cost(found: Sequence[Finished]) -> Cost | None:
    if not found:
        return None
    same = [one.result for one in found if one.cell.rules == found[0].cell.rules]
    rounds = [r for one in same for r in one.rounds]
    took_part = max(1, sum(r.clients for r in rounds))
    up, down = sum(r.up for r in rounds), sum(r.down for r in rounds)
    return Cost(
        len(same[0].rounds),
        float(np.median([r.seconds for r in rounds])),
        up / took_part,
        down / took_part,
        (up + down) / sum(one.clients for one in same),
    )


def _tests(
    by_row: Mapping[str, Sequence[Finished]], protocol: str, metric: str, reference: str | None
) -> dict[str, Against]:
    """Each row against the reference over the seeds that both have."""
    ranks = {
        name: {one.cell.seed: one.ranks[protocol] for one in found if protocol in one.ranks}
        for name, found in by_row.items()
    }
    base = ranks.get(reference or "", {})
    if not base:
        return {}
    seeds = sorted(base)
    others = {
        name: np.stack([mine[seed] for seed in seeds[: _common(seeds, mine)]])
        for name, mine in ranks.items()
        if name != reference and _common(seeds, mine)
    }
    table = np.stack([base[seed] for seed in seeds])
    return dict(zip(others, against(list(others.values()), table, metric), strict=True))


def _common(seeds: Sequence[int], mine: Mapping[int, Ranks]) -> int:
    """How many of the first seeds `mine` has, without a gap."""
    missing = [at for at, seed in enumerate(seeds) if seed not in mine]
    return missing[0] if missing else len(seeds)


def _leaks(
    data: Interactions,
    rules: Sequence[EvalProtocol],
    rows: Sequence[Row],
    alone: Sequence[Finished],
) -> list[LeakFinding]:
    def figures(wanted: str) -> dict[str, float]:
        found = [row.scores for row in rows if row.name == wanted]
        return {name: one.metrics[METRIC].mean for each in found for name, one in each.items()}

    own, popular = figures(ALONE), figures("popularity")
    honest = next((own.get(one.name) for one in rules if one.candidates and not one.leaks), None)
    return [
        check(
            one.name, own[one.name], chance(one, data), _spread(data, one, alone),
            popular.get(one.name), honest if one.leaks else None, by_its_rules=one.leaks,
        )
        for one in rules
        if one.name in own
    ]  # fmt: skip


def _spread(data: Interactions, rules: EvalProtocol, alone: Sequence[Finished]) -> float:
    hits, items = [], []
    for at, one in enumerate(one for one in alone if rules.name in one.ranks):
        held = leave_out(data, rules.split(data), one.cell.seed).test
        values = client_values(one.ranks[rules.name], METRIC)
        judged = ~np.isnan(values)
        hits.append(values[judged])
        items.append(held[judged] + at * data.items)
    return spread(np.concatenate(hits), np.concatenate(items))
