"""The side that dials: makes streams to one partner until the link needs none any more."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from isthmus.errors import IsthmusError, PartnerAbsent, PartnerGone, UntrustedPartner
from isthmus.link.identity import Identity, TrustedPartner
from isthmus.link.remote.frames import Frame, Kind, parse, read_note
from isthmus.link.remote.handshake import (
    NOT_READY,
    STALE,
    Hello,
    job_mismatch,
    read_hello,
    refused_error,
    restarted,
)
from isthmus.link.remote.probe import probe
from isthmus.link.remote.remote_link import RemoteLink
from isthmus.link.remote.tls import client_context, dial, is_refusal
from isthmus.link.remote.wire import Wire

HELLO_SECONDS = 10.0
"""How long a connection may take until the first frame."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class _TryAgain(Exception):
    """The listener is there but not ready for us."""


class Dialer:
    """Keeps one link supplied with a stream to `address`."""

    def __init__(
        self, link: RemoteLink, address: str, identity: Identity, partner: TrustedPartner
    ) -> None:
        self.obstacle: IsthmusError = PartnerAbsent(f"{partner.name} did not answer at {address}")
        """What the last attempt ran into."""
        self._link = link
        self._address = address
        self._identity = identity
        self._partner = partner
        self._context = client_context(identity, partner)
        self._wire: Wire | None = None
        self._thread = threading.Thread(target=self._run, name=f"dial-{partner.name}", daemon=True)

    def start(self) -> None:
        """Begin to dial, in a thread of its own."""
        self._link.release = self.stop
        self._thread.start()

    def stop(self) -> None:
        """Wait a moment for the stream to end in good order, then end it."""
        if threading.current_thread() is self._thread:
            return
        self._thread.join(1.0)
        wire = self._wire
        if wire is not None:
            wire.cancel()
        self._thread.join(1.0)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self._link.wants_stream:
            began = time.monotonic()
            try:
                self._attempt()
            except IsthmusError as error:
                self._link.lose(error)
            if time.monotonic() - began > HELLO_SECONDS:
                pause = _FIRST_PAUSE
            self._link.over.wait(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _attempt(self) -> None:
        """One stream from dial to end. Returns where another attempt may help.

        Raises:
            IsthmusError: no other attempt will help.
        """
        try:
            wire = Wire(dial(self._address, self._context, self._partner.name, HELLO_SECONDS))
        except OSError:
            return self._look_into()
        self._wire = wire
        impatience = threading.Timer(HELLO_SECONDS, wire.cancel)
        impatience.daemon = True
        impatience.start()
        wire.put(self._link.hello().frame())
        try:
            with closing(wire.frames()) as frames:
                hello = self._read_answer(parse(next(frames)))
                impatience.cancel()
                self._link.attach(wire, hello, answer=False)
                for data in frames:
                    self._link.on_frame(wire, data)
        except (OSError, StopIteration) as error:
            self._look_into(error)
        except _TryAgain:
            pass
        finally:
            impatience.cancel()
            self._link.detach(wire)
            wire.close()

    def _read_answer(self, frame: Frame) -> Hello:
        name, link = self._partner.name, self._link
        if frame.kind is Kind.REFUSE:
            self._read_refusal(frame)
        hello = read_hello(frame, name)
        if hello.party != name or hello.partner != link.me:
            raise UntrustedPartner(f"{name} speaks under another name")
        if hello.context != link.context:
            raise job_mismatch(name, link.context, hello.context)
        if link.is_connected and hello.incarnation != link.partner_incarnation:
            raise restarted(name)
        return hello

    def _read_refusal(self, frame: Frame) -> None:
        name, link = self._partner.name, self._link
        note = read_note(frame)
        error = refused_error(note, name, link.context)
        code = note.get("code")
        if link.is_connected and code == STALE:
            raise restarted(name)
        if link.is_connected and code == NOT_READY:
            raise PartnerGone(f"{name} has given up this session")
        if code not in (STALE, NOT_READY):
            raise error
        self.obstacle = PartnerAbsent(f"{name} is there, but not ready for this party yet")
        raise _TryAgain

    def _look_into(self, error: Exception | None = None) -> None:
        """After an attempt that failed: is it worth waiting?"""
        if self._link.is_connected or not self._link.wants_stream:
            return
        name = self._partner.name
        if error is not None and is_refusal(error):
            raise UntrustedPartner(
                f"{name} does not trust this party's certificate ({self._identity.fingerprint})",
                mend=f"{name} must trust it with `isthmus identity trust`, "
                "after comparing fingerprints by voice.",
            )
        self.obstacle = probe(self._address, self._partner)
        if isinstance(self.obstacle, UntrustedPartner):
            raise self.obstacle
