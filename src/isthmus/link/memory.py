"""The carrier inside one process: a message goes straight into the partner's inbox."""

from __future__ import annotations

from isthmus.errors import code_of, public_reason
from isthmus.link.base import Link
from isthmus.link.codec import Encoded
from isthmus.link.lane import WINDOW, Lane, partner_failed, partner_left
from isthmus.link.transcript import Transcript


def memory_links(
    a: str,
    b: str,
    *,
    timeout: float = 60.0,
    window: int = WINDOW,
    transcripts: tuple[Transcript | None, Transcript | None] = (None, None),
) -> tuple[Link, Link]:
    """Two ends of one link: that of `a` to `b`, and that of `b` to `a`.

    Messages are encoded and decoded as on the wire, so both carriers meter and refuse alike.

    Args:
        a: name of the first party.
        b: name of the second party.
        timeout: seconds that `recv`, and `send` with a full window, wait.
        window: bytes of messages the partner has not read yet, before `send` waits.
        transcripts: where each end records what it sends.
    """
    to_b = MemoryLink(a, b, timeout=timeout, window=window, transcript=transcripts[0])
    to_a = MemoryLink(b, a, timeout=timeout, window=window, transcript=transcripts[1])
    to_b._peer, to_a._peer = to_a, to_b
    return to_b, to_a


class MemoryLink(Lane):
    """One end of a link within a process; made by `memory_links`."""

    _peer: MemoryLink

    def _transmit(self, encoded: Encoded) -> None:
        self._peer._deliver(encoded.join())

    def _after_read(self) -> None:
        self._peer._freed(self._read_cost)

    def _say_goodbye(self, error: BaseException | None) -> None:
        with self._sending:
            if error is None:
                self._peer._finish(partner_left(self.me))
            else:
                self._peer._finish(partner_failed(self.me, code_of(error), public_reason(error)))
