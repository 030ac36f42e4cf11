"""A shard at work: trains its clients, applies guards and judges, as the server asks.

Its interactions, held-out items, clients' vectors and private rows stay here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from pydantic import TypeAdapter, ValidationError

from isthmus.errors import BadMessage, JobError
from isthmus.fedrec import engine
from isthmus.fedrec.algorithms import algorithm
from isthmus.fedrec.algorithms._one_round import OneRound
from isthmus.fedrec.algorithms.fedca_sketched import SketchedFedCA
from isthmus.fedrec.algorithms.ordered_pairs import OrderedPairs
from isthmus.fedrec.copied_tables import CopiedTables
from isthmus.fedrec.devices.abilities import (
    check_defences,
    check_least_noise,
    check_masked,
    check_method,
    check_noise,
    check_sums_only,
    noise_on_sum,
)
from isthmus.fedrec.devices.copied_here import CopiedHere
from isthmus.fedrec.devices.giving import Giving
from isthmus.fedrec.devices.grouped_here import GroupedHere
from isthmus.fedrec.devices.keeping import Keeper, Kept
from isthmus.fedrec.devices.learned import take_learned
from isthmus.fedrec.devices.masking import Masker, packed, unpacked
from isthmus.fedrec.devices.own_tables_here import OwnTablesHere
from isthmus.fedrec.devices.parts import Part
from isthmus.fedrec.devices.summing import Summand
from isthmus.fedrec.devices.wire import (
    MESSAGE,
    Answer,
    Array,
    Arrays,
    Ask,
    Order,
    Shard,
    numbers,
    pack_uploads,
    places_of,
)
from isthmus.fedrec.evaluate import counted, ranks
from isthmus.fedrec.method import Arrays as State
from isthmus.fedrec.method import Method, Score
from isthmus.fedrec.mixed_tables import MixedTables
from isthmus.fedrec.options import recipe
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Longs
from isthmus.fedrec.privacy import Defences
from isthmus.fedrec.privacy.defences import Alike
from isthmus.fedrec.privacy.fits import check, rows_alone
from isthmus.fedrec.privacy.keyed import key_of
from isthmus.fedrec.protocols import PARTS, EvalProtocol, Exam, exams, protocol
from isthmus.fedrec.shared_table import SharedTable, loss_units
from isthmus.fedrec.task import Task
from isthmus.fedrec.uploads import Uploads

Reply = tuple[Answer, dict[str, Array]]


@dataclass(frozen=True)
class Conduct:
    """How a shard works; what its owner decides."""

    secret: int | None = None
    """Seed of the clients' own draws (negatives, order of samples), which the server must not know:
    who knows it can tell drawn items from liked ones. None: the run's seed, which it knows."""
    threads: int = 1
    memory: int = 1 << 30
    algorithms: tuple[str, ...] = ()
    """Algorithms of one's own, `module:NAME`, that the server may ask for by their names."""
    defences: Defences | None = None
    """What is done to uploads before they leave; None: what the server asks for."""
    sums_only: bool = False
    """Take part only where shards are added up under masks."""
    least_noise: float = 0.0
    """Take part only where the noise on their sum is as many clips or more; 0: without, too."""
    noise_key: bytes | None = field(default=None, repr=False)
    """Of noise on what single clients send, see `privacy.keyed`; None: from `secret`, if any."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_noise < math.inf:
            raise JobError("least_noise must be a number of at least 0")
        if self.least_noise and self.defences:
            raise JobError(
                "shards whose sum has noise are all asked alike for clips and shares of it",
                mend="Leave --least-noise out, or --clip, --noise and --pseudo-items.",
            )

    def own(self, task: Task) -> Task:
        """The task as clients draw: by seed and key of the shard's own, unless it has none."""
        if self.secret is None:
            return task
        key = self.noise_key or key_of(self.secret.to_bytes(8, "big"))
        return replace(task, seed=self.secret, noise_key=key)


class Worker:
    """The clients of `part` under one order.

    Raises:
        JobError: the algorithm is not known here, or cannot run on devices.
    """

    def __init__(self, part: Part, order: Order, conduct: Conduct, keeper: Keeper) -> None:
        if ":" in order.algorithm:
            # The name of a module: whoever sends it would choose what is imported here.
            raise JobError(f"the server asks for {order.algorithm!r}, which is not one of ours")
        own = {algorithm(one).name: one for one in conduct.algorithms}
        memory = min(conduct.memory, MESSAGE)
        self.part, self.order = part, order
        plain = part.task(threads=conduct.threads, memory=memory)
        asked = _defences(order)
        own_wish = conduct.defences is not None and conduct.defences.secure_sum
        if (conduct.sums_only or own_wish) and not asked.secure_sum:
            raise JobError(
                "the server would see each client's rows, and this shard gives sums alone",
                mend="Let the server be started with --secure-sum, or join without --sums-only.",
            )
        self._masked = asked.secure_sum
        if asked.discrete and conduct.defences is not None:
            raise JobError(
                "the server asks all shards alike for clips, and for their shares of the noise",
                mend="Leave --clip, --noise and --pseudo-items of join out.",
            )
        # Masks come after all guards, and noise of a shard's own stays a guard under them.
        own_noise = 0.0 if asked.discrete else (conduct.defences or asked).noise
        defences = replace(
            conduct.defences or asked, secure_sum=False, discrete=False, noise=own_noise
        )
        self._asked = asked
        self.task = self._protected(defences, plain)
        chosen = recipe(own.get(order.algorithm, order.algorithm), order.backbone, order.values)
        self.method = check_method(chosen.build(self.task), chosen.algorithm)
        check(chosen.algorithm, self.method)
        if self._masked:
            check_masked(chosen.algorithm, self.method)
        if asked.discrete:
            rows_alone(chosen.algorithm, self.method)
        check_noise(self.method, masked=self._masked)
        check_least_noise(self.method, asked, conduct.least_noise)
        if conduct.sums_only:
            check_sums_only(self.method)
        _see_times(part, self.method)
        # All that clients draw; parameters and candidates are drawn alike everywhere.
        self._drawing = self._protected(defences, conduct.own(plain))
        self._tables: OwnTablesHere | CopiedHere | GroupedHere | None = None
        if isinstance(self.method, MixedTables):
            self._tables = OwnTablesHere(self.method, self._drawing, part.clients)
        elif isinstance(self.method, CopiedTables):
            self._tables = CopiedHere(self.method, self._drawing, part.clients)
        elif isinstance(self.method, SketchedFedCA):
            self._tables = GroupedHere(self.method, self._drawing, part.clients)
        self._keeper = keeper
        self._summand: tuple[int, Masker | None] = (0, None)
        self._sent: tuple[int, list[Uploads]] = (0, [])
        groups = self._tables if isinstance(self._tables, GroupedHere) else None
        self._giving = Giving(self.method, part, groups, masked=self._masked)
        self._judge = _Judge(self.task, [protocol(name) for name in order.protocols])
        found = keeper.find(order)
        self.begun_at = found.number if found else 0
        if found is not None:
            self._restore(found)

    @property
    def shown(self) -> str:
        """Whether the server has masks, and noise on their sum, for the shard's owner to read."""
        noise = noise_on_sum(self.method, self._asked)
        masks = "under masks" if self._masked else "without masks"
        return f"{masks}, with noise of {noise:g} clips on the sum" if noise else masks

    def _protected(self, defences: Defences, task: Task) -> Task:
        task = defences.protect(task)
        # A weight would scale what the clip has bounded.
        return replace(task, guards=(*task.guards, Alike())) if self._asked.discrete else task

    def answer(self, ask: Ask, arrays: Arrays) -> Iterator[Reply]:
        """Do what is asked; what is to be sent, in one message or several.

        Raises:
            BadMessage: the server asks for what cannot be.
            NotFinite: training diverged.
        """
        if ask.kind == "train" and self._tables is not None:
            yield from self._tables.train(ask, arrays)
        elif ask.kind == "train":
            yield from self._train(ask, arrays)
        elif ask.kind == "mix":
            yield self._mixed(ask, arrays)
        elif ask.kind == "sketch":
            yield self._sketched(ask, arrays)
        elif ask.kind == "judge":
            yield self._judged(ask, arrays)
        elif ask.kind == "sum":
            yield self._summed(ask, arrays)
        elif ask.kind == "try":
            found = self._giving.tried(ask, arrays)
            yield Answer(kind="try", number=ask.number, last=True), found
        else:
            masker = self._giving.masker(ask, arrays) if self._masked else None
            self._summand = ask.number, masker
            found = packed(masker.join()) if masker else self._giving.plain(ask, arrays)
            yield Answer(kind="total", number=ask.number, last=True), found

    def _train(self, ask: Ask, arrays: Arrays) -> Iterator[Reply]:
        method = self._shared_table()
        shard = self._shard(method)
        work, places = shard.work(arrays, method.work(ask.number)), shard.places(arrays)
        self._take_vectors(method, arrays, places)
        self._sent = ask.number, []
        units, judged = 0, self._judge.nothing() if ask.judge else {}
        asked = self._asked
        noise = asked.noise if asked.discrete else 0.0
        summand = Summand(work.tables, asked.clip, noise) if self._masked else None
        for chunk in engine.train(self._drawing, method.model, work, places):
            for some, score in method.as_trained(work, chunk) if ask.judge else ():
                judged = added(judged, self._judge.counts(some, score))
            units += loss_units(chunk.loss)
            sent = self._drawing.guarded(chunk, ask.number)
            if method.keeps_trained:
                self._sent[1].append(sent)
            if summand is not None:
                summand.add(sent)
                continue
            named = replace(sent, clients=self.part.clients[sent.clients])
            found = pack_uploads(named, vectors=method.sends_vectors)
            yield Answer(kind="train", number=ask.number, last=False), found
        if ask.keep:
            self._keep(private(method), ask.number)
        if summand is not None:
            self._summand = ask.number, summand
            judged |= packed(summand.join())
            judged["clients"] = self.part.clients[np.concatenate([places[:0], *summand.clients])]
        yield Answer(kind="train", number=ask.number, last=True, loss=units), judged

    def _mixed(self, ask: Ask, arrays: Arrays) -> Reply:
        if self._tables is None:
            raise BadMessage("the server mixes tables, and clients here have none of their own")
        self._tables.take(ask, arrays)
        if ask.keep:
            self._keep(private(self.method), ask.number)
        return Answer(kind="mix", number=ask.number, last=True), {}

    def _sketched(self, ask: Ask, arrays: Arrays) -> Reply:
        if not isinstance(self._tables, GroupedHere):
            raise BadMessage("the server asks for sketches, and there are none")
        found = self._tables.sketches(ask, arrays)
        return Answer(kind="sketch", number=ask.number, last=True), found

    def _summed(self, ask: Ask, arrays: Arrays) -> Reply:
        number, summand = self._summand
        if summand is None or number != ask.number:
            raise BadMessage("the server asks for a sum of a round that was not trained")
        found = packed(summand.answer(ask.what, unpacked(arrays)))
        return Answer(kind="sum", number=ask.number, last=True), found

    def _judged(self, ask: Ask, arrays: Arrays) -> Reply:
        method = self.method
        if isinstance(method, OwnTables):
            places = places_of(self.part.clients, arrays)
            found = self._judge.counts(places, method.score)
        elif isinstance(method, SharedTable):
            shard = self._shard(method)
            scoring, places = shard.scoring(arrays, method.scoring()), shard.places(arrays)
            self._take_vectors(method, arrays, places)
            number, sent = self._sent
            told = replace(scoring, trained=sent if number == ask.number else ())
            found = self._judge.counts(places, partial(method.scored, told))
        else:
            assert isinstance(method, OneRound)
            places = places_of(self.part.clients, arrays)
            take_learned(method, arrays)
            found = self._judge.counts(places, method.score)
        return Answer(kind="judge", number=ask.number, last=True), found

    def _take_vectors(self, method: SharedTable, arrays: Arrays, places: Longs) -> None:
        if method.moves_vectors:
            shape = (len(places), method.model.sizes.user)
            method.user[places] = numbers(arrays, "user", shape)

    def _shared_table(self) -> SharedTable:
        if not isinstance(self.method, SharedTable):
            raise BadMessage("the server asks to train what is not trained on devices")
        return self.method

    def _shard(self, method: SharedTable) -> Shard:
        return Shard(self.part.clients, self.part.census.items, method.model.sizes)

    def _keep(self, arrays: State, number: int) -> None:
        self._keeper.put(Kept(self.order.mark, self.order.start, number, arrays))

    def _restore(self, found: Kept) -> None:
        mine = private(self.method)
        if mine:
            _fitting(found.arrays, mine)
            kept = {name: one.copy() for name, one in found.arrays.items()}
            self.method.restore(self.method.state() | kept)


def private(method: Method) -> State:
    """What of the state is the clients' own."""
    state = method.state()
    if isinstance(method, MixedTables):
        return state
    names: tuple[str, ...] = ()
    if isinstance(method, SharedTable):
        names = ("user", "own")
    elif isinstance(method, (CopiedTables, SketchedFedCA)):
        names = method.PRIVATE
    return {name: state[name] for name in names}


def _fitting(found: State, wanted: State) -> None:
    shapes = {name: one.shape for name, one in wanted.items()}
    if {name: one.shape for name, one in found.items()} != shapes:
        raise JobError(
            "the kept state is of other clients", mend="Give each part a folder of its own."
        )


def _see_times(part: Part, method: Method) -> None:
    """All must hold alike whether there is an order: it decides what is added up."""
    timed = part.turn is not None
    if isinstance(method, OrderedPairs) and timed != part.census.timed:
        raise JobError(
            f"this part has {'times' if timed else 'no times'}, unlike what the census says",
            mend='Make it anew, after "timed" in the census says the same for all.',
        )


def _defences(order: Order) -> Defences:
    try:
        found: Defences = TypeAdapter(Defences).validate_python(order.defences)
    except ValidationError as error:
        raise BadMessage("the server asks for defences that are none") from error
    check_defences(found)
    if found.secure_sum and found.noise and not found.discrete:
        raise BadMessage("the server asks for noise on the sum that is not drawn in shares")
    return found


class _Judge:
    """Ranks of the shard's clients, told as counts."""

    def __init__(self, task: Task, rules: list[EvalProtocol]) -> None:
        self._task = task
        self._exams: dict[str, tuple[EvalProtocol, Exam]] = {}
        for one in rules:
            found = exams(one, task.population, task.seed, task.identity)
            self._exams |= {f"{one.name}.{part}": (one, found[part]) for part in PARTS}

    def nothing(self) -> dict[str, Array]:
        """The counts of no client."""
        return {key: counted(np.zeros(0, np.int64)) for key in self._exams}

    def counts(self, clients: Longs, score: Score) -> dict[str, Array]:
        """How many of these clients have which rank: what goes up."""
        if not len(clients):
            return self.nothing()
        return {
            key: counted(ranks(self._task, rules, exam, clients, score))
            for key, (rules, exam) in self._exams.items()
        }


def added(one: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
    """The sums of two sets of counts."""
    return {key: counts + other[key] for key, counts in one.items()}
