"""`isthmus fedrec split`, `serve` and `join`: clients that are elsewhere, over links."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.fedrec.defences import (
    Clip,
    ClipRows,
    Delta,
    Noise,
    OwnNoise,
    PseudoItems,
    ShardSums,
)
from isthmus.cli.fedrec.run import (
    Columns,
    Data,
    Force,
    Least,
    Resume,
    protocols_of,
    say,
    say_begins,
    say_finished,
    told_in_lines,
)
from isthmus.cli.fedrec.served import show_served
from isthmus.cli.options import (
    DEFAULT_IDENTITY,
    Debug,
    Format,
    Identity,
    Output,
    Reconnect,
    Wait,
    examples,
)

if TYPE_CHECKING:
    from isthmus.fedrec import EvalProtocol
    from isthmus.fedrec.devices import Census
    from isthmus.fedrec.population import Longs

SPLIT_EXAMPLES = examples(
    "isthmus fedrec split --data ml-100k --parts 3 --out parts",
    "isthmus fedrec split --data filmtrust --parts 2 --protocol authors --out parts",
)
PART_EXAMPLES = examples(
    "isthmus fedrec part plays.csv --census census.json --catalogue items.txt --first 1200 "
    "--column user=listener --column item=song --out mine.part",
)
SERVE_EXAMPLES = examples(
    "isthmus fedrec serve --census parts/census.json --algorithm ordered-pairs --secure-sum "
    "--as hub --listen 0.0.0.0:7700",
    "isthmus fedrec serve --census parts/census.json --algorithm pfedrec --as hub "
    "--identity ~/.isthmus --listen 0.0.0.0:7700 --out runs/pfedrec",
    "isthmus fedrec serve --census parts/census.json --algorithm fedavg --as hub "
    "--listen 0.0.0.0:7700 --shard ann=0-314 --shard ben=315-628 --min-clients 300 --deadline 60",
    "isthmus fedrec serve --census parts/census.json --algorithm fedavg --as hub "
    "--listen 0.0.0.0:7700 --secure-sum --clip 1 --noise 4",
)
JOIN_EXAMPLES = examples(
    "isthmus fedrec join parts/1.part --as ann --identity ~/.isthmus "
    "--server hub=hub.example.org:7700 --keep state",
    "isthmus fedrec join parts/1.part --as ann --server hub=127.0.0.1:7700 --reproducible",
    "isthmus fedrec join parts/1.part --as ann --server hub=127.0.0.1:7700 --least-noise 4",
)

CensusFile = Annotated[
    Path,
    typer.Option(
        "--census", help="What all agree on of the population; `split` writes it.", exists=True
    ),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(help="authors, honest-sampled, full-ranking. Repeatable."),
]
Shards = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=FIRST-LAST]",
        help="Who may join, and with which clients. Repeatable; all trusted partners if unset.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change a number of the algorithm or of training."
    ),
]

SHOWN = 10
"""Parts that `split` names, besides the last."""


def split(
    data: Data,
    parts: Annotated[int, typer.Option(help="How many shards.", min=1)],
    out: Annotated[Path, typer.Option(help="Folder for the parts and their census.")],
    protocol: Protocols = None,
    seed: Annotated[int, typer.Option(help="That of the run to come.", min=0)] = 0,
    column: Columns = None,
    min_interactions: Least = None,
    debug: Debug = False,
) -> None:
    """Cut a data set into parts, each with some clients, for shards in processes of their own."""
    del debug
    from isthmus.fedrec import interactions
    from isthmus.fedrec.devices import Census, evenly
    from isthmus.fedrec.devices import split as cut
    from isthmus.fedrec.options import parse_columns

    rules = _one_ground(protocol or ["honest-sampled"])
    named = parse_columns(column or [])
    found = interactions(data, least=min_interactions, columns=named, say=say)
    _see_cut(parts, found.users, out)
    groups = evenly(found.users, parts)
    for number, part in enumerate(cut(found, rules, seed, groups), 1):
        part.save(out / f"{number}.part")
        first, last = int(part.clients[0]), int(part.clients[-1])
        if number <= SHOWN or number == parts:
            typer.echo(f"{out / f'{number}.part'}: clients {first} to {last}")
    Census.of(found, rules, seed).save(out / "census.json")
    typer.echo(f"{out / 'census.json'}: {found.users:,} clients, {found.items:,} items")


def _see_cut(parts: int, clients: int, out: Path) -> None:
    """See that each part has a client, and that none of another cut lies beside them.

    Raises:
        JobError: it is not so.
    """
    from isthmus.errors import JobError

    if parts > clients:
        raise JobError(f"--parts {parts}: the population has {clients:,} clients")
    others = {path.name for path in out.glob("*.part")} - {f"{n}.part" for n in range(1, parts + 1)}
    if others:
        raise JobError(
            f"{out} holds {min(others)} of another cut",
            mend="Name another --out, or remove what lies there.",
        )


def part(
    table: Annotated[Path, typer.Argument(help="The shard's own rows: CSV, Parquet, .inter.")],
    census: CensusFile,
    catalogue: Annotated[
        Path,
        typer.Option(
            help="The names of all items, one a line; the same for all shards.", exists=True
        ),
    ],
    first: Annotated[int, typer.Option(help="The number of the first client.", min=0)],
    out: Annotated[Path, typer.Option(help="The part, for `join`.")],
    column: Columns = None,
    min_interactions: Least = 1,
    debug: Debug = False,
) -> None:
    """Make the part of a shard from its own table, which nobody else sees."""
    del debug
    from isthmus.fedrec.devices import Census
    from isthmus.fedrec.devices.own_data import own_part, read_catalogue
    from isthmus.fedrec.options import parse_columns
    from isthmus.fedrec.sources import read_table

    facts = Census.load(census)
    named = parse_columns(column or [])
    names = read_catalogue(catalogue, facts)
    found, people = own_part(
        read_table(table), facts, names, first, least=min_interactions or 1, columns=named, say=say
    )
    found.save(out)
    typer.echo(f"{out}: clients {first} to {first + len(people) - 1}, as they come in the table")


def serve(
    census: CensusFile,
    algorithm: Annotated[str, typer.Option(help="See `isthmus fedrec list`.")],
    me: Annotated[str, typer.Option("--as", help="The server's name.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where shards reach it.")],
    identity: Identity = DEFAULT_IDENTITY,
    shard: Shards = None,
    backbone: Annotated[str | None, typer.Option(help="fcf, fedncf or pfedrec.")] = None,
    protocol: Protocols = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds; the algorithm's own number if unset.", min=1)
    ] = None,
    every: Annotated[int, typer.Option(help="Judge every so many rounds.", min=1)] = 1,
    sets: Sets = None,
    min_clients: Annotated[
        int, typer.Option(help="Stop when fewer take part in a round.", min=1)
    ] = 1,
    begin_with: Annotated[
        int | None, typer.Option(help="Clients to wait for at first; all if unset.", min=1)
    ] = None,
    deadline: Annotated[
        float, typer.Option(help="Seconds for a round; who is late is left out.", min=0)
    ] = 600.0,
    wait: Wait = 600.0,
    reconnect: Reconnect = 10.0,
    pseudo_items: PseudoItems = 0,
    clip: Clip = 0.0,
    clip_rows: ClipRows = 0.0,
    noise: Noise = 0.0,
    secure_sum: ShardSums = False,
    delta: Delta = 1e-5,
    out: Annotated[Path | None, typer.Option(help="Folder for result and checkpoint.")] = None,
    resume: Resume = False,
    force: Force = False,
    checkpoint_every: Annotated[
        int, typer.Option(help="Rounds from checkpoint to checkpoint.", min=1)
    ] = 10,
    output: Output = Format.text,
    debug: Debug = False,
) -> None:
    """Train with clients on other machines: the server. Shards `join` it."""
    del debug
    from isthmus.fedrec import RunOptions, recipe
    from isthmus.fedrec.devices import Census, Limits, Plan, see_fit
    from isthmus.fedrec.devices import serve as run
    from isthmus.fedrec.options import parse_sets
    from isthmus.fedrec.privacy import Defences
    from isthmus.link import Listener, load_identity

    facts, chosen = Census.load(census), recipe(algorithm, backbone, parse_sets(sets or []))
    options = RunOptions(
        facts.seed, rounds, every, folder=out, resume=resume, force=force,
        checkpoint_every=checkpoint_every,
        defences=Defences(
            pseudo_items, clip=clip, clip_rows=clip_rows, noise=noise, secure_sum=secure_sum,
            delta=delta,
        ),
    )  # fmt: skip
    plan = Plan(facts, chosen, tuple(_rules(protocol, facts)), options)
    places = _places(shard, facts)
    limits = Limits(
        round=deadline, wait=wait, reconnect=reconnect, min_clients=min_clients,
        begin_with=_present(begin_with, facts),
    )  # fmt: skip
    load_identity(identity, me)
    before = see_fit(plan, identity, places)
    if before is not None:
        say_finished(options)
        show_served(before, output)
        return
    say_begins(options)
    with Listener(identity, me, listen) as listener:
        say(f"{me} listens at {listener.address}")
        served = run(
            plan, identity, me, listener, shards=places, limits=limits,
            told=told_in_lines(rounds or chosen.algorithm.rounds), say=say,
        )  # fmt: skip
    show_served(served, output)


def join(
    part: Annotated[
        Path, typer.Argument(help="The clients of this shard; `split` writes it.", exists=True)
    ],
    me: Annotated[str, typer.Option("--as", help="This shard's name.")],
    server: Annotated[str, typer.Option(metavar="NAME=HOST:PORT", help="Whom to dial.")],
    identity: Identity = DEFAULT_IDENTITY,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for the clients' state, so that a killed shard goes on."),
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible",
            metavar="",
            help="Draw with the run's seed, as `run` would; the server can then tell which items "
            "of an upload were drawn, and so which are liked.",
        ),
    ] = False,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="An algorithm of your own that the server may ask for. Repeatable.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads over clients.", min=1)] = 1,
    memory: Annotated[int, typer.Option(help="MiB for a chunk of clients.", min=1)] = 1024,
    pseudo_items: PseudoItems = 0,
    clip: Clip = 0.0,
    clip_rows: ClipRows = 0.0,
    noise: OwnNoise = 0.0,
    sums_only: Annotated[
        bool,
        typer.Option(
            "--sums-only",
            metavar="",
            help="Take part only where the server sees sums over shards alone (its --secure-sum).",
        ),
    ] = False,
    least_noise: Annotated[
        float,
        typer.Option(
            metavar="Z",
            help="Take part only where the noise on the sum over shards is Z clips or more (its "
            "--secure-sum, --clip and --noise).",
            min=0.0,
        ),
    ] = 0.0,
    wait: Wait = 600.0,
    reconnect: Reconnect = 10.0,
    debug: Debug = False,
) -> None:
    """Stand for some clients of a run that another machine serves; their data stays here."""
    del debug
    from isthmus.errors import JobError
    from isthmus.fedrec.devices import Conduct, Line, Part, own_noise_key, own_seed
    from isthmus.fedrec.devices import join as stand_for
    from isthmus.fedrec.privacy import Defences
    from isthmus.link import load_identity

    name, sign, address = server.partition("=")
    if not sign:
        raise JobError(f"--server {server} names no server", mend="Write --server NAME=HOST:PORT.")
    mine = load_identity(identity, me)
    secret = None if reproducible else own_seed(mine)
    own = Defences(pseudo_items, clip=clip, clip_rows=clip_rows, noise=noise)
    conduct = Conduct(
        secret, threads, memory << 20, tuple(algorithm or ()), own or None, sums_only, least_noise,
        own_noise_key(mine),
    )  # fmt: skip
    line = Line(identity, me, name, address, wait, reconnect)
    stand_for(Part.load(part), line, conduct, folder=keep, say=say)


def _rules(names: list[str] | None, census: Census) -> list[EvalProtocol]:
    """The protocols of these names; those that the parts were cut for if there are none."""
    usual = ["authors"] if census.leaks else ["honest-sampled", "full-ranking"]
    return protocols_of(names or usual)


def _present(begin_with: int | None, census: Census) -> int | None:
    """`begin_with`, if there are as many clients."""
    from isthmus.errors import JobError

    if begin_with is not None and begin_with > census.clients:
        raise JobError(f"--begin-with {begin_with}: the population has {census.clients:,} clients")
    return begin_with


def _one_ground(names: list[str]) -> EvalProtocol:
    """One of the protocols, if all of them hold out the same items and train alike."""
    from isthmus.errors import JobError

    rules = protocols_of(names)
    if len({one.ground for one in rules}) > 1:
        raise JobError(
            "parts are cut for authors or for the honest protocols, not for both",
            mend="Cut them twice, into two folders.",
        )
    return rules[0]


def _places(texts: list[str] | None, census: Census) -> dict[str, Longs | None] | None:
    import numpy as np

    from isthmus.errors import JobError

    if not texts:
        return None
    found: dict[str, Longs | None] = {}
    for text in texts:
        name, sign, span = text.partition("=")
        first, _, last = span.partition("-")
        if sign and not (
            first.isdigit() and last.isdigit() and int(first) <= int(last) < census.clients
        ):
            raise JobError(
                f"--shard {text} is not understood",
                mend=f"Write NAME or NAME=FIRST-LAST, clients of 0 to {census.clients - 1}.",
            )
        found[name] = np.arange(int(first), int(last) + 1) if sign else None
    return found
