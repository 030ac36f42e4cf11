"""Links: ordered, typed, metered lanes of messages between two parties."""

from isthmus.link.base import Array, Header, Link, Message
from isthmus.link.codec import decode, encode
from isthmus.link.memory import memory_links
from isthmus.link.meter import Meter, TopicMeter
from isthmus.link.transcript import Transcript

__all__ = [
    "Array",
    "Header",
    "Link",
    "Message",
    "Meter",
    "TopicMeter",
    "Transcript",
    "decode",
    "encode",
    "memory_links",
]
