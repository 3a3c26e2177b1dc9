"""Whom to dial and when: the addresses of peers, with back-off, without I/O and randomness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from dvipad.address import Address

MAX_ENDPOINTS: Final = 256
"""Addresses of peers known at once; when they are more, learnt ones without a session make room."""
QUICK_MS: Final = 3000
"""How long a lost peer is dialled at the shortest interval, for evidence that its host lives."""
QUICK_DIAL_MS: Final = 300
"""How long such a dial may take: a SYN that is lost must not cost the kernel's second."""
DIAL_MS: Final = 1000
"""How long any other dial may take: the kernel repeats a SYN after a second, the mesh itself
tries again about then, and a link that is back is found sooner."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens: its XCF address (or another one of it) and port."""

    address: Address
    port: int

    def __str__(self) -> str:
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{shown}:{self.port}"


@dataclass(slots=True)
class _Target:
    """What is known of one endpoint; `name` once its node has said it, or another node has."""

    seed: bool
    next_ms: int
    name: str | None = None
    busy: bool = False
    attempts: int = 0
    quick_until_ms: int = 0
    evidence: bool = False


class Redial:
    """The endpoints of all peers and their back-off.

    A target is dialled when it is due, not busy (dialling, or a connection in its handshake),
    and its node is not up. Intervals double from `min_ms` to `max_ms`; the jitter, which only
    shortens them, comes from the name of this node and the attempt, so that it can be replayed.
    """

    def __init__(
        self, name: str, seeds: tuple[Endpoint, ...], min_ms: int, max_ms: int, now_ms: int
    ) -> None:
        self._name = name
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._targets = {endpoint: _Target(True, now_ms) for endpoint in seeds}
        self._up: set[str] = set()

    # --- what is known ------------------------------------------------------------------------

    def learn(self, name: str, endpoint: Endpoint, now_ms: int) -> bool:
        """Another node says that node `name` is at `endpoint`; False when there is no room."""
        if name in self._up:
            return True
        target = self._targets.get(endpoint)
        if target is None:
            if not self._make_room():
                return False
            self._targets[endpoint] = target = _Target(False, now_ms)
        if target.name != name:
            target.name = name
            self._forget_others(name, endpoint)
        return True

    def identify(self, endpoint: Endpoint, name: str) -> None:
        """The node that answered at `endpoint` is `name`."""
        if endpoint in self._targets:
            self._targets[endpoint].name = name

    def up(self, name: str, endpoint: Endpoint, now_ms: int) -> None:
        """A session with node `name`, which listens at `endpoint`, is open."""
        self.learn(name, endpoint, now_ms)
        self._up.add(name)
        for _, target in self._of(name):
            target.attempts = 0
            target.evidence = False
            target.quick_until_ms = 0

    def down(self, name: str, endpoint: Endpoint, lost: bool, now_ms: int) -> None:
        """The session with node `name`, which listened at `endpoint`, is over.

        `lost`: its host lived then, so it is asked quickly whether it still does.
        """
        self._up.discard(name)
        for _, target in self._of(name):
            target.next_ms = now_ms + self._min_ms
        home = self._targets.get(endpoint)
        if home is not None:
            home.evidence = lost
            home.quick_until_ms = now_ms + QUICK_MS if lost else 0

    # --- dialling -----------------------------------------------------------------------------

    def due(self, now_ms: int) -> Iterator[tuple[Endpoint, int]]:
        """Endpoints to dial now, each with the time (ms) it may take; they are busy then."""
        for endpoint, target in self._targets.items():
            if self._waits(target) and target.next_ms <= now_ms:
                target.busy = True
                yield endpoint, QUICK_DIAL_MS if now_ms < target.quick_until_ms else DIAL_MS

    def failed(self, endpoint: Endpoint, now_ms: int) -> None:
        """Dialling failed, or the connection ended before its session opened."""
        target = self._targets.get(endpoint)
        if target is None:
            return
        target.busy = False
        if now_ms < target.quick_until_ms:
            target.next_ms = now_ms + self._min_ms
            return
        target.attempts += 1
        target.next_ms = now_ms + self._interval_ms(endpoint, target.attempts)

    def done(self, endpoint: Endpoint) -> None:
        """The connection that was dialled carries an open session, or such a one has ended."""
        if endpoint in self._targets:
            self._targets[endpoint].busy = False

    def awaited(self, endpoint: Endpoint) -> str | None:
        """The node whose host is shown alive by an answer from `endpoint`; None: nobody's."""
        target = self._targets.get(endpoint)
        if target is None or not target.evidence or target.name in self._up:
            return None
        return target.name

    def deadline(self) -> int | None:
        """When (ms) the next endpoint is due."""
        return min(
            (target.next_ms for target in self._targets.values() if self._waits(target)),
            default=None,
        )

    # --- inside -------------------------------------------------------------------------------

    def _waits(self, target: _Target) -> bool:
        return not target.busy and (target.name is None or target.name not in self._up)

    def _of(self, name: str) -> list[tuple[Endpoint, _Target]]:
        return [item for item in self._targets.items() if item[1].name == name]

    def _interval_ms(self, endpoint: Endpoint, attempt: int) -> int:
        interval_ms = min(self._max_ms, self._min_ms << min(attempt - 1, 20))
        seed = crc32(f"{self._name} {endpoint} {attempt}".encode())
        return max(1, interval_ms - seed % (interval_ms // 4 + 1))

    def _forget_others(self, name: str, endpoint: Endpoint) -> None:
        """The node has moved: its former learnt endpoints are nobody's."""
        for other, target in self._of(name):
            if other != endpoint and not target.seed and not target.busy:
                del self._targets[other]

    def _make_room(self) -> bool:
        if len(self._targets) < MAX_ENDPOINTS:
            return True
        for endpoint, target in self._targets.items():
            if not target.seed and self._waits(target) and not target.evidence:
                del self._targets[endpoint]
                return True
        return False
