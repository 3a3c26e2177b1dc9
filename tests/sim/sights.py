"""What hosts see on the link: that a member, which the mesh does not reach, has a DVIPA."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from dvipad.address import Address
from dvipad.core.inputs import SeenElsewhere

if TYPE_CHECKING:
    from .daemon import Daemon
    from .world import Host, World

JUDGED_MS: Final = 150
"""An announcement is believed when it is still true after so long, and some times so long by a
node that ought to go on: of two that see each other, one stays."""


class Sights:
    """The part of every daemon that watches the link."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[Daemon, set[tuple[Address, str]]] = {}

    def announced(self, name: str, dvipa: Address) -> None:
        """Host `name` announces `dvipa`: owners that have no session with it take note."""
        for host in self._world.hosts.values():
            daemon = host.daemon
            vipa = daemon.node.owners.get(dvipa) if daemon is not None else None
            if host.name == name or daemon is None or vipa is None:
                continue
            if self._strange(host, name, dvipa):
                judge = partial(self._judge, host, daemon, name, dvipa)
                patience = daemon.node.owners.patience(vipa, name)
                self._world.loop.after(JUDGED_MS * (1 + patience), judge)

    def _strange(self, host: Host, name: str, dvipa: Address) -> bool:
        """Whether two have it, and `host` cannot ask `name` by the mesh."""
        silent = host.daemon is not None and name not in host.daemon.sessions
        return silent and host.kernel.owns(dvipa) and self._answers(host, name, dvipa)

    def _answers(self, host: Host, name: str, dvipa: Address) -> bool:
        """Whether `host` gets an answer from `name` when it asks who has `dvipa`."""
        other = self._world.hosts[name]
        reached = name != host.name and self._world.lan.reach(name, host.name)
        return reached and other.kernel.answers(dvipa, other.clock_ms())

    def _stands(self, host: Host, name: str, dvipa: Address) -> bool:
        """Whoever has it by now: it is not free before nobody answers, or `name` speaks."""
        silent = host.daemon is not None and name not in host.daemon.sessions
        return silent and any(self._answers(host, each, dvipa) for each in self._world.hosts)

    def _judge(self, host: Host, daemon: Daemon, name: str, dvipa: Address) -> None:
        if host.daemon is daemon and self._strange(host, name, dvipa):
            self._tell(daemon, self._seen.get(daemon, set()) | {(dvipa, name)})

    def periodic(self) -> None:
        """What is not so any more is forgotten."""
        for daemon, seen in list(self._seen.items()):
            host = daemon.host
            if host.daemon is not daemon:
                del self._seen[daemon]
                continue
            still = {(dvipa, name) for dvipa, name in seen if self._stands(host, name, dvipa)}
            if still != seen:
                self._tell(daemon, still)

    def _tell(self, daemon: Daemon, seen: set[tuple[Address, str]]) -> None:
        self._seen[daemon] = seen
        daemon.later(0, lambda: SeenElsewhere(frozenset(seen)))
