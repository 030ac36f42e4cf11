"""A SuperNode's part: trains and judges the clients of its own part file, as the server asks.

Of the node's configuration: `part`, the file of its clients; `keep`, a folder for their state,
which must outlast a message, since Flower may start a process for each.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from isthmus.errors import JobError
from isthmus.fedrec.devices import Conduct, Part
from isthmus.fedrec.devices.keeping import Keeper
from isthmus.fedrec.devices.wire import Ask, Joining, Order, read
from isthmus.fedrec.devices.worker import Worker
from isthmus.files import write_text
from isthmus_flower.envelope import opened, part, record, sealed

app = ClientApp()


@app.query()
def join(message: Message, context: Context) -> Message:
    """Say whose clients are here."""
    mine = Part.load(_path(context, "part"))
    words = sealed(Joining(census=mine.census), {"clients": mine.clients})
    return Message(record(words=words), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Do what is asked."""
    mine, keep = Part.load(_path(context, "part")), _path(context, "keep")
    order = read(Order, opened(part(message.content, "order")).header, "the server")
    asked = opened(part(message.content, "ask"))
    seed = None if context.run_config["reproducible"] else own_seed(keep)
    worker = Worker(mine, order, Conduct(seed), Keeper(keep))
    answers = worker.answer(read(Ask, asked.header, "the server"), asked.tensors)
    words = [sealed(answer, arrays) for answer, arrays in answers]
    return Message(record(answers=words), reply_to=message)


def own_seed(folder: Path) -> int:
    """A secret seed of this node's, made once."""
    path = folder / "draws.seed"
    if not path.exists():
        write_text(path, str(secrets.randbits(62)))
        path.chmod(0o600)
    return int(path.read_text())


def _path(context: Context, name: str) -> Path:
    if name not in context.node_config:
        raise JobError(
            f"the node's configuration has no {name}",
            mend=f'Start the SuperNode with --node-config \'part="..." keep="..."\', {name} too.',
        )
    return Path(str(context.node_config[name]))
