"""Arrays by digest, so that what the other side holds from the last message is not sent again.

The tables that clients are judged with after a round are those that the next round begins from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from isthmus.errors import BadMessage
from isthmus.fedrec.devices.wire import Array
from isthmus.link import Header

_NAMES = "arrays"
_PASSING = {"message"}
"""Messages of these alone, the steps of a secure sum, or of none leave what is held as it is."""


class Packer:
    """The sending side."""

    def __init__(self) -> None:
        self._held: set[str] = set()

    def pack(
        self, words: BaseModel, arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Tensors and header of a message."""
        names = {name: _digest(array) for name, array in arrays.items()}
        fresh = {names[name]: one for name, one in arrays.items() if names[name] not in self._held}
        if names.keys() - _PASSING:
            self._held = set(names.values())
        return fresh, {**words.model_dump(mode="json"), _NAMES: names}


class Unpacker:
    """The receiving side."""

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def unpack(
        self, header: Header, tensors: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """The words, and the arrays by name.

        Raises:
            BadMessage: it names an array that was never sent.
        """
        rest = {name: value for name, value in header.items() if name != _NAMES}
        names = header.get(_NAMES, {})
        if not isinstance(names, dict):
            raise BadMessage("the names of arrays are none")
        known = self._held | dict(tensors)
        missing = [name for name, digest in names.items() if digest not in known]
        if missing:
            raise BadMessage(f"the array {missing[0]} was never sent")
        if names.keys() - _PASSING:
            self._held = {digest: known[digest] for digest in names.values()}
        return rest, {name: known[digest] for name, digest in names.items()}


def _digest(array: Array) -> str:
    found = hashlib.blake2b(f"{array.dtype} {array.shape}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return found.hexdigest()
