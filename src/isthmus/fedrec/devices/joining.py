"""A shard's process: dials the server, does what it asks, dials again where the line is lost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.errors import (
    BadMessage,
    JobError,
    PartnerFailed,
    PartnerGone,
    PartnerSlow,
)
from isthmus.fedrec.devices.crew import Say
from isthmus.fedrec.devices.gate import CONTEXT
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.parcels import Unpacker
from isthmus.fedrec.devices.parts import Part
from isthmus.fedrec.devices.wire import DOWN, UP, Array, Ask, Joining, Order, Refused, read
from isthmus.fedrec.devices.worker import Conduct, Worker
from isthmus.fedrec.privacy.keyed import key_of
from isthmus.link import Deadlines, Header, Identity, Link, open_links


@dataclass(frozen=True)
class Line:
    """Where the server is, and who we are to it."""

    folder: Path
    """The shard's identity folder."""
    me: str
    server: str
    """The server's name; its certificate is trusted in `folder`."""
    address: str
    """`host:port`"""
    wait: float = 600.0
    """Seconds to wait for the server, at first and each time that it is gone."""
    reconnect: float = 10.0
    """Seconds that a broken line may take to come back."""


def own_seed(identity: Identity) -> int:
    """A seed of the shard's own, from the secret that never leaves it."""
    found = hashlib.blake2b(identity.secret, key=b"isthmus fedrec draws", digest_size=8)
    return int.from_bytes(found.digest(), "big") >> 2


def own_noise_key(identity: Identity) -> bytes:
    """The shard's own key of noise; not from the seed, as draws of that seed are seen."""
    return key_of(identity.secret)


def join(
    part: Part,
    line: Line,
    conduct: Conduct | None = None,
    *,
    folder: Path | None = None,
    say: Say = lambda text: None,
) -> None:
    """Stand for the clients of `part` until the server says that the run is over.

    Args:
        part: the clients and their interactions.
        line: the server and our identity.
        conduct: how to work.
        folder: where the clients' state is kept, so that a killed shard goes on; None: nowhere.
        say: told in sentences what happens.

    Raises:
        JobError: the server refuses this shard, or asks for what this side cannot do.
        PartnerAbsent: the server did not come (back) in time.
        LinkError, IdentityError: see `open_links`.
    """
    going = _Joined(part, line, conduct or Conduct(), Keeper(folder), say)
    deadlines = Deadlines(connect=line.wait, recv=line.wait, reconnect=line.reconnect)
    while True:
        link = open_links(
            line.folder, line.me, {line.server: line.address}, context=CONTEXT,
            deadlines=deadlines, on_wait=say,
        )[line.server]  # fmt: skip
        try:
            with link:
                going.visit(link)
                say("the run is over")
                return
        except (PartnerGone, PartnerFailed) as error:
            say(f"{error.message}; dialling again")


@dataclass(eq=False)
class _Joined:
    part: Part
    line: Line
    conduct: Conduct
    keeper: Keeper
    say: Say
    worker: Worker | None = field(default=None)

    def visit(self, link: Link) -> None:
        """From the first words until the run is over."""
        start = self.worker.order.start if self.worker else self.keeper.last_start
        words = Joining(census=self.part.census, knows=start)
        link.send(UP, {"clients": self.part.clients}, words.model_dump(mode="json"))
        unpacker = Unpacker()
        while True:
            try:
                message = link.recv(DOWN)
            except PartnerSlow:
                continue  # it waits for others
            header, arrays = unpacker.unpack(message.header, message.tensors)
            if header.get("kind") == "over":
                return
            try:
                self._heed(link, header, arrays)
            except (ArithmeticError, MemoryError) as error:
                raise JobError(
                    f"what {self.line.server} asks for takes more memory than there is, or cannot "
                    "be worked out",
                    mend="See to the algorithm's numbers at the server, or take fewer clients.",
                ) from error

    def _heed(self, link: Link, header: Header, arrays: dict[str, Array]) -> None:
        match header.get("kind"):
            case "order":
                self._begin(read(Order, header, self.line.server))
            case "refused":
                reason = read(Refused, header, self.line.server).reason
                raise JobError(f"{self.line.server} refuses this shard: {reason}")
            case _:
                self._answer(link, read(Ask, header, self.line.server), arrays)

    def _begin(self, order: Order) -> None:
        known = self.worker
        if known is not None and known.order.start == order.start:
            return  # the line was lost, but neither side: go on with what we have
        self.worker = Worker(self.part, order, self.conduct, self.keeper)
        where = f" from round {self.worker.begun_at}" if self.worker.begun_at else ""
        count, shown = len(self.part.clients), self.worker.shown
        self.say(f"{order.algorithm}: {count} clients take part{where}, {shown}")

    def _answer(self, link: Link, ask: Ask, arrays: dict[str, Array]) -> None:
        if self.worker is None:
            raise BadMessage(f"{self.line.server} asks before it has said what for")
        for answer, found in self.worker.answer(ask, arrays):
            link.send(UP, found, answer.model_dump())
