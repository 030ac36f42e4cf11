"""The side that listens: one port for any number of partners, each checked against its own pin."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
from isthmus.link.identity import (
    TrustedPartner,
    check_dates,
    load_identity,
    trusted_partners,
)
from isthmus.link.remote.address import split_address, with_port
from isthmus.link.remote.dialer import HELLO_SECONDS
from isthmus.link.remote.doorman import STREAMS_OF_A_PARTNER, Doorman
from isthmus.link.remote.frames import parse
from isthmus.link.remote.grpc_link import GrpcLink
from isthmus.link.remote.handshake import (
    NOT_READY,
    STALE,
    Hello,
    Refusal,
    job_mismatch,
    read_hello,
    restarted,
)
from isthmus.link.remote.runtime import (
    METHOD,
    SERVER_OPTIONS,
    SERVICE,
    DaemonThreads,
    grpc,
)
from isthmus.link.remote.wire import Wire


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
        self._links: dict[str, GrpcLink] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(
            DaemonThreads(),
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=STREAMS_OF_A_PARTNER * max(1, len(self._partners)),
        )
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._open
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )
        self.address = self._bind(_credentials(folder, me, self._partners), address)
        self._doorman = Doorman(HELLO_SECONDS)
        self._server.start()

    def serve(self, link: GrpcLink) -> None:
        """Accept the partner of `link` from now on, until the link is released."""
        with self._lock:
            if link.partner in self._links:
                raise LinkError(f"this listener serves a link to {link.partner} already")
            self._links[link.partner] = link

    def drop(self, link: GrpcLink) -> None:
        """Accept the partner of `link` no more."""
        with self._lock:
            if self._links.get(link.partner) is link:
                del self._links[link.partner]

    def close(self) -> None:
        """Stop listening; streams get a moment to end in good order. May be called twice."""
        self._doorman.close()
        self._server.stop(grace=1.0).wait()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bind(self, credentials: grpc.ServerCredentials, address: str) -> str:
        split_address(address)
        try:
            port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise LinkError(
                f"cannot listen at {address}",
                mend="Is another program using that port, or is the host name not of this machine?",
            )
        return with_port(address, port)

    def _open(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serve one stream; gRPC sends what this yields."""
        wire = Wire()
        wire.cancel = context.cancel
        if not context.add_callback(wire.end):
            return
        link = self._welcome(frames, context, wire)
        if isinstance(link, Refusal):
            yield link.frame()
            return
        if link is None:
            context.cancel()
            return
        reader = threading.Thread(
            target=_read, args=(link, wire, frames), name=f"read-{link.partner}", daemon=True
        )
        reader.start()
        yield from wire.outbound()

    def _welcome(
        self, frames: Iterator[bytes], context: grpc.ServicerContext, wire: Wire
    ) -> GrpcLink | Refusal | None:
        """Read the hello and give the stream to the link it belongs to; None: end it."""
        partner = self._partner_of(context)
        if partner is None:
            return Refusal(UntrustedPartner.code, "")
        if not self._doorman.admit(partner.name, context):
            return None
        with self._lock:
            link = self._links.get(partner.name)
        if link is None:
            # Without waiting for its hello: whoever has no part in the job holds nothing open.
            return Refusal(NOT_READY, "")
        try:
            data = next(frames, b"")
        except grpc.RpcError:
            return None
        try:
            hello = read_hello(parse(data), partner.name)
            refusal = self._check(hello, partner, link)
            if refusal is None:
                link.attach(wire, hello, answer=True)
                self._doorman.welcome(context)
                return link
        except (BadMessage, VersionMismatch) as error:
            _tell(link, error)
            return Refusal(error.code, "")
        return refusal

    def _partner_of(self, context: grpc.ServicerContext) -> TrustedPartner | None:
        """The trusted partner whose certificate the stream's peer has proved to hold."""
        (pem,) = context.auth_context().get("x509_pem_cert", (b"",))
        with suppress(ValueError):
            certificate = x509.load_pem_x509_certificate(bytes(pem))
            for partner in self._partners.values():
                if partner.is_same(certificate):
                    return partner
        return None

    def _check(self, hello: Hello, partner: TrustedPartner, link: GrpcLink) -> Refusal | None:
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


def _read(link: GrpcLink, wire: Wire, frames: Iterator[bytes]) -> None:
    try:
        for data in frames:
            link.on_frame(wire, data)
    except grpc.RpcError:
        pass  # the stream broke; the partner will come back or be given up
    finally:
        link.detach(wire)
        wire.end()


def _tell(link: GrpcLink, error: IsthmusError) -> None:
    """End the link that was waited for, unless it is in use: then the intruder is just refused."""
    if not link.is_connected:
        link.lose(error)


def _credentials(
    folder: Path, me: str, partners: Mapping[str, TrustedPartner]
) -> grpc.ServerCredentials:
    identity = load_identity(folder, me)
    check_dates(identity.certificate, me, own=True)
    now = datetime.now(UTC)
    valid = [p for p in partners.values() if p.certificate.not_valid_after_utc > now]
    if not valid:
        raise IdentityError(
            f"{me} trusts no partner's certificate that is still valid",
            mend="Trust the partners' certificates with `isthmus identity trust`.",
        )
    return grpc.ssl_server_credentials(
        [(identity.key_pem(), identity.certificate_pem())],
        root_certificates=b"".join(partner.certificate_pem() for partner in valid),
        require_client_auth=True,
    )
