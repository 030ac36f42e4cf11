"""The side that listens: one port for any number of partners, each checked against its own pin."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from isthmus.errors import (
    BadMessage,
    IdentityError,
    IsthmusError,
    JobMismatch,
    LinkError,
    UntrustedPartner,
    VersionMismatch,
)
from isthmus.link.codec import Buffer
from isthmus.link.identity import (
    TrustedPartner,
    check_dates,
    load_identity,
    trusted_partners,
)
from isthmus.link.remote.address import with_port
from isthmus.link.remote.dialer import HELLO_SECONDS
from isthmus.link.remote.doorman import Doorman
from isthmus.link.remote.frames import parse
from isthmus.link.remote.handshake import (
    NOT_READY,
    STALE,
    Hello,
    Refusal,
    job_mismatch,
    read_hello,
    restarted,
)
from isthmus.link.remote.remote_link import RemoteLink
from isthmus.link.remote.sockets import bind, farewell, hang_up
from isthmus.link.remote.tls import server_context
from isthmus.link.remote.wire import Wire

STRANGERS = 64
"""The most connections that have not shown a certificate yet; beyond that the oldest is ended."""
_FAREWELL = 2.0
"""Seconds that a refused partner is given to read why."""
_GRACE = 1.0
_PAUSE = 0.05


class Listener:
    """Listens at once; hand it to `open_links`. Close it after the links, or use it as a context.

    Raises:
        IdentityError: the identity is missing or expired, or no partner is trusted.
        LinkError: the address cannot be used.
    """

    address: str
    """Where partners can dial, with the true port where 0 was asked for."""

    def __init__(self, folder: Path, me: str, address: str = "127.0.0.1:0") -> None:
        self.me = me
        # A file that cannot be used is told where its partner is needed, by `open_links`.
        self._partners = trusted_partners(folder, on_fault=lambda error: None)
        self._links: dict[str, RemoteLink] = {}
        self._lock = threading.Lock()
        self._context = _tls(folder, me, self._partners)
        self._strangers: dict[socket.socket, None] = {}
        self._wires: set[Wire] = set()
        self._gone = threading.Condition(self._lock)
        self._closed = False
        self._sockets = bind(address)
        self.address = with_port(address, self._sockets[0].getsockname()[1])
        self._doorman = Doorman(HELLO_SECONDS)
        for door in self._sockets:
            threading.Thread(
                target=self._accept, args=(door,), name="isthmus-door", daemon=True
            ).start()

    def serve(self, link: RemoteLink) -> None:
        """Accept the partner of `link` from now on, until the link is released."""
        with self._lock:
            if link.partner in self._links:
                raise LinkError(f"this listener serves a link to {link.partner} already")
            self._links[link.partner] = link

    def drop(self, link: RemoteLink) -> None:
        """Accept the partner of `link` no more."""
        with self._lock:
            if self._links.get(link.partner) is link:
                del self._links[link.partner]

    def close(self) -> None:
        """Stop listening; streams get a moment to end in good order. May be called twice."""
        self._stop(_GRACE)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop(self, grace: float) -> None:
        with self._lock:
            self._closed = True
            for plain in self._strangers:
                hang_up(plain)
        self._doorman.close()
        for door in self._sockets:
            hang_up(door)
            door.close()
        with self._gone:
            self._gone.wait_for(lambda: not self._wires, grace)
            for wire in self._wires:
                wire.cancel()
            self._gone.wait_for(lambda: not self._wires, _GRACE)

    def _accept(self, door: socket.socket) -> None:
        while not self._closed:
            try:
                plain, _ = door.accept()
            except TimeoutError:
                continue
            except OSError:
                time.sleep(_PAUSE)  # closed, or out of file descriptors
                continue
            with self._lock:
                if len(self._strangers) >= STRANGERS:
                    oldest = next(iter(self._strangers))
                    del self._strangers[oldest]
                    hang_up(oldest)
                self._strangers[plain] = None
            stream = threading.Thread(
                target=self._open, args=(plain,), name="isthmus-stream", daemon=True
            )
            try:
                stream.start()
            except RuntimeError:  # the system gives us no more threads; it may later
                with self._lock:
                    self._strangers.pop(plain, None)
                plain.close()

    def _open(self, plain: socket.socket) -> None:
        """Serve one connection."""
        line = self._shake_hands(plain)
        if line is None:
            return
        partner = self._partner_of(line)
        if partner is None:
            line.close()
            return
        try:
            wire = Wire(line)
        except OSError:
            return
        with self._lock:
            self._wires.add(wire)
        try:
            if not self._closed and self._doorman.admit(partner.name, wire):
                try:
                    self._converse(wire, partner)
                finally:
                    self._doorman.leave(partner.name, wire)
        finally:
            wire.close()
            with self._gone:
                self._wires.discard(wire)
                self._gone.notify_all()

    def _shake_hands(self, plain: socket.socket) -> ssl.SSLSocket | None:
        """The connection under TLS; None where the other side has no certificate we trust."""
        line = plain
        try:
            plain.settimeout(HELLO_SECONDS)
            # Of one that is broken already `wrap_socket` fails with its file descriptor left open.
            plain.getpeername()
            line = self._context.wrap_socket(plain, True, do_handshake_on_connect=False)
            with self._lock:
                # Wrapping has emptied `plain`.
                if self._strangers.pop(plain, self) is not self:
                    self._strangers[line] = None
                else:
                    hang_up(line)
            line.do_handshake()
            return line
        except OSError as error:
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                farewell(line, _FAREWELL)
            line.close()
            return None
        finally:
            with self._lock:
                self._strangers.pop(plain, None)
                self._strangers.pop(line, None)

    def _converse(self, wire: Wire, partner: TrustedPartner) -> None:
        """Read the hello, and then what comes for the link that it belongs to."""
        try:
            with closing(wire.frames()) as frames:
                link = self._welcome(frames, wire, partner)
                if isinstance(link, RemoteLink):
                    try:
                        for data in frames:
                            link.on_frame(wire, data)
                    finally:
                        link.detach(wire)
            if isinstance(link, Refusal):
                wire.put(link.frame())
                wire.linger(_FAREWELL)
        except OSError:
            pass  # the stream broke; the partner will come back or be given up

    def _welcome(
        self, frames: Iterator[Buffer], wire: Wire, partner: TrustedPartner
    ) -> RemoteLink | Refusal | None:
        """Read the hello and give the stream to the link it belongs to; None: end it."""
        with self._lock:
            link = self._links.get(partner.name)
        if link is None:
            # Without waiting for its hello: whoever has no part in the job holds nothing open.
            return Refusal(NOT_READY, "")
        data = next(frames, None)
        if data is None:
            return None
        try:
            hello = read_hello(parse(data), partner.name)
            refusal = self._check(hello, partner, link)
            if refusal is None:
                link.attach(wire, hello, answer=True)
                self._doorman.welcome(wire)
                return link
        except (BadMessage, VersionMismatch) as error:
            _tell(link, error)
            return Refusal(error.code, "")
        return refusal

    def _partner_of(self, line: ssl.SSLSocket) -> TrustedPartner | None:
        """The trusted partner whose certificate the other side has proved to hold."""
        with suppress(ValueError):
            certificate = x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b"")
            for partner in self._partners.values():
                if partner.is_same(certificate):
                    return partner
        return None

    def _check(self, hello: Hello, partner: TrustedPartner, link: RemoteLink) -> Refusal | None:
        """Why the stream cannot go on; None where it can."""
        if hello.party != partner.name or hello.partner != self.me:
            return Refusal(UntrustedPartner.code, "")
        if link.over.is_set():
            return Refusal(NOT_READY, "")
        if hello.context != link.context:
            _tell(link, job_mismatch(partner.name, link.context, hello.context))
            return Refusal(JobMismatch.code, link.context)
        if hello.knows not in ("", link.incarnation):
            return Refusal(STALE, "")
        if link.is_connected and hello.incarnation != link.partner_incarnation:
            link.lose(restarted(partner.name))
            return Refusal(STALE, "")
        return None


def _tell(link: RemoteLink, error: IsthmusError) -> None:
    """End the link that was waited for, unless it is in use: then the intruder is just refused."""
    if not link.is_connected:
        link.lose(error)


def _tls(folder: Path, me: str, partners: Mapping[str, TrustedPartner]) -> ssl.SSLContext:
    identity = load_identity(folder, me)
    check_dates(identity.certificate, me, own=True)
    now = datetime.now(UTC)
    valid = [p for p in partners.values() if p.certificate.not_valid_after_utc > now]
    if not valid:
        raise IdentityError(
            f"{me} trusts no partner's certificate that is still valid",
            mend="Trust the partners' certificates with `isthmus identity trust`.",
        )
    return server_context(identity, valid)
