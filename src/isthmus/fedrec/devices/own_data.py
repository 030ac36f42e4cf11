"""A part made by a shard of its own table: its users get numbers of theirs, items those of all.

What all shards share is the census and the catalogue: the names of the items, one a line, the
number of an item being its line's, from 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from isthmus.errors import DataError
from isthmus.fedrec.devices.crew import Say
from isthmus.fedrec.devices.parts import Census, Part
from isthmus.fedrec.population import Interactions, Order, leave_out
from isthmus.fedrec.sources import cleaned, has_times, in_order, untimed


def read_catalogue(path: Path, census: Census) -> list[str]:
    """The names of all items.

    Raises:
        DataError: the file is missing, a name comes twice, or they are not as many as the census
            says.
    """
    try:
        names = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a catalogue") from error
    if len(names) != census.items or len(set(names)) != len(names):
        raise DataError(
            f"{path} has {len(set(names))} different names on {len(names)} lines, the census says "
            f"{census.items} items",
            mend="All shards need the same catalogue, one name a line.",
        )
    return names


def own_part(
    frame: pl.DataFrame,
    census: Census,
    catalogue: list[str],
    first: int,
    *,
    least: int = 1,
    columns: dict[str, str] | None = None,
    say: Say = lambda text: None,
) -> tuple[Part, list[str]]:
    """The part of a shard's own rows, and the names of its users in the order of their numbers.

    Items that the catalogue does not have are left out. Held out is each client's last item where
    there are times, else one drawn by the census' seed.

    Args:
        frame: columns for user and item and, if there are any, rating and time.
        census: what all agree on.
        catalogue: the items' names, see `read_catalogue`.
        first: the number of the first user; the others follow, by first appearance.
        least: users with fewer rows are left out.
        columns: which column is `user`, `item`, `rating` or `time`.
        say: told where times are missing.

    Raises:
        SchemaError: a column is missing.
        DataError: nothing is left, there are more users than numbers, or the census wants times
            that are not there.
    """
    number = pl.DataFrame(
        {"item": catalogue, "number": np.arange(len(catalogue), dtype=np.int64)},
        schema={"item": pl.String, "number": pl.Int64},
    )
    rows = cleaned(frame, least, columns or {}).join(
        number, on="item", how="inner", maintain_order="left"
    )
    for note in untimed(rows, has_times(frame, columns or {})):
        say(f"warning: {note}")
    people = rows["user"].unique(maintain_order=True)
    if first < 0 or first + len(people) > census.clients:
        raise DataError(
            f"{len(people)} clients from number {first} on are more than the census has "
            f"({census.clients})"
        )
    place = pl.DataFrame({"user": people, "place": np.arange(len(people), dtype=np.int64)})
    users = rows.join(place, on="user", maintain_order="left")["place"].to_numpy()
    items = rows["number"].to_numpy()
    timed = rows["time"].null_count() == 0
    if census.timed and not timed:
        raise DataError(
            "the census says that interactions have times, and some of these rows have none",
            mend="Name the column with --column time=NAME, or leave rows without a time out.",
        )
    order: Order = "time" if timed and census.timed is not False else "none"
    sorted_ = in_order(users, rows["time"].to_numpy() if order == "time" else items)
    data = Interactions(
        census.name, len(people), census.items, users[sorted_], items[sorted_], order
    )
    last = order == "time" or census.file_order
    found = leave_out(data, "last" if last else "random", census.seed)
    clients = np.arange(first, first + len(people))
    part = Part(census, clients, found.train, found.valid, found.test, found.turn)
    return part, people.to_list()
