"""Texts of a partner, before they enter a message: short, and without a terminal's commands."""

from __future__ import annotations


def printable(text: str, length: int) -> str:
    """The printable ones of the first `length` characters: no escapes, line ends or bidi marks."""
    return "".join(c for c in text[:length] if c.isprintable())
