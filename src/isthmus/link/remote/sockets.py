"""Sockets before there is a stream on them: listening, and ending in good order."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from isthmus.errors import LinkError
from isthmus.link.remote.address import split_address

_LOOK_UP = 0.5
"""Seconds after which a listening socket's thread looks whether it is closed."""


def bind(address: str) -> list[socket.socket]:
    """Listen at every address that `address` (`host:port`) means, all at one port.

    Raises:
        LinkError: the address cannot be used.
    """
    host, port = split_address(address)
    doors: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, place in dict.fromkeys(found):
            door = socket.create_server((place[0], port), family=family, backlog=64)
            door.settimeout(_LOOK_UP)
            doors.append(door)
            port = door.getsockname()[1]
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
