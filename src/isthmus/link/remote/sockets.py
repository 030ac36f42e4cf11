"""Sockets before there is a stream on them: listening, and ending in good order."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress

from isthmus.errors import LinkError
from isthmus.link.remote.address import split_address

_LOOK_UP = 0.5
"""Seconds after which a listening socket's thread looks whether it is closed."""
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Of an address that a name has and this machine has not: `::1` of `localhost`, without IPv6."""


def bind(address: str) -> list[socket.socket]:
    """Listen at every address that `address` (`host:port`) means here, all at one port.

    Raises:
        LinkError: the address cannot be used.
    """
    host, port = split_address(address)
    doors: list[socket.socket] = []
    missing = OSError(host)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, place in dict.fromkeys(found):
            try:
                at = (place[0], port, *place[2:])  # the rest is the scope of an IPv6 address
                door = socket.create_server(at, family=family, backlog=64)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            door.settimeout(_LOOK_UP)
            doors.append(door)
            port = door.getsockname()[1]
        if not doors:
            raise missing
    except OSError as error:
        for door in doors:
            door.close()
        raise LinkError(
            f"cannot listen at {address}",
            mend="Is another program using that port, or is the host name not of this machine?",
        ) from error
    return doors


def hang_up(line: socket.socket) -> None:
    """End both halves at once; whoever waits for the socket wakes."""
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)


def farewell(line: socket.socket, seconds: float) -> None:
    """End our half, and wait for `seconds` at most until the other side has read what we said.

    A socket that is closed while something unread has come is reset, and then the other side may
    never see what was sent last, such as why TLS refuses it.
    """
    until = time.monotonic() + seconds
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_WR)
        while (left := until - time.monotonic()) > 0:
            line.settimeout(left)
            # Not the method of `ssl.SSLSocket`: there is no TLS on it.
            if not socket.socket.recv(line, 1 << 14):
                return
