"""Messages as bytes: the safetensors layout, written with one copy and read without any.

::

    u64 n | n bytes of JSON, padded with spaces to 8 | the tensors' buffers, without holes

The JSON maps each tensor's name to `dtype`, `shape` and `data_offsets`; its `__metadata__` carries
the topic, and the header as a JSON text. A message is thus a valid safetensors file. Nothing in it
is executable, and every bound is checked before a view into the buffer is made.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

import numpy as np

from isthmus.errors import BadMessage
from isthmus.link.base import Array, Header, Message, as_arrays

Buffer = bytes | bytearray | memoryview

MAX_MESSAGE_BYTES = 1 << 30
"""The largest message, in bytes."""
MAX_HEADER_BYTES = 1 << 20
"""The largest JSON part of a message (names, shapes and the header), in bytes."""
MAX_TENSORS = 1024
"""The most tensors in one message."""
MAX_DIMS = 8
"""The most dimensions of a tensor."""
MAX_NAME = 128
"""The longest topic or tensor name, in characters."""

_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"

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


@dataclass(frozen=True, slots=True)
class Encoded:
    """A message's bytes in pieces, so that a carrier joins them, with its own frame, only once."""

    topic: str
    pieces: tuple[Buffer, ...]
    size: int
    """Bytes of all pieces together."""

    def join(self) -> bytes:
        """The message in one piece."""
        return b"".join(self.pieces)


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
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} cannot be a topic")
    arrays = sorted(as_arrays(tensors).items(), key=lambda item: -item[1].itemsize)
    if len(arrays) > MAX_TENSORS:
        raise ValueError(
            f"{len(arrays)} tensors in one message of {topic}; {MAX_TENSORS} is the most"
        )
    metadata = {"topic": topic}
    if header:
        metadata["header"] = json.dumps(header, allow_nan=False, separators=(",", ":"))
    table: dict[str, Any] = {_METADATA: metadata}
    buffers: list[Buffer] = []
    end = 0
    for name, array in arrays:
        start, end = end, end + array.nbytes
        table[name] = _describe(name, array, start, end)
        buffers.append(_byte_view(array))
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    size = _LENGTH.size + len(text) + end
    if len(text) > MAX_HEADER_BYTES or size > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"a message of {topic} has {size} bytes ({len(text)} in its header): too many"
        )
    return Encoded(topic, (_LENGTH.pack(len(text)) + text, *buffers), size)


def decode(buffer: Buffer) -> Message:
    """Read a message; its arrays are read-only views into `buffer`, nothing is copied.

    Raises:
        BadMessage: anything about the bytes is not as it must be.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    table, body = _read_table(view)
    metadata = table.pop(_METADATA, None)
    topic, header = _read_metadata(metadata)
    if len(table) > MAX_TENSORS:
        _refuse(f"{len(table)} tensors")
    tensors = {}
    spans = []
    for name, entry in table.items():
        dtype, shape, start, end = _read_entry(name, entry, len(view) - body)
        count = (end - start) // dtype.itemsize
        flat = np.frombuffer(view, dtype, count, body + start) if count else np.empty(0, dtype)
        tensors[name] = flat.reshape(shape)
        tensors[name].flags.writeable = False
        spans.append((start, end))
    _check_no_holes(spans, len(view) - body)
    return Message(topic, tensors, header)


def _describe(name: str, array: Array, start: int, end: int) -> dict[str, Any]:
    dtype = _NAMES.get(array.dtype)
    if dtype is None:
        raise TypeError(f"tensor {name!r} has dtype {array.dtype}, which no message can carry")
    if not 0 < len(name) <= MAX_NAME or name == _METADATA:
        raise ValueError(f"{name[:MAX_NAME]!r} cannot be a tensor's name")
    if array.ndim > MAX_DIMS:
        raise ValueError(f"tensor {name!r} has {array.ndim} dimensions; {MAX_DIMS} is the most")
    return {"dtype": dtype, "shape": array.shape, "data_offsets": (start, end)}


def _byte_view(array: Array) -> Buffer:
    return array.reshape(-1).view(np.uint8).data


def _read_table(view: memoryview) -> tuple[dict[str, Any], int]:
    if len(view) < _LENGTH.size:
        _refuse("shorter than its length field")
    (length,) = _LENGTH.unpack_from(view)
    if length > min(MAX_HEADER_BYTES, len(view) - _LENGTH.size):
        _refuse("its header is longer than allowed or than the message")
    body = _LENGTH.size + length
    table = _parse_json(bytes(view[_LENGTH.size : body]))
    return table, body


def _parse_json(text: bytes | str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        _refuse("its header is not JSON")
    if not isinstance(value, dict):
        _refuse("its header is not a JSON object")
    return value


def _read_metadata(metadata: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(metadata, dict):
        _refuse("it has no topic")
    topic = metadata.get("topic")
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        _refuse("its topic is not valid")
    header = metadata.get("header")
    if header is None:
        return topic, {}
    if not isinstance(header, str):
        _refuse("its header is not JSON")
    return topic, _parse_json(header)


def _read_entry(name: str, entry: object, size: int) -> tuple[np.dtype[Any], list[int], int, int]:
    if not 0 < len(name) <= MAX_NAME or not isinstance(entry, dict):
        _refuse("a tensor's entry is not valid")
    dtype_name, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    dtype = _DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
    if dtype is None:
        _refuse("a tensor has an unknown dtype")
    if not _is_counts(shape) or len(shape) > MAX_DIMS:
        _refuse("a tensor's shape is not valid")
    if not _is_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        _refuse("a tensor lies outside the message")
    count = 1
    for dim in shape:
        count *= dim
    if count * dtype.itemsize != offsets[1] - offsets[0]:
        _refuse("a tensor's bytes do not fit its shape")
    return dtype, shape, offsets[0], offsets[1]


def _is_counts(value: object) -> TypeGuard[list[int]]:
    # `type` and not `isinstance`: True is an int in Python, not on the wire.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _check_no_holes(spans: list[tuple[int, int]], size: int) -> None:
    reached = 0
    for start, end in sorted(spans):
        if start != reached:
            _refuse("its tensors overlap or leave a hole")
        reached = end
    if reached != size:
        _refuse("it has bytes that belong to no tensor")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(what: str) -> NoReturn:
    raise BadMessage(f"a message is malformed: {what}")
