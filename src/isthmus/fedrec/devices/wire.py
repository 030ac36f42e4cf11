"""What goes between server and shards: names of arrays, and every check on what came.

Both sides feed compiled code, which looks at no bounds: nothing reaches it unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.errors import BadMessage
from isthmus.fedrec.devices.parts import Census, ascending, sorted_lists
from isthmus.fedrec.engine import Work
from isthmus.fedrec.evaluate import CUTS
from isthmus.fedrec.kernels.arrays import Sizes
from isthmus.fedrec.population import Floats, Ints, Longs
from isthmus.fedrec.shared_table import Scoring
from isthmus.fedrec.uploads import Reference, Tables, Uploads

DOWN, UP = "down", "up"
"""The topics."""
VERSION = 3
LARGEST = 1e6
"""The largest number that a row or network may hold; training that is sound stays far below."""
MESSAGE = 32 << 20
"""Bytes that one message up should have at most, where it can be cut."""
MESSAGE_LIMIT = 1000 << 20
"""Bytes that a message can have; a link takes 1 GiB."""
_LOSS = 1 << 43
"""The most that a client can add to the sum of losses: 2^18 in units of 2^-24, doubled."""

T = TypeVar("T", bound=BaseModel)
Array = NDArray[Any]
Arrays = Mapping[str, Array]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Joining(_Strict):
    """A shard's first words; beside it the array `clients`."""

    kind: Literal["join"] = "join"
    version: int = VERSION
    census: Census
    knows: str = Field(default="", max_length=64)
    """The start of the server that it last heard, see `Order.start`."""


class Order(_Strict):
    """What is to be trained; the server's answer to `Joining`."""

    kind: Literal["order"] = "order"
    algorithm: str = Field(max_length=100)
    backbone: str | None = Field(max_length=100)
    values: dict[str, float | int | str | bool | None]
    """The recipe's numbers."""
    protocols: list[str] = Field(min_length=1, max_length=10)
    defences: dict[str, float | int | bool] = {}
    """What shards do to uploads unless their owners say otherwise, see `privacy.Defences`."""
    mark: str = Field(max_length=64)
    """Of all that the run's result depends on."""
    start: str = Field(max_length=64)
    """Random, one each time that the server starts."""
    done: int = Field(ge=0)
    """Rounds that the server has behind it."""


class Ask(_Strict):
    """What the shard is to do in a round; arrays beside it."""

    kind: Literal["train", "judge", "total", "try", "sum", "mix", "sketch"]
    number: int = Field(ge=0)
    """The round."""
    judge: bool = False
    """`train`: judge the clients with what they have just trained, in the last message."""
    keep: bool = False
    """`train`, or `mix` where tables are mixed: keep the clients' state after this round, the
    server does so too."""
    what: str = Field(default="", max_length=100)
    """`total`: which sum; `sum`: which step of a secure sum; `try`: the candidate's number."""


class Answer(_Strict):
    """The shard's answer to the `Ask` of round `number`, in one message or several."""

    kind: Literal["train", "judge", "total", "try", "sum", "mix", "sketch"]
    number: int = Field(ge=0)
    last: bool
    loss: int = 0
    """`train`: the sum of the clients' losses in units of 2^-24, in the last message."""


class Refused(_Strict):
    """The shard has no place in the run; in words that its owner may read."""

    kind: Literal["refused"] = "refused"
    reason: str = Field(max_length=500)


class Over(_Strict):
    """The run is done."""

    kind: Literal["over"] = "over"


def read(kind: type[T], header: Mapping[str, Any], who: str) -> T:
    """A header as a `kind`.

    Raises:
        BadMessage: it is not one.
    """
    try:
        return kind.model_validate(dict(header))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(one) for one in first["loc"])
        raise BadMessage(f"{who} sent a header whose {where or 'form'} is wrong") from error


def taken(arrays: Arrays, name: str, kind: type[np.generic], shape: tuple[int, ...]) -> Any:
    """The array `name`, of this kind and shape; -1 stands for any length.

    Raises:
        BadMessage: it is missing or another.
    """
    found = arrays.get(name)
    if found is None:
        raise BadMessage(f"the array {name} is missing")
    fits = found.ndim == len(shape) and all(
        wanted in (-1, length) for wanted, length in zip(shape, found.shape, strict=True)
    )
    if found.dtype != kind or not fits:
        wanted = ", ".join("any" if one < 0 else str(one) for one in shape)
        raise BadMessage(
            f"{name} is {found.dtype} {list(found.shape)}, not {np.dtype(kind)} [{wanted}]"
        )
    return found


COUNTS = 2.0**24
"""The largest count that float32 holds exactly."""


def numbers(arrays: Arrays, name: str, shape: tuple[int, ...], largest: float = LARGEST) -> Floats:
    """A float32 array of numbers that are finite and not huge. Raises BadMessage."""
    found: Floats = taken(arrays, name, np.float32, shape)
    # NaN is not below anything.
    if found.size and not float(np.abs(found).max()) <= largest:
        raise BadMessage(f"{name} holds NaN, infinity or a number above {largest:g}")
    return found


def pack_work(work: Work, clients: Longs) -> dict[str, Array]:
    """What these clients need of a round's work; the shard has their private state itself."""
    out: dict[str, Array] = {"clients": clients, **pack_tables("tables", work.tables, clients)}
    out["extra"] = work.extra
    if work.reference is not None:
        one = work.reference
        out |= pack_tables("reference", one.tables, clients)
        out |= {"keep": one.keep[clients], "to": one.to[clients]}
    return out


def pack_scoring(scoring: Scoring, clients: Longs) -> dict[str, Array]:
    """What these clients need to be judged after a round."""
    out = pack_work(replace(scoring.work, reference=None), clients)
    for name, tables in scoring.beside.items():
        out |= pack_tables(name, tables, clients)
    return out


def pack_tables(name: str, tables: Tables, clients: Longs) -> dict[str, Array]:
    """What these clients need of tables."""
    needed, of = np.unique(tables.of[clients], return_inverse=True)
    every = len(needed) == len(tables.items)
    return {
        f"{name}.items": tables.items if every else tables.items[needed],
        f"{name}.network": tables.network if every else tables.network[needed],
        f"{name}.of": of.astype(np.int64),
    }


def places_of(own: Longs, arrays: Arrays) -> Longs:
    """Where the clients named in `arrays` stand among `own`, ascending.

    Raises:
        BadMessage: they are not of these, or not ascending.
    """
    found: Longs = taken(arrays, "clients", np.int64, (-1,))
    if not ascending(found, int(own[-1]) + 1):
        raise BadMessage("clients are not ascending numbers of clients")
    places = np.searchsorted(own, found)
    if len(found) and not np.array_equal(own[places], found):
        raise BadMessage("clients are not all of this shard")
    return np.asarray(places, np.int64)


@dataclass(frozen=True, eq=False)
class Shard:
    """What a shard is, to both sides, for the checks."""

    clients: Longs
    """int64 [n], ascending."""
    items: int
    sizes: Sizes
    vectors: bool = False
    """Whether users' vectors are sent, see `SharedTable.sends_vectors`."""

    def places(self, arrays: Arrays) -> Longs:
        """Where the clients named in `arrays` stand in the shard. Raises BadMessage."""
        return places_of(self.clients, arrays)

    def work(self, arrays: Arrays, like: Work) -> Work:
        """The round's work for the shard's clients, in the numbering of the shard.

        Args:
            arrays: what `pack_work` made.
            like: the shard's own work, whose private state is taken, and whose form tells what
                the algorithm may send.

        Raises:
            BadMessage: an array is missing, of another shape, or out of range.
        """
        places = self.places(arrays)
        extra = numbers(arrays, "extra", like.extra.shape)
        tables = self.tables(arrays, "tables", places)
        reference = None
        if like.reference is not None:
            some = (len(places),)
            keep, to = (np.zeros(len(self.clients), np.float32) for _ in range(2))
            keep[places], to[places] = numbers(arrays, "keep", some), numbers(arrays, "to", some)
            reference = Reference(self.tables(arrays, "reference", places), keep, to)
        return replace(like, tables=tables, reference=reference, extra=np.array(extra))

    def scoring(self, arrays: Arrays, like: Scoring) -> Scoring:
        """What the shard's clients are judged with, as `work`. Raises BadMessage."""
        work, places = self.work(arrays, replace(like.work, reference=None)), self.places(arrays)
        return Scoring(work, {name: self.tables(arrays, name, places) for name in like.beside})

    def tables(self, arrays: Arrays, name: str, places: Longs) -> Tables:
        """What `pack_tables` made, for clients at these places. Raises BadMessage."""
        items = numbers(arrays, f"{name}.items", (-1, self.items, self.sizes.shared))
        network = numbers(arrays, f"{name}.network", (len(items), self.sizes.network))
        of: Longs = taken(arrays, f"{name}.of", np.int64, (len(places),))
        if len(of) and (of.min() < 0 or of.max() >= len(items)):
            raise BadMessage(f"{name}.of points beyond the tables")
        where = np.zeros(len(self.clients), np.int64)
        where[places] = of
        # Copies: what came over a link is read-only and not aligned for compiled code.
        return Tables(np.array(items), np.array(network), where)

    def uploads(self, arrays: Arrays, asked: Longs, after: int, starts: Tables) -> Uploads:
        """A chunk that the shard sends up.

        Args:
            arrays: what `pack_uploads` made.
            asked: the clients of the shard that were to train.
            after: the last client that it has sent already, -1 at first.
            starts: what they began from.

        Raises:
            BadMessage: it is not what clients of this shard could have trained.
        """
        self.places(arrays)
        clients: Longs = arrays["clients"]
        if len(clients) and (clients[0] <= after or not np.isin(clients, asked).all()):
            raise BadMessage("clients were not asked to train in this round, or come twice")
        count = len(clients)
        indptr: Longs = taken(arrays, "indptr", np.int64, (count + 1,))
        items: Ints = taken(arrays, "items", np.int32, (-1,))
        if indptr[0] != 0 or indptr[-1] != len(items) or (np.diff(indptr) < 0).any():
            raise BadMessage("indptr does not divide the items among the clients")
        if not sorted_lists(indptr, items, self.items):
            raise BadMessage("the items of a client are out of range or not ascending")
        weight = taken(arrays, "weight", np.float64, (count,))
        if not ((weight >= 0) & (weight <= self.items)).all():
            raise BadMessage("a client's number of training items is impossible")
        rows = numbers(arrays, "rows", (len(items), self.sizes.shared))
        network = numbers(arrays, "network", (count, self.sizes.network))
        user = np.zeros((count, 0), np.float32)
        if self.vectors:
            user = np.array(numbers(arrays, "user", (count, self.sizes.user)))
        return Uploads(
            np.array(clients), np.array(indptr), np.array(items), np.array(rows),
            np.array(network), np.array(weight), starts, user, np.zeros(0, np.int32),
            np.zeros(0, np.float32),
        )  # fmt: skip

    def nothing(self, clients: Longs, starts: Tables) -> Uploads:
        """Uploads of clients whose rows are not seen."""
        count = len(clients)
        empty = np.zeros((count, 0), np.float32)
        return Uploads(
            clients, np.zeros(count + 1, np.int64), np.zeros(0, np.int32),
            np.zeros((0, self.sizes.shared), np.float32), empty, np.zeros(count), starts, empty,
            np.zeros(0, np.int32), np.zeros(0, np.float32),
        )  # fmt: skip


def pack_uploads(chunk: Uploads, *, vectors: bool = False) -> dict[str, Array]:
    """What leaves the shard: never `counts` or `loss`, and `user` with `vectors` alone."""
    names = ["clients", "indptr", "items", "rows", "network", "weight"]
    return {name: getattr(chunk, name) for name in [*names, *(["user"] if vectors else [])]}


def check_loss(units: int, clients: int) -> int:
    """A sum of losses of so many clients. Raises BadMessage."""
    if abs(units) > clients * _LOSS:
        raise BadMessage("the sum of losses is impossible")
    return units


def check_counts(arrays: Arrays, name: str, clients: int) -> Longs:
    """Counts of ranks of at most so many clients, see `evaluate.counted`. Raises BadMessage."""
    found: Longs = taken(arrays, name, np.int64, (CUTS[-1] + 1,))
    if (found < 0).any() or not found[:-1].sum() <= found[-1] <= clients:
        raise BadMessage(f"{name} are no counts of ranks")
    return found


def joined(chunks: list[Uploads]) -> Uploads | None:
    """The chunks of several shards as one, clients ascending; None of nothing."""
    full = [one for one in chunks if len(one.clients)]
    if not full:
        return None
    clients = np.concatenate([one.clients for one in full])
    order = np.argsort(clients)
    counts = np.concatenate([np.diff(one.indptr) for one in full])
    begin = np.cumsum(counts) - counts
    wanted = counts[order]
    at = np.cumsum(wanted) - wanted
    rows = np.arange(wanted.sum()) + np.repeat(begin[order] - at, wanted)
    indptr = np.append(at, wanted.sum()).astype(np.int64)
    return replace(
        full[0],
        clients=clients[order],
        indptr=indptr,
        items=np.concatenate([one.items for one in full])[rows],
        rows=np.concatenate([one.rows for one in full])[rows],
        network=np.concatenate([one.network for one in full])[order],
        weight=np.concatenate([one.weight for one in full])[order],
        user=np.concatenate([one.user for one in full])[order],
    )
