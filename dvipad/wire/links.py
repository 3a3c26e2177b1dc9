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
    """Hosts whose daemon cannot take part, by address, and why; each is told once."""

    def __init__(self) -> None:
        self._reasons: dict[Address, str] = {}

    def refused(self, address: Address, fault: str, reason: str) -> list[Misfit]:
        """A session with a node at `address` was refused; what the log is to hear of it."""
        if fault not in _MISFITS or self._reasons.get(address) == reason:
            return []
        if len(self._reasons) >= MAX_MISFITS:
            del self._reasons[next(iter(self._reasons))]
        self._reasons[address] = reason
        return [Misfit(address, reason)]

    def fits(self, address: Address) -> None:
        """A session with a node at `address` is open."""
        self._reasons.pop(address, None)

    def reasons(self) -> dict[Address, str]:
        """All of them."""
        return dict(self._reasons)
