"""What this node sees of members that the mesh does not reach: they have a DVIPA of its own.

A firewall, or a port in the wrong VLAN, may stop the mesh and nothing else. Then others take over
what this node owns, and cannot tell it; but their announcements are seen on the link.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from dvipad.adapters.probe import InUse, Prober
from dvipad.adapters.uplinks import works
from dvipad.address import Address

LOOK_S: Final = 1.0
"""So often it is asked whether the DVIPA is free again. And the node that ought to go on waits so
long, or some times so long, lest two that see each other both give up."""
ASK_TURNS: Final = 5
"""While a member is missing, it is asked every so many `LOOK_S` who else has what this node owns:
an announcement may have been missed."""
MAX_SEEN: Final = 1024
"""DVIPAs that are remembered; further ones are counted, and kept by this node."""

log = logging.getLogger(__name__)

Seen = frozenset[tuple[Address, str]]
"""(DVIPA, member that has it)."""


class Peers(Protocol):
    """What is to be known of this node and its peers."""

    def silent(self, name: str) -> bool:
        """Whether there is no session with a member."""

    def missing(self) -> bool:
        """Whether any member is, that did not say goodbye."""

    def owned(self) -> list[Address]:
        """DVIPAs that this node distributes."""

    def patience(self, dvipa: Address, name: str) -> int:
        """How many times `LOOK_S` this node waits before it yields; for no two the same."""

    def members(self) -> Mapping[bytes, str]:
        """Its nodes by link-layer address, as far as they are neighbours."""

    def seen(self, claims: Seen) -> None:
        """Everything that is seen elsewhere now."""


class Sights:
    """`prober` asks the link; `counters` counts `seen_elsewhere`. To be used in one event loop."""

    def __init__(
        self, uplinks: Collection[str], prober: Prober, peers: Peers, counters: Counter[str]
    ) -> None:
        self._uplinks = uplinks
        self._prober = prober
        self._peers = peers
        self._counters = counters
        self._seen: dict[Address, str] = {}
        self._judging: dict[Address, asyncio.Task[None]] = {}

    def claimed(self, dvipa: Address, name: str) -> None:
        """Member `name` says that it has `dvipa`, which this node owned all the time."""
        known = dvipa in self._seen or dvipa in self._judging
        if known or not self._peers.silent(name):
            return
        if len(self._seen) + len(self._judging) >= MAX_SEEN:
            self._counters["seen_elsewhere_full"] += 1
            return
        judging = self._judging[dvipa] = asyncio.ensure_future(self._judge(dvipa, name))
        judging.add_done_callback(lambda _: self._judging.pop(dvipa))

    async def _judge(self, dvipa: Address, name: str) -> None:
        await asyncio.sleep(LOOK_S * self._peers.patience(dvipa, name))
        if not self._peers.silent(name) or await self._user(dvipa) is None:
            return
        self._counters["seen_elsewhere"] += 1
        log.warning("%s has %s, and the mesh does not reach it: this node yields", name, dvipa)
        self._seen[dvipa] = name
        self._publish()

    async def _user(self, dvipa: Address) -> bytes | None:
        """Link-layer address of another host that has `dvipa`."""
        try:
            await self._prober.probe(dvipa)
        except InUse as error:
            return error.mac
        return None

    def _publish(self) -> None:
        self._peers.seen(frozenset(self._seen.items()))

    async def run(self) -> None:
        """Look again and again until cancelled."""
        try:
            for turn in itertools.count(1):
                await asyncio.sleep(LOOK_S)
                # A node whose cable is out sees nobody, and that proves nothing.
                if self._seen and any(map(works, self._uplinks)):
                    await self._look()
                if turn % ASK_TURNS == 0 and self._peers.missing():
                    await self._ask()
        finally:
            for judging in tuple(self._judging.values()):
                judging.cancel()

    async def _look(self) -> None:
        """Whoever has it by now: it is not free before nobody answers, or the member speaks."""
        asked = [dvipa for dvipa, name in self._seen.items() if self._peers.silent(name)]
        users = dict(zip(asked, await asyncio.gather(*map(self._user, asked)), strict=True))
        over = [dvipa for dvipa in self._seen if users.get(dvipa) is None]
        for dvipa in over:
            log.warning("%s is not seen with %s any more", dvipa, self._seen.pop(dvipa))
        if over:
            self._publish()

    async def _ask(self) -> None:
        """Who else has what this node owns: a member that the mesh does not reach?"""
        owned = self._peers.owned()
        users = await asyncio.gather(*map(self._user, owned))
        members = self._peers.members()
        for dvipa, mac in zip(owned, users, strict=True):
            if mac is not None and mac in members:
                self.claimed(dvipa, members[mac])
