"""The first frame of each side: who speaks, which protocol, for which job, from where to go on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.errors import (
    BadMessage,
    IsthmusError,
    JobMismatch,
    LinkError,
    PartnerGone,
    UntrustedPartner,
    VersionMismatch,
)
from isthmus.link.printable import printable
from isthmus.link.remote.frames import Frame, Kind, pack_note, read_note

PROTOCOL = 2
"""Version of the wire protocol described in docs/links.md."""

NOT_READY = "link.not-ready"
"""Refusal: the listener does not wait for this party (yet)."""
STALE = "link.stale"
"""Refusal: the session belongs to another incarnation of the dialler, or of the listener."""

_NAME = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_-]+$")
_NONCE = Field(max_length=64, pattern=r"^[0-9a-f]*$")

CONTEXT = re.compile(r"[!-~]{0,256}")
"""What a context may be: ASCII without spaces and control characters."""


class Hello(BaseModel):
    """What each side says first."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    protocol: int
    party: str = _NAME
    """Who speaks."""
    partner: str = _NAME
    """Whom it means to speak to."""
    incarnation: str = _NONCE
    """Random, one per start of the party's program."""
    knows: str = _NONCE
    """The partner's incarnation it had a stream with before; empty at first."""
    context: str = Field(pattern=f"^{CONTEXT.pattern}$")
    """Digest of the job; must be equal on both sides."""
    window: int = Field(gt=0)
    """Bytes of unread messages the speaker is willing to hold."""
    received: int = Field(ge=0)
    """The sequence number it expects next."""
    read: int = Field(ge=0)
    """Cost of all messages its application has read."""

    def frame(self) -> bytes:
        """The HELLO frame."""
        return pack_note(Kind.HELLO, self.model_dump())


@dataclass(frozen=True)
class Refusal:
    """Why a listener does not go on after a hello."""

    code: str
    reason: str

    def frame(self) -> bytes:
        """The REFUSE frame; it says which protocol we speak, whatever the reason."""
        note = {"protocol": PROTOCOL, "code": self.code, "reason": self.reason}
        return pack_note(Kind.REFUSE, note)


def read_hello(frame: Frame, speaker: str) -> Hello:
    """The hello in a frame.

    Raises:
        VersionMismatch: the partner speaks another protocol.
        BadMessage: it is no hello.
    """
    if frame.kind is not Kind.HELLO:
        raise BadMessage(f"{speaker} sent another frame where its hello belongs")
    note = read_note(frame)
    check_protocol(note.get("protocol"), speaker)
    try:
        return Hello.model_validate(note)
    except ValidationError:
        raise BadMessage(f"{speaker} sent a malformed hello") from None


def check_protocol(theirs: Any, speaker: str) -> None:
    """Check the partner's protocol version, before anything else it says is looked at.

    Raises:
        VersionMismatch: it is not ours.
    """
    if type(theirs) is not int or not 0 <= theirs < 1 << 32:
        raise BadMessage(f"{speaker} sent a malformed hello")
    if theirs != PROTOCOL:
        raise VersionMismatch(
            f"{speaker} speaks protocol version {theirs}, this side version {PROTOCOL}",
            mend="Install the same version of isthmus on both sides.",
        )


def job_mismatch(partner: str, context: str, theirs: str | None) -> JobMismatch:
    """The two sides hold different jobs."""
    # Long enough for a version and the beginning of a hash.
    other = f" (here {context[:24]}, there {printable(theirs, 24)})" if theirs else ""
    return JobMismatch(
        f"{partner} holds a different job{other}",
        mend="Compare the two job files; both sides need the same content.",
    )


def restarted(partner: str) -> PartnerGone:
    """The partner's program is another one than the one we were connected to."""
    return PartnerGone(
        f"{partner} has restarted, so what this side had agreed with it is lost",
        mend="Start this side again too; a job that keeps checkpoints goes on from the last one.",
    )


def refused_error(note: dict[str, Any], partner: str, context: str) -> IsthmusError:
    """A REFUSE frame as the dialler's error."""
    check_protocol(note.get("protocol"), partner)
    code = note.get("code")
    if code == JobMismatch.code:
        theirs = note.get("reason")
        return job_mismatch(partner, context, theirs if isinstance(theirs, str) else None)
    if code == UntrustedPartner.code:
        return UntrustedPartner(
            f"{partner} does not accept this party's certificate under this party's name",
            mend="Compare fingerprints: `isthmus identity show` here, "
            f"`isthmus identity trust` at {partner}.",
        )
    if code == BadMessage.code:
        return BadMessage(f"{partner} could not read this side's hello")
    return LinkError(f"{partner} refused the connection")
