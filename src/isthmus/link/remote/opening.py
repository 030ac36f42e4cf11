"""Opening the links of one party to all its partners, and waiting until everyone is there."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from isthmus.errors import IdentityError, IsthmusError, LinkError, PartnerAbsent, PartnerFailed
from isthmus.link.base import Link
from isthmus.link.deadlines import DEFAULT_DEADLINES, Deadlines
from isthmus.link.identity import (
    Identity,
    TrustedPartner,
    check_dates,
    load_identity,
    trusted_partner,
)
from isthmus.link.lane import WINDOW
from isthmus.link.remote.address import split_address
from isthmus.link.remote.dialer import Dialer
from isthmus.link.remote.handshake import CONTEXT
from isthmus.link.remote.listener import Listener
from isthmus.link.remote.remote_link import RemoteLink
from isthmus.link.transcript import Transcript

_FIRST_WORD = 1.0
_NEXT_WORDS = 10.0


def open_links(
    folder: Path,
    me: str,
    partners: Mapping[str, str | None],
    *,
    listen: str | Listener | None = None,
    context: str = "",
    deadlines: Deadlines = DEFAULT_DEADLINES,
    window: int = WINDOW,
    transcript: Transcript | None = None,
    on_wait: Callable[[str], None] = lambda text: None,
) -> dict[str, Link]:
    """Connect to every partner over mutual TLS and return the links by partner.

    Args:
        folder: this party's identity folder.
        me: this party's name.
        partners: for each partner its `host:port` to dial, or None where it dials us.
        listen: `host:port` to listen at (the listener then closes with the last link), or a
            `Listener`, whose `address` is known beforehand and which stays open.
        context: what all parties must agree on, the job's hash: at most 256 ASCII characters,
            without spaces.
        deadlines: how long to wait for what.
        window: bytes of messages the partner has not read yet, before `send` waits.
        transcript: where what is sent to any partner is recorded.
        on_wait: told in a sentence whom we wait for.

    Raises:
        IdentityError: an identity or certificate is missing, broken or expired.
        PartnerAbsent: a partner did not come in time.
        UntrustedPartner: a partner's certificate is not the trusted one, or ours is not trusted.
        VersionMismatch: a partner speaks another protocol version.
        JobMismatch: a partner came with another context.
        LinkError: an address cannot be used.
        ValueError: `context` is too long or holds other characters.
    """
    if not CONTEXT.fullmatch(context):
        raise ValueError(f"{context!r} cannot be a context")
    opening = _Opening(folder, me, partners, deadlines, on_wait)
    own = Listener(folder, me, listen) if isinstance(listen, str) else None
    listener = own or (listen if isinstance(listen, Listener) else None)
    incarnation = secrets.token_hex(16)
    for partner in partners:
        opening.links[partner] = RemoteLink(
            me,
            partner,
            incarnation=incarnation,
            context=context,
            deadlines=deadlines,
            window=window,
            transcript=transcript,
            say=on_wait,
            changed=opening.changed.set,
        )
    try:
        opening.start(listener, own)
        opening.wait()
    except BaseException as error:
        for link in opening.links.values():
            link.fail(error)
        if own is not None:
            own.close()
        raise
    return dict(opening.links)


class _Opening:
    """The links of one party while they are being opened."""

    def __init__(
        self,
        folder: Path,
        me: str,
        partners: Mapping[str, str | None],
        deadlines: Deadlines,
        on_wait: Callable[[str], None],
    ) -> None:
        self.links: dict[str, RemoteLink] = {}
        self.changed = threading.Event()
        self._partners = partners
        self._deadlines = deadlines
        self._on_wait = on_wait
        self._dialers: dict[str, Dialer] = {}
        self._identity, self._trusted = _checked(folder, me, partners)

    def start(self, listener: Listener | None, own: Listener | None) -> None:
        """Listen for those who dial us, and dial the others."""
        waiting = set(self.links)
        for partner, address in self._partners.items():
            link = self.links[partner]
            if address is not None:
                dialer = Dialer(link, address, self._identity, self._trusted[partner])
                self._dialers[partner] = dialer
                dialer.start()
            elif listener is None:
                raise LinkError(
                    f"{partner} is to dial {link.me}, but {link.me} does not listen",
                    mend="Give an address to listen at, or the partner's address.",
                )
            else:
                link.release = _releaser(link, listener, own, waiting)
                listener.serve(link)

    def wait(self) -> None:
        """Until every partner has come."""
        began = time.monotonic()
        speak_at = began + _FIRST_WORD
        while absent := [p for p, link in self.links.items() if not link.is_connected]:
            self._raise_failure()
            now = time.monotonic()
            if now >= began + self._deadlines.connect:
                raise self._absent(absent)
            if now >= speak_at:
                self._on_wait(self._waiting_for(absent, now - began))
                speak_at = now + _NEXT_WORDS
            self.changed.wait(min(speak_at, began + self._deadlines.connect) - now)
            self.changed.clear()
        self._raise_failure()

    def _raise_failure(self) -> None:
        for link in self.links.values():
            ending = link.ending
            # One that came, sent all it had and left in good order is no failure.
            if ending and (not link.is_connected or isinstance(ending, PartnerFailed)):
                raise ending

    def _waiting_for(self, absent: list[str], seconds: float) -> str:
        who = ", ".join(
            f"{p} at {self._partners[p]}" if self._partners[p] else f"{p} to dial" for p in absent
        )
        left = self._deadlines.connect - seconds
        return f"waiting for {who} (up to {left:.0f} s more)"

    def _absent(self, absent: list[str]) -> IsthmusError:
        partner = absent[0]
        within = f"within {self._deadlines.connect:g} s"
        dialer = self._dialers.get(partner)
        if dialer is not None:
            return PartnerAbsent(
                f"{partner} did not come {within}: {dialer.obstacle.message}",
                mend=f"Start {partner}'s side, and check its address and any firewall.",
            )
        return PartnerAbsent(
            f"{partner} did not dial {within}",
            mend=f"Start {partner}'s side. If it did try, with a certificate that is not trusted "
            "here, this side could not see it: compare the fingerprint trusted here for "
            f"{partner} ({self._trusted[partner].fingerprint}) with `isthmus identity show` there.",
        )


def _releaser(
    link: RemoteLink, listener: Listener, own: Listener | None, waiting: set[str]
) -> Callable[[], None]:
    """How to end a listening link; the last one closes a listener of our own."""

    def release() -> None:
        listener.drop(link)
        waiting.discard(link.partner)
        if own is not None and not waiting:
            own.close()

    return release


def _checked(
    folder: Path, me: str, partners: Mapping[str, str | None]
) -> tuple[Identity, dict[str, TrustedPartner]]:
    """Our identity and the partners', all valid today."""
    identity = load_identity(folder, me)
    check_dates(identity.certificate, me, own=True)
    trusted = {}
    for name, address in partners.items():
        partner = trusted_partner(folder, name)
        if partner is None:
            raise IdentityError(
                f"{me} trusts no certificate of {name} (looked in {folder / 'trusted'})",
                mend=f"Ask {name} for it, then use `isthmus identity trust`.",
            )
        check_dates(partner.certificate, name, own=False)
        trusted[name] = partner
        if address is not None:
            split_address(address)
    return identity, trusted
