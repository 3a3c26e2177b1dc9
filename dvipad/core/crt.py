"""Bookkeeping of the CRT: who still owes its connections. The CRT itself lives in the data plane.

A node that takes a DVIPA over, or is about to, collects the connections of every node (D8, D9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dvipad.address import Address
from dvipad.wire.messages import MAX_CONNECTIONS, NewConn

KEY_SIZE: Final = 36
"""Bytes of one packed CRT key."""
COLLECT_ATTEMPTS: Final = 10
"""After so many times `collect_ms` a member that lives and does not answer is not awaited."""


@dataclass(slots=True)
class Collection:
    """Snapshots that are awaited for one claim: `awaiting` names nodes, this one included."""

    epoch: int
    started_ms: int
    awaiting: set[str]
    own_effect: int
    keys: dict[str, list[bytes]] = field(default_factory=dict)
    first_ms: dict[str, int] = field(default_factory=dict)

    def received(self, name: str, message: NewConn, now_ms: int) -> tuple[bytes, int] | None:
        """Part of a snapshot from `name`.

        When it is complete: all its keys, and when its first part came; else None.
        """
        parts = self.keys.setdefault(name, [])
        parts.append(message.established + message.embryonic)
        first_ms = self.first_ms.setdefault(name, now_ms)
        if not message.last:
            return None
        self.awaiting.discard(name)
        del self.first_ms[name]
        return b"".join(self.keys.pop(name)), first_ms

    def complete(self, now_ms: int, collect_ms: int) -> bool:
        """Whether nobody owes anything, or those who do had far more time than they need."""
        return not self.awaiting or now_ms >= self.deadline(collect_ms)

    def deadline(self, collect_ms: int) -> int:
        """When waiting ends in any case."""
        return self.started_ms + COLLECT_ATTEMPTS * collect_ms


def batches(
    dvipa: Address,
    epoch: int,
    target: Address,
    established: bytes,
    embryonic: bytes,
    *,
    snapshot: bool,
) -> Iterator[NewConn]:
    """NEWCONN messages for these keys, each within the limit of the wire; at least one."""
    size = MAX_CONNECTIONS * KEY_SIZE
    first = [established[at : at + size] for at in range(0, len(established), size)]
    second = [embryonic[at : at + size] for at in range(0, len(embryonic), size)]
    parts = [(part, b"") for part in first] + [(b"", part) for part in second] or [(b"", b"")]
    for index, (old, new) in enumerate(parts):
        last = snapshot and index == len(parts) - 1
        yield NewConn(dvipa, epoch, target, old, new, snapshot, last)
