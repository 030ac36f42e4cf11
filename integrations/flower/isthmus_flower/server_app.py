"""The ServerApp: a plan of Isthmus, whose rounds Flower carries to the SuperNodes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import INFO
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, MessageType
from flwr.common import log
from flwr.serverapp import Grid, ServerApp

from isthmus.errors import BadMessage, JobError, PartnerAbsent
from isthmus.fedrec import RunOptions, protocol, recipe
from isthmus.fedrec.devices import Census, Plan
from isthmus.fedrec.devices.carrier import Request
from isthmus.fedrec.devices.crew import Crew
from isthmus.fedrec.devices.parts import ascending
from isthmus.fedrec.devices.serving import Served, device_run, order_of
from isthmus.fedrec.devices.wire import Answer, Joining, Order, read, taken
from isthmus.fedrec.options import parse_sets
from isthmus.fedrec.own_tables import OwnTables
from isthmus.fedrec.population import Longs
from isthmus.fedrec.shared_table import SharedTable
from isthmus.files import write_json
from isthmus_flower.envelope import opened, part, record, sealed

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the plan of the run's configuration; the result goes to its `out`."""
    config: Mapping[str, Any] = context.run_config
    census = Census.load(Path(config["census"]))
    folder = Path(config["out"])
    options = RunOptions(census.seed, int(config["rounds"]), folder=folder)
    names = ("authors",) if census.leaks else ("honest-sampled", "full-ranking")
    chosen = recipe(
        config["algorithm"], config["backbone"] or None, parse_sets(config["sets"].split())
    )
    plan = Plan(census, chosen, tuple(protocol(one) for one in names), options)
    carrier = FlowerCarrier(grid, census, float(config["deadline"]))
    carrier.find_nodes(int(config["nodes"]))
    # Nodes keep their clients' state after each round: a process there lives for one message.
    crew = Crew(carrier, census, plan.protocols, int(config["min-clients"]), keep_every=1)
    run = device_run(plan, crew)
    kept = isinstance(run.method, SharedTable) and run.method.keeps_trained
    if isinstance(run.method, OwnTables) or kept:
        # Between training and what is made of tables they would have to outlive the node's process.
        raise JobError(
            f"{chosen.algorithm.name} does not run under Flower",
            mend="Take one without tables of each client's own, or `isthmus fedrec serve`.",
        )
    carrier.order = order_of(plan, run, secrets.token_hex(16))
    result = run.go(lambda result: log(INFO, "round %d is judged", result.rounds[-1].number))
    served = Served(result, crew.notes, carrier.refused, {})
    write_json(folder / "devices.json", served.to_json())


@dataclass(eq=False)
class FlowerCarrier:
    """Isthmus' `Carrier` over Flower's grid."""

    grid: Grid
    census: Census
    deadline: float
    order: Order | None = None
    clients: dict[str, Longs] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def find_nodes(self, wanted: int, wait: float = 600.0) -> None:
        """Wait for so many SuperNodes and ask whose clients they have.

        Raises:
            PartnerAbsent: they did not come.
        """
        end = time.monotonic() + wait
        while len(nodes := list(self.grid.get_node_ids())) < wanted:
            if time.monotonic() > end:
                raise PartnerAbsent(f"{len(nodes)} of {wanted} SuperNodes came")
            time.sleep(0.2)
        asked = [Message(record(), node, MessageType.QUERY) for node in nodes]
        for reply in self.grid.send_and_receive(asked, timeout=wait):
            name = str(reply.metadata.src_node_id)
            try:
                self._admit(name, reply)
            except BadMessage as error:
                self.refused[name] = error.message

    def _admit(self, name: str, reply: Message) -> None:
        if reply.has_error():
            raise BadMessage(f"it failed: {reply.error.reason}")
        words = opened(part(reply.content, "words"))
        joining = read(Joining, words.header, name)
        clients = np.array(taken(words.tensors, "clients", np.int64, (-1,)))
        if joining.census != self.census:
            raise BadMessage("its part is of another population, seed or protocol")
        if not len(clients) or not ascending(clients, self.census.clients):
            raise BadMessage("its clients are not ascending numbers of clients")
        if any(np.isin(clients, other).any() for other in self.clients.values()):
            raise BadMessage("it stands for clients of another node")
        self.clients[name] = clients

    def present(self) -> dict[str, Longs]:
        """See `Carrier.present`."""
        alive = {str(node) for node in self.grid.get_node_ids()}
        known = self.clients.items()
        return {name: own for name, own in known if name in alive and name not in self.refused}

    def ask(self, requests: Mapping[str, Request]) -> dict[str, str]:
        """See `Carrier.ask`."""
        assert self.order is not None
        order = sealed(self.order, {})
        messages = [
            Message(
                record(order=order, ask=sealed(request.ask, request.arrays)),
                int(name),
                MessageType.TRAIN,
            )
            for name, request in requests.items()
        ]
        left_out = dict.fromkeys(requests, f"had not answered after {self.deadline:g} s")
        for reply in self.grid.send_and_receive(messages, timeout=self.deadline):
            name = str(reply.metadata.src_node_id)
            if name not in left_out:
                continue
            try:
                _take(reply, requests[name])
                del left_out[name]
            except BadMessage as error:
                left_out[name] = self.refused[name] = f"was refused: {error.message}"
            except NodeFailed as error:
                left_out[name] = str(error)
        return left_out


class NodeFailed(Exception):
    """A node's app raised an error."""


def _take(reply: Message, request: Request) -> None:
    if reply.has_error():
        raise NodeFailed(f"failed: {reply.error.reason}")
    answers = part(reply.content, "answers")
    if not isinstance(answers, list) or not answers:
        raise BadMessage("there are no answers")
    for place, one in enumerate(answers):
        message = opened(one)
        answer = read(Answer, message.header, "the node")
        if answer.last != (place == len(answers) - 1) or answer.number != request.ask.number:
            raise BadMessage("it answered what nobody asked")
        request.collector.add(answer, message.tensors)
