"""Messages as bytes: the safetensors layout, written with one copy and read without any.

::

    u64 n | n bytes of JSON, padded with spaces to 8 | the tensors' buffers, without holes

The JSON maps each tensor's name to `dtype`, `shape` and `data_offsets`; its `__metadata__` carries
the topic, and the header as a JSON text. A message is thus a valid safetensors file. Nothing in it
is executable, and every bound is checked before a view into the buffer is made.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NamedTuple, NoReturn, TypeGuard

import numpy as np

from isthmus.errors import BadMessage
from isthmus.link.base import Array, Header, Message, as_arrays

Buffer = bytes | bytearray | memoryview

MAX_MESSAGE_BYTES = 1 << 30
"""The largest message, in bytes."""
MAX_HEADER_BYTES = 64 << 10
"""The largest JSON part of a message (names, shapes and the header), in bytes. JSON can take fifty
times its bytes of memory once it is parsed, so this bounds what one message takes beyond itself."""
MAX_TENSORS = 1024
"""The most tensors in one message."""
MAX_DIMS = 8
"""The most dimensions of a tensor."""
MAX_NAME = 128
"""The longest topic or tensor name, in characters."""

_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_CACHED_BYTES = 4096
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_to_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_to_text = json.JSONEncoder(ensure_ascii=False).encode

_NAMES: dict[np.dtype[Any], str] = {
    np.dtype("?"): "BOOL",
    np.dtype("u1"): "U8",
    np.dtype("i1"): "I8",
    np.dtype("<u2"): "U16",
    np.dtype("<i2"): "I16",
    np.dtype("<u4"): "U32",
    np.dtype("<i4"): "I32",
    np.dtype("<u8"): "U64",
    np.dtype("<i8"): "I64",
    np.dtype("<f2"): "F16",
    np.dtype("<f4"): "F32",
    np.dtype("<f8"): "F64",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


Spec = tuple[str, np.dtype[Any], tuple[int, ...]]
"""Name, dtype and shape of a tensor."""


class Encoded(NamedTuple):
    """A message's bytes in pieces, so that a carrier joins them, with its own frame, only once."""

    topic: str
    pieces: tuple[Buffer, ...]
    size: int
    """Bytes of all pieces together."""

    def join(self) -> bytes:
        """The message in one piece."""
        return b"".join(self.pieces)


class _Place(NamedTuple):
    """Where a tensor lies in the body of a message."""

    name: str
    dtype: np.dtype[Any]
    shape: list[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """A checked JSON part: what the message is about and where its tensors lie."""

    topic: str
    header: str | None
    places: tuple[_Place, ...]
    size: int
    """Bytes of the body."""


def encode(
    topic: str, tensors: Mapping[str, Array] | None = None, header: Header | None = None
) -> bytes:
    """A message as bytes; see `encode_pieces`."""
    return encode_pieces(topic, tensors, header).join()


def encode_pieces(
    topic: str, tensors: Mapping[str, Any] | None = None, header: Header | None = None
) -> Encoded:
    """A message as pieces that still share memory with the arrays.

    Tensors are stored widest element first, which keeps each one aligned without holes.

    Raises:
        ValueError: a topic, name, count or size beyond the limits; NaN in `header`.
        TypeError: a dtype that has no place on the wire, or a header that is not JSON.
    """
    items = list(as_arrays(tensors).items())
    if len(items) > 1:
        items.sort(key=lambda item: -item[1].itemsize)
    start, table, end = _write_table(topic, tuple((n, a.dtype, a.shape) for n, a in items))
    note = f',"header":{quote(_header_text(topic, header))}' if header else ""
    text = f"{start}{note}{table}".encode()
    text += b" " * (-len(text) % 8)
    size = _LENGTH.size + len(text) + end
    if len(text) > MAX_HEADER_BYTES or size > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"a message of {topic} has {size} bytes ({len(text)} in its header): too many"
        )
    return Encoded(
        topic, (_LENGTH.pack(len(text)) + text, *[array.data for _, array in items]), size
    )


def decode(buffer: Buffer) -> Message:
    """Read a message; its arrays are read-only views into `buffer`, nothing is copied.

    Raises:
        BadMessage: anything about the bytes is not as it must be.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    plan, body = _plan_of(view)
    tensors = {place.name: _view(view, body, place) for place in plan.places}
    header = {} if plan.header is None else _parse_json(plan.header)
    return Message(plan.topic, tensors, header)


def check(buffer: Buffer) -> str:
    """The topic of a message that `decode` would accept; nothing parsed is kept.

    Raises:
        BadMessage: anything about the bytes is not as it must be.
    """
    plan, _ = _plan_of(memoryview(buffer).toreadonly().cast("B"))
    if plan.header is not None:
        _parse_json(plan.header)
    return plan.topic


@lru_cache(maxsize=256)  # a training step sends the same shapes again and again
def _write_table(topic: str, specs: tuple[Spec, ...]) -> tuple[str, str, int]:
    """The JSON before and after the place of the header, and the bytes of the body."""
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} cannot be a topic")
    if len(specs) > MAX_TENSORS:
        raise ValueError(f"{len(specs)} tensors in a message of {topic}; {MAX_TENSORS} is the most")
    entries = []
    end = 0
    for name, dtype, shape in specs:
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries.append(f",{quote(name)}:{_to_json(_describe(name, dtype, shape, start, end))}")
    return f'{{"{_METADATA}":{{"topic":"{topic}"', "}" + "".join(entries) + "}", end


def _describe(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, end: int
) -> dict[str, Any]:
    wire_name = _NAMES.get(dtype)
    if wire_name is None:
        raise TypeError(f"tensor {name!r} has dtype {dtype}, which no message can carry")
    if not 0 < len(name) <= MAX_NAME or name == _METADATA or _has_half_characters(name):
        raise ValueError(f"{name[:MAX_NAME]!r} cannot be a tensor's name")
    if len(shape) > MAX_DIMS:
        raise ValueError(f"tensor {name!r} has {len(shape)} dimensions; {MAX_DIMS} is the most")
    return {"dtype": wire_name, "shape": shape, "data_offsets": (start, end)}


def _header_text(topic: str, header: Header) -> str:
    text = _to_json(header)
    if _SURROGATE.search(text) and _has_half_characters(header):
        raise ValueError(f"a text in the header of {topic} is no Unicode")
    return text


def _plan_of(view: memoryview) -> tuple[_Plan, int]:
    """The checked JSON part of a message, and where its body begins."""
    if len(view) < _LENGTH.size:
        _refuse("shorter than its length field")
    (length,) = _LENGTH.unpack_from(view)
    body = _LENGTH.size + length
    if length > MAX_HEADER_BYTES or body > len(view):
        _refuse("its header is longer than allowed or than the message")
    text = bytes(view[_LENGTH.size : body])
    plan = _read_known_plan(text) if length <= _CACHED_BYTES else _read_plan(text)
    if plan.size != len(view) - body:
        _refuse("its tensors do not fill it exactly")
    return plan, body


def _view(view: memoryview, body: int, place: _Place) -> Array:
    _, dtype, shape, start, end = place
    if start == end:
        empty: Array = np.empty(shape, dtype)
        empty.flags.writeable = False
        return empty
    count = (end - start) // dtype.itemsize
    return np.frombuffer(view, dtype, count, body + start).reshape(shape)


def _read_plan(text: bytes) -> _Plan:
    try:
        # Strictly UTF-8: `json` would guess at other encodings, and let halves of characters pass.
        table = _parse_json(text.decode())
    except UnicodeDecodeError:
        _refuse("its header is not JSON")
    topic, header = _read_metadata(table.pop(_METADATA, None))
    if len(table) > MAX_TENSORS:
        _refuse(f"{len(table)} tensors")
    places = tuple(_read_place(name, entry) for name, entry in table.items())
    return _Plan(topic, header, places, _check_no_holes(places))


_read_known_plan = lru_cache(maxsize=256)(_read_plan)


def _parse_json(text: str) -> dict[str, Any]:
    try:
        value = _from_json(text)
        if _SURROGATE.search(text) and _has_half_characters(value):
            raise ValueError
    except (ValueError, RecursionError):
        _refuse("its header is not JSON")
    if not isinstance(value, dict):
        _refuse("its header is not a JSON object")
    return value


def _has_half_characters(value: object) -> bool:
    """Whether a text in `value` holds a lone surrogate, which no file or terminal takes."""
    try:
        _to_text(value).encode()
    except UnicodeEncodeError:
        return True
    return False


def _read_metadata(metadata: object) -> tuple[str, str | None]:
    if not isinstance(metadata, dict):
        _refuse("it has no topic")
    topic, header = metadata.get("topic"), metadata.get("header")
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        _refuse("its topic is not valid")
    if header is not None and not isinstance(header, str):
        _refuse("its header is not JSON")
    return topic, header


def _read_place(name: str, entry: object) -> _Place:
    if not 0 < len(name) <= MAX_NAME or not isinstance(entry, dict):
        _refuse("a tensor's entry is not valid")
    dtype_name, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    dtype = _DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
    if dtype is None:
        _refuse("a tensor has an unknown dtype")
    if not _is_counts(shape) or len(shape) > MAX_DIMS:
        _refuse("a tensor's shape is not valid")
    if not _is_counts(offsets) or len(offsets) != 2:
        _refuse("a tensor's place is not valid")
    count = math.prod(shape)
    if not count and math.prod(filter(None, shape)) > MAX_MESSAGE_BYTES:
        _refuse("a tensor's shape is not valid")
    if count * dtype.itemsize != offsets[1] - offsets[0]:
        _refuse("a tensor's bytes do not fit its shape")
    return _Place(name, dtype, shape, offsets[0], offsets[1])


def _is_counts(value: object) -> TypeGuard[list[int]]:
    # `type` and not `isinstance`: True is an int in Python, not on the wire.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _check_no_holes(places: tuple[_Place, ...]) -> int:
    """The bytes of the body, which the tensors must tile."""
    reached = 0
    for start, end in sorted((place.start, place.end) for place in places):
        if start != reached:
            _refuse("its tensors overlap or leave a hole")
        reached = end
    return reached


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # such as 1e999
        raise ValueError(text)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_from_json = json.JSONDecoder(parse_float=_read_float, parse_constant=_refuse_constant).decode


def _refuse(what: str) -> NoReturn:
    raise BadMessage(f"a message is malformed: {what}")
