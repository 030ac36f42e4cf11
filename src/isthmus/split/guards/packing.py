"""Small integers in as many bits as they need, and which columns of each row are sent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from isthmus.errors import BadMessage
from isthmus.link import Array

Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` numbers of `bits` bits take."""
    return -(-count * bits // 8)


def pack(numbers: Array, bits: int) -> Bytes:
    """Numbers in [0, 2^bits), of any shape, as uint8 [packed_bytes], lowest bit first.

    Args:
        numbers: unsigned, or integers that are not negative.
        bits: 1 to 32.
    """
    flat = numbers.reshape(-1)
    if bits > 8:
        whole = flat.astype("<u4").reshape(-1, 1).view(np.uint8)
        planes = np.unpackbits(whole, axis=1, count=bits, bitorder="little")
        return np.packbits(planes, bitorder="little")
    if bits == 8:
        return flat.astype(np.uint8)
    # Eight numbers at a time fill `bits` bytes of a 64-bit word.
    eights = np.zeros((-(-flat.size // 8), 8), np.uint8)
    eights.reshape(-1)[: flat.size] = flat
    words = np.zeros(len(eights), "<u8")
    for place in range(8):
        words |= eights[:, place].astype("<u8") << np.uint64(place * bits)
    filled = np.ascontiguousarray(words.view(np.uint8).reshape(-1, 8)[:, :bits]).reshape(-1)
    return filled[: packed_bytes(flat.size, bits)]


def unpack(packed: Bytes, count: int, bits: int) -> Array:
    """The `count` numbers of `pack`; `packed` is uint8 [packed_bytes(count, bits)].

    Returns:
        uint8 [count], or uint32 for more than eight bits.

    Raises:
        BadMessage: a bit behind the last number is set.
    """
    if bits == 8:
        return packed
    numbers = _unpack_wide(packed, bits) if bits > 8 else _unpack_narrow(packed, bits)
    if numbers[count:].any():
        raise BadMessage("packed numbers are followed by other bits")
    return numbers[:count]


def _unpack_narrow(packed: Bytes, bits: int) -> Array:
    filled = np.zeros(-(-packed.size // bits) * bits, np.uint8)
    filled[: packed.size] = packed
    octets = np.zeros((filled.size // bits, 8), np.uint8)
    octets[:, :bits] = filled.reshape(-1, bits)
    words = octets.view("<u8").reshape(-1)
    numbers = np.empty((len(words), 8), np.uint8)
    for place in range(8):
        numbers[:, place] = (words >> np.uint64(place * bits)) & np.uint64(2**bits - 1)
    return numbers.reshape(-1)


def _unpack_wide(packed: Bytes, bits: int) -> Array:
    flat = np.unpackbits(packed, bitorder="little")
    planes = np.zeros((-(-flat.size // bits), bits), np.uint8)
    planes.reshape(-1)[: flat.size] = flat
    whole = np.zeros((len(planes), 4), np.uint8)
    octets = np.packbits(planes, axis=1, bitorder="little")
    whole[:, : octets.shape[1]] = octets
    return whole.view("<u4").reshape(-1)


def index_bits(width: int) -> int:
    """Bits that an index below `width` needs."""
    return max(1, (width - 1).bit_length())


def columns_bytes(rows: int, width: int, kept: int) -> int:
    """Bytes of `pack_columns`: a bitmap or a list a row, whichever is smaller."""
    return packed_bytes(rows, min(width, kept * index_bits(width)))


def pack_columns(columns: Indices, width: int) -> Bytes:
    """Which columns of each row are sent: int64 [rows, kept], ascending in each row.

    Where most columns are sent a bit a column is shorter, else a number a column of
    ceil(log2(width)) bits. Both sides know which, since both know width and number.
    """
    rows, kept = columns.shape
    if not _as_bitmap(width, kept):
        return pack(columns, index_bits(width))
    bitmap = np.zeros((rows, width), bool)
    np.put_along_axis(bitmap, columns, True, 1)
    return np.packbits(bitmap, bitorder="little")


def unpack_columns(packed: Bytes, rows: int, width: int, kept: int) -> Indices:
    """The columns of `pack_columns`; `packed` is uint8 [columns_bytes(rows, width, kept)].

    Raises:
        BadMessage: a row has another number of columns, one twice, or one outside the row.
    """
    if _as_bitmap(width, kept):
        flat = np.unpackbits(packed, bitorder="little")
        bitmap = flat[: rows * width].reshape(rows, width)
        if flat[rows * width :].any() or (bitmap.sum(1, dtype=np.int64) != kept).any():
            raise BadMessage(f"a row's bitmap does not mark {kept} columns")
        return np.flatnonzero(bitmap).reshape(rows, kept) % width
    columns = unpack(packed, rows * kept, index_bits(width)).reshape(rows, kept).astype(np.int64)
    if (columns[:, -1] >= width).any() or (columns[:, 1:] <= columns[:, :-1]).any():
        raise BadMessage(f"a row's columns are not ascending and below {width}")
    return columns


def _as_bitmap(width: int, kept: int) -> bool:
    return width <= kept * index_bits(width)
