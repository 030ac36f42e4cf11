"""Serialised keys and ciphertexts, looked through before SEAL reads them.

TenSEAL writes Protocol Buffers; in their fields are SEAL objects: a header of
16 bytes (SEAL's `Serialization::SEALHeader`) and the object, in a Zstandard frame (RFC 8878).
Neither library bounds what a short text unpacks to; this module does, and takes no parameters from
a partner.
"""

from __future__ import annotations

from isthmus.errors import BadMessage

_MAGIC, _HEADER = b"\x5e\xa1", 16
_PLAIN, _ZSTD = 0, 2
_FRAME = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 17
"""Bytes that a block of a frame unpacks to, at most."""
_RAW, _REPEATED, _PACKED = 0, 1, 2


def first_field(data: bytes) -> tuple[int, bytes, bytes]:
    """A message's first field, which is length-delimited: number, content, and all that follows.

    Raises:
        BadMessage: it has no such field.
    """
    size, at = 0, 1
    for place in range(4):
        if at >= len(data):
            raise _wrong()
        size |= (data[at] & 0x7F) << (7 * place)
        at += 1
        if not data[at - 1] & 0x80:
            break
    else:
        raise _wrong()
    if data[0] & 0x87 != 2 or at + size > len(data):
        raise _wrong()
    return data[0] >> 3, data[at : at + size], data[at + size :]


def field(number: int, content: bytes) -> bytes:
    """One field of a message, as `first_field` reads it."""
    size, length = len(content), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*length, size]) + content


def check_object(data: bytes, most: int) -> None:
    """See that a SEAL object cannot unpack to more than `most` bytes.

    Raises:
        BadMessage: it can, or it is none.
    """
    if data[:2] != _MAGIC or len(data) <= _HEADER or data[2] != _HEADER:
        raise _wrong()
    if int.from_bytes(data[8:_HEADER], "little") != len(data):
        raise _wrong()
    if data[5] == _PLAIN:
        unpacked = len(data)
    elif data[5] == _ZSTD:
        unpacked = _unpacked(data[_HEADER:])
    else:
        raise _wrong()
    if unpacked > most:
        raise BadMessage("a ciphertext or key would unpack to more bytes than it can have")


def _unpacked(frame: bytes) -> int:
    """Bytes that a Zstandard frame unpacks to and that its reader sets aside, at most."""
    at, window = _after_header(frame)
    blocks, last = 0, False
    while not last:
        if at + 3 > len(frame):
            raise _wrong()
        word = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
        if kind not in (_RAW, _REPEATED, _PACKED):
            raise _wrong()
        at += 3 + (1 if kind == _REPEATED else size)
        blocks += 1
    if at + (4 if frame[4] & 4 else 0) != len(frame):
        raise _wrong()
    return max(window, blocks * _BLOCK)


def _after_header(frame: bytes) -> tuple[int, int]:
    """Where the first block is, and the size of the window."""
    if frame[:4] != _FRAME or len(frame) < 6:
        raise _wrong()
    flags = frame[4]
    single, dictionary = bool(flags & 0x20), flags & 3
    sized = (int(single), 2, 4, 8)[flags >> 6]
    if dictionary:
        raise _wrong()
    if not single:
        log, eighths = 10 + (frame[5] >> 3), frame[5] & 7
        return 6 + sized, (1 << log) + eighths * (1 << log - 3)
    size = int.from_bytes(frame[5 : 5 + sized], "little")
    return 5 + sized, size + (256 if sized == 2 else 0)


def _wrong() -> BadMessage:
    return BadMessage("what was sent is no public key or ciphertext as SEAL writes them")
