"""One owner: the rules "two answer" and "two own"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dvipad.address import Address

if TYPE_CHECKING:
    from .checks import Checks
    from .world import Host, World

TOGETHER_MS: Final = 400
"""Nodes with an undisturbed session for so long agree on who has a DVIPA."""
DOUBLE_MS: Final = 50
"""Two that took it at the same instant have found out by then."""
SEEN_MS: Final = 1_500
"""Two that have no mesh see each other's announcements within this time."""


class Exclusive:
    """Looks for two that have one DVIPA, and for how long they do."""

    def __init__(self, world: World, checks: Checks) -> None:
        self._world = world
        self._checks = checks
        self._doubles: dict[tuple[str, Address, str, str], int] = {}

    def check(self, dvipa: Address) -> None:
        """At most one of those that hear each other owns a DVIPA, and answers for it."""
        answering, owning = [], []
        for host in self._world.hosts.values():
            if host.name in self._world.lan.up and host.kernel.answers(dvipa, host.clock_ms()):
                answering.append(host)
            vipa = host.daemon.node.owners.get(dvipa) if host.daemon is not None else None
            if vipa is not None and vipa.owning:
                owning.append(host)
        found = {
            (rule, dvipa, one.name, other.name): limit_ms
            for rule, hosts in (("two answer", answering), ("two own", owning))
            for index, one in enumerate(hosts)
            for other in hosts[index + 1 :]
            if (limit_ms := self._bearable_ms(rule, one, other)) is not None
        }
        now_ms = self._world.loop.now_ms
        for key in [key for key in self._doubles if key[1] == dvipa and key not in found]:
            del self._doubles[key]
        for key in sorted(found, key=str):
            if now_ms - self._doubles.setdefault(key, now_ms) > found[key]:
                self._checks.fail(key[0], f"{key[2]} and {key[3]} for {dvipa}")

    def _bearable_ms(self, rule: str, one: Host, other: Host) -> int | None:
        """How long both may have an address; None: as long as they do not hear each other."""
        if self._checks.undisturbed_ms(one, other) > TOGETHER_MS:
            return DOUBLE_MS
        alone = rule == "two own" or self._side_by_side_ms(one, other) <= SEEN_MS
        return None if alone else SEEN_MS

    def _side_by_side_ms(self, one: Host, other: Host) -> int:
        """How long they see each other on the link, but have no mesh; 0 when that is not so."""
        lan, now_ms = self._world.lan, self._world.loop.now_ms
        idle = any(host.daemon is None or host.daemon.stalled for host in (one, other))
        strange = lan.reach(one.name, other.name) and not lan.meshed(one.name, other.name)
        if idle or not strange or now_ms < lan.slow_until_ms:
            return 0
        return now_ms - self._checks.disturbed_pair_ms(one, other)
