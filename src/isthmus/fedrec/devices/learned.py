"""What a server sends to be scored with, checked: compiled code that scores looks at no bounds."""

from __future__ import annotations

import numpy as np

from isthmus.errors import BadMessage
from isthmus.fedrec.algorithms._one_round import OneRound
from isthmus.fedrec.algorithms.ordered_pairs import BLEND, SKETCHED, OrderedPairs
from isthmus.fedrec.devices.wire import COUNTS, Array, Arrays, numbers, taken
from isthmus.fedrec.population import Floats, Ints, Longs


def take_learned(method: OneRound, arrays: Arrays) -> None:
    """Have `method` score with what the server has learned.

    Raises:
        BadMessage: it is not what this algorithm could have learned.
    """
    items = method.task.population.items
    if not isinstance(method, OrderedPairs):
        method.learned = np.array(numbers(arrays, "learned", method.shape, COUNTS))
        return
    chosen = _doubles(arrays, "chosen", 4)
    if chosen[BLEND] > 1 or chosen[SKETCHED] != (items > method.settings.whole_items):
        raise BadMessage("chosen are no numbers of ordered pairs")
    popular = np.array(numbers(arrays, "popular", (items,), COUNTS))
    if (popular < 0).any():
        raise BadMessage("popular are no counts")
    state: dict[str, Array] = {"chosen": chosen, "popular": popular, "broad": _broad(arrays, items)}
    if chosen[SKETCHED]:
        state |= _rows(arrays, items) | {"ridges": _doubles(arrays, "ridges", 2)}
    else:
        state |= {
            "s": _square(arrays, "s", items, needed=chosen[BLEND] < 1),
            "b": _square(arrays, "b", items, needed=chosen[BLEND] > 0),
        }
    method.restore(state)


def _doubles(arrays: Arrays, name: str, count: int) -> Array:
    found = np.array(taken(arrays, name, np.float64, (count,)))
    if not ((found >= 0) & (found <= COUNTS)).all():
        raise BadMessage(f"{name} holds NaN, infinity or a number out of range")
    return found


def _broad(arrays: Arrays, items: int) -> Floats:
    found = arrays.get("broad")
    if found is not None and found.shape == (0, 0):
        return np.zeros((0, 0), np.float32)
    return np.array(numbers(arrays, "broad", (items, -1)))


def _square(arrays: Arrays, name: str, items: int, *, needed: bool) -> Floats:
    found = arrays.get(name)
    if not needed and found is not None and found.shape == (0, 0):
        return np.zeros((0, 0), np.float32)
    return np.array(numbers(arrays, name, (items, items)))


def _rows(arrays: Arrays, items: int) -> dict[str, Array]:
    """A sparse matrix by rows."""
    indptr: Longs = np.array(taken(arrays, "indptr", np.int64, (items + 1,)))
    columns: Ints = np.array(taken(arrays, "items", np.int32, (-1,)))
    if indptr[0] != 0 or indptr[-1] != len(columns) or (np.diff(indptr) < 0).any():
        raise BadMessage("indptr does not divide the pairs among the items")
    if len(columns) and (columns.min() < 0 or columns.max() >= items):
        raise BadMessage("a pair's item is out of range")
    values = np.array(numbers(arrays, "values", (len(columns),), COUNTS))
    return {"indptr": indptr, "items": columns, "values": values}
