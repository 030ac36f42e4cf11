"""Isthmus' own messages inside Flower's: bytes that are decoded with every check, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, RecordDict
from pydantic import BaseModel

from isthmus.errors import BadMessage
from isthmus.fedrec.devices.wire import Array
from isthmus.link import Message, decode, encode

RECORD = "isthmus"
TOPIC = "fedrec"


def sealed(words: BaseModel, arrays: Mapping[str, Array]) -> bytes:
    """A message as bytes."""
    return bytes(encode(TOPIC, arrays, words.model_dump(mode="json")))


def record(**parts: bytes | list[bytes]) -> RecordDict:
    """Flower's content with these parts."""
    config: dict[str, Any] = dict(parts)
    return RecordDict({RECORD: ConfigRecord(config)})


def part(content: RecordDict, name: str) -> Any:
    """A part of Flower's content. Raises BadMessage where it is missing."""
    found = content.config_records.get(RECORD, {})
    if name not in found:
        raise BadMessage(f"the message has no {name}")
    return found[name]


def opened(value: Any) -> Message:
    """Bytes as a message. Raises BadMessage."""
    if not isinstance(value, bytes):
        raise BadMessage("a message is not bytes")
    return decode(value)
