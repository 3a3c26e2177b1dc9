"""What operators see of the mesh: sessions that are open, and peers that are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.address import Address
from dvipad.wire.actions import Misfit
from dvipad.wire.errors import Fault
from dvipad.wire.messages import Status

MAX_MISFITS: Final = 128
"""Addresses of which is remembered why they are refused; the oldest makes room."""
FORGET_MS: Final = 60_000
"""Who did not try again for so long has gone."""
_MISFITS: Final = (Fault.VERSION, Fault.CLUSTER)
"""Faults that stay until somebody sets them right."""


@dataclass(frozen=True, slots=True)
class Link:
    """A session that is open. `silence_ms`: the longest of the last minute or two; `deaf`: the
    peer's heartbeats by UDP do not arrive; `version`: of the protocol, which both ends agreed on;
    `status`: what the peer said of itself, None if that version has no such message."""

    peer: str
    connection_id: int
    silence_ms: int
    deaf: bool
    version: int
    status: Status | None


class Misfits:
    """Hosts whose daemon cannot take part, by address, and why; each is told once while it tries,
    whatever it says: a stranger does not fill the log."""

    def __init__(self) -> None:
        self._seen: dict[Address, tuple[str, int]] = {}

    def refused(self, address: Address, fault: str, reason: str, now_ms: int) -> list[Misfit]:
        """A session with a node at `address` was refused; what the log is to hear of it."""
        if fault not in _MISFITS:
            return []
        known = address in self.reasons(now_ms)
        self._seen.pop(address, None)
        if len(self._seen) >= MAX_MISFITS:
            del self._seen[next(iter(self._seen))]
        self._seen[address] = reason, now_ms
        return [] if known else [Misfit(address, reason)]

    def fits(self, address: Address) -> None:
        """A session with a node at `address` is open."""
        self._seen.pop(address, None)

    def reasons(self, now_ms: int) -> dict[Address, str]:
        """Those that there are."""
        return {
            address: reason
            for address, (reason, seen_ms) in self._seen.items()
            if now_ms - seen_ms < FORGET_MS
        }
