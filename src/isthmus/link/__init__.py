"""Links: ordered, typed, metered lanes of messages between two parties."""

from isthmus.link.base import Array, Header, Link, Message
from isthmus.link.codec import decode, encode
from isthmus.link.deadlines import Deadlines
from isthmus.link.identity import (
    Identity,
    TrustedPartner,
    create_identity,
    fingerprint,
    load_identity,
    trust,
    trusted_partners,
)
from isthmus.link.memory import memory_links
from isthmus.link.meter import Meter, TopicMeter
from isthmus.link.remote.listener import Listener
from isthmus.link.remote.opening import open_links
from isthmus.link.transcript import Transcript

__all__ = [
    "Array",
    "Deadlines",
    "Header",
    "Identity",
    "Link",
    "Listener",
    "Message",
    "Meter",
    "TopicMeter",
    "Transcript",
    "TrustedPartner",
    "create_identity",
    "decode",
    "encode",
    "fingerprint",
    "load_identity",
    "memory_links",
    "open_links",
    "trust",
    "trusted_partners",
]
