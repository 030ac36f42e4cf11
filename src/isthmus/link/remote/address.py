"""`host:port`, as users write it."""

from __future__ import annotations

from isthmus.errors import LinkError


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`.

    Raises:
        LinkError: it is not of that form.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise LinkError(f"{address!r} is not an address", mend="Write it as `host:port`.")
    return host, int(port)


def with_port(address: str, port: int) -> str:
    """`address` with another port."""
    return f"{address.rpartition(':')[0]}:{port}"
