"""Entity keys (n:1): from common entities to samples, one for each event of the label party."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from isthmus.align.keys import Keys
from isthmus.align.order import event_order
from isthmus.align.wire import number, tensor
from isthmus.errors import BadMessage
from isthmus.link import Link
from isthmus.session import PATIENCE, Session

_CHUNK = 1 << 20
_MOST_SAMPLES = 1 << 31

Rows = npt.NDArray[np.int64]


def send_samples(session: Session, keys: Keys, common: Rows) -> Rows:
    """At the label party: put its events of common entities in an order, and tell the partners.

    Per sample a feature party is told the position of the sample's entity in the agreed order.

    Args:
        session: the label party's session.
        keys: its ids.
        common: int64 `[entities]`, which of its distinct ids are common, in the agreed order.

    Returns:
        int64 `[samples]`, the own row of each sample.
    """
    position = np.full(len(keys.values), -1, dtype=np.int64)
    position[common] = np.arange(len(common))
    entity = position[keys.event_key]
    events = np.flatnonzero(entity >= 0)
    events = events[event_order(session, keys, len(events))]
    for link in session.links.values():
        send_positions(link, entity[events])
    return keys.event_row[events]


def draw_samples(session: Session, keys: Keys, *, events: bool) -> tuple[Rows, Rows]:
    """At a label party that keeps all of its rows: its samples, in an order of its own.

    Args:
        session: the label party's session.
        keys: its ids.
        events: whether each row of an id is a sample, or the first alone.

    Returns:
        int64 `[samples]` each: the own row, and which of the distinct ids it has.
    """
    rows = keys.event_row if events else keys.first_row
    which = keys.event_key if events else np.arange(len(keys.values))
    order = event_order(session, keys, len(rows))
    return rows[order], which[order]


def send_positions(link: Link, positions: Rows) -> None:
    """Tell a partner the position of each sample's id in the agreed order, or -1 for none of them.

    Args:
        link: to the partner.
        positions: int64 `[samples]`.
    """
    told = positions.astype(np.int32)
    for start in range(0, len(told), _CHUNK):
        part = told[start : start + _CHUNK]
        link.send("align.samples", {"entity": part}, {"samples": len(told)})


def receive_samples(
    session: Session, entity_rows: Rows, *, least: int = 0, most: int | None = None
) -> Rows:
    """At a feature party: its row of each sample, int64 `[samples]`.

    Args:
        session: the feature party's session.
        entity_rows: int64 `[entities]`, its row of each common entity in the agreed order.
        least: the smallest position that may be told: -1 where a sample may have none of them, and
            then -1 for its row.
        most: how many samples there may be that have one, if that is known.

    Raises:
        BadMessage: the label party names an entity that is not there, leaves one out, or changes
            its mind about the number of samples.
    """
    link = session.hub
    parts: list[npt.NDArray[np.int32]] = []
    received, samples = 0, 0
    while not parts or received < samples:
        message = link.recv("align.samples", timeout=PATIENCE)
        announced = number(link, message, "samples", _MOST_SAMPLES)
        if parts and announced != samples:
            raise BadMessage(f"{link.partner} sent align.samples of another number than before")
        samples = announced
        expected = min(_CHUNK, samples - received)
        parts.append(tensor(link, message, "entity", np.int32, (expected,)))
        received += expected
    told = np.concatenate(parts)
    if told.min() < least or told.max() >= len(entity_rows):
        raise BadMessage(f"{link.partner} sent align.samples with positions out of range")
    has = told >= 0
    if len(np.unique(told[has])) < len(entity_rows):
        raise BadMessage(f"{link.partner} sent align.samples without some of the common entities")
    if most is not None and has.sum() > most:
        raise BadMessage(f"{link.partner} sent align.samples with an id twice")
    return np.where(has, entity_rows[told], -1)
