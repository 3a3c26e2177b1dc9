"""Who could own a DVIPA now: the best goes first, by rank, then by name."""

from __future__ import annotations

from typing import Final

from dvipad.address import Address
from dvipad.config.model import OWNER_RANK, Moveable
from dvipad.core.context import Context
from dvipad.core.membership import Life
from dvipad.core.ranges import LEFT_RANK, RANGED
from dvipad.core.vipa import Ownership
from dvipad.wire.messages import Origin, VipaEntry

LIST_FACTOR: Final = 4
"""So many times `join_ms` a peer that lives may take to say what it owns."""


class Candidates:
    """Candidates as this node sees them, and the epochs that it heard of."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._highest: dict[Address, int] = {}

    def heard(self, dvipa: Address, epoch: int) -> None:
        """Somebody spoke of `epoch`."""
        if epoch > self._highest.get(dvipa, 0):
            self._highest[dvipa] = epoch
            self._context.touched.add(dvipa)

    def highest(self, dvipa: Address) -> int:
        """The highest epoch that was ever heard of; 0: none."""
        return self._highest.get(dvipa, 0)

    def activated(self, dvipa: Address) -> bool:
        """Whether anybody ever had the DVIPA: only then a backup without MOVEABLE may take it."""
        return self.highest(dvipa) > 0

    def best_other(self, dvipa: Address) -> str | None:
        """The best peer that could own the DVIPA."""
        names = [
            peer.member.name
            for peer in self._context.membership
            if peer.life is Life.UP
            and (entry := peer.entries.get(dvipa)) is not None
            and entry.rank > 0
            and (entry.creates or self.activated(dvipa))
        ]
        return min(names, key=lambda name: self._order(dvipa, name), default=None)

    def holder(self, dvipa: Address) -> tuple[str, VipaEntry] | None:
        """The peer with the greatest claim of the DVIPA, and what it says of it."""
        claim = self._context.membership.claim(dvipa)
        peer = self._context.membership.get(claim.name) if claim is not None else None
        entry = peer.entries.get(dvipa) if peer is not None else None
        return None if peer is None or entry is None else (peer.member.name, entry)

    def holder_ranged(self, dvipa: Address) -> bool:
        """Whether a peer has the DVIPA by a VIPARANGE."""
        holder = self.holder(dvipa)
        return holder is not None and holder[1].origin in RANGED

    def named_by(self, dvipa: Address) -> tuple[str, VipaEntry] | None:
        """A peer whose profile names the DVIPA, and what it says of it."""
        for peer in self._context.membership:
            entry = peer.entries.get(dvipa)
            statement = entry is not None and entry.origin in (Origin.DEFINE, Origin.BACKUP)
            if entry is not None and statement and peer.life is Life.UP and entry.rank > 0:
                return peer.member.name, entry
        return None

    def wanted_elsewhere(self, dvipa: Address) -> bool:
        """Whether the best other node is one where an address of a range is wanted."""
        peer = self._context.membership.get(self.best_other(dvipa) or "")
        return peer is not None and peer.entries[dvipa].rank > LEFT_RANK

    def primary_waits(self, vipa: Ownership) -> bool:
        """Whether the node of the DVIPA's VIPADEFINE MOVEABLE WHENIDLE could have it back."""
        peer = self._context.membership.get(self.best_other(vipa.dvipa) or "")
        entry = peer.entries[vipa.dvipa] if peer is not None else None
        if entry is None or entry.moveable is not Moveable.WHENIDLE:
            return False
        return entry.rank == OWNER_RANK > vipa.rank and not vipa.ranged

    def entitled(self, vipa: Ownership) -> bool:
        """Whether this node, if it may own the DVIPA at all, is the best that could."""
        if not (vipa.creates or self.activated(vipa.dvipa)):
            return False
        if self._context.now_ms < vipa.retry_ms or self._unlisted() or not self.quorate():
            return False
        if self._given_to_another(vipa.dvipa):
            return False
        if vipa.summoned:
            return True
        best = self.best_other(vipa.dvipa)
        return best is None or self._outranks(vipa, best)

    def leaving(self, vipa: Ownership) -> bool:
        """Whether this node must not own the DVIPA any longer, if anybody else can."""
        if self._context.stopping or vipa.rank == 0 or self._context.orders.bars(vipa.dvipa):
            return True
        if self._context.troubles and self.best_other(vipa.dvipa) is not None:
            return True
        return vipa.unwanted and self.wanted_elsewhere(vipa.dvipa)

    def _outranks(self, vipa: Ownership, name: str) -> bool:
        own = _key(vipa.rank, self._context.settings.name)
        return own < self._order(vipa.dvipa, name)

    def patience(self, vipa: Ownership, name: str) -> int:
        """How slow this owner is to yield to another one, `name`, that it cannot talk to: 0 to 3.

        Who hears half of the others carries on with them; of equals the better one stays.
        """
        peers = list(self._context.membership)
        heard = sum(peer.life is Life.UP for peer in peers)
        return (2 if heard and 2 * heard >= len(peers) else 0) + self._outranks(vipa, name)

    def _given_to_another(self, dvipa: Address) -> bool:
        """Whether the last owner gave it to a node that lives, and is about to claim it."""
        membership = self._context.membership
        for peer in membership:
            entry = peer.entries.get(dvipa)
            if entry is None or not entry.successor or peer.life is not Life.UP:
                continue
            successor = membership.get(entry.successor)
            if entry.epoch < self.highest(dvipa) or successor is None:
                continue  # that is over; or this node is meant
            wish = successor.entries.get(dvipa)
            if successor.life is Life.UP and wish is not None and wish.rank > 0:
                return True
        return False

    def quorate(self) -> bool:
        """Whether this node sees more than half of the cluster, where that is asked for.

        The cluster is every node that was ever seen and did not say goodbye, and those that the
        node file names.
        """
        settings = self._context.settings
        if not settings.majority:
            return True
        peers = list(self._context.membership)
        alive = sum(peer.life is not Life.DEAD for peer in peers)
        cluster = max(len(peers), settings.seeds) - sum(peer.left for peer in peers)
        return 2 * (alive + 1) > cluster + 1

    def _unlisted(self) -> bool:
        """Whether a peer has not said yet what it owns; it lives, so it gets its time to."""
        list_ms = LIST_FACTOR * self._context.settings.timers.join_ms
        return any(
            peer.life is Life.UP
            and not peer.listed
            and self._context.now_ms < peer.since_ms + list_ms
            for peer in self._context.membership
        )

    def deadlines(self) -> list[int]:
        """When the patience with a peer that has not said what it owns ends."""
        list_ms = LIST_FACTOR * self._context.settings.timers.join_ms
        peers = self._context.membership
        return [peer.since_ms + list_ms for peer in peers if not peer.listed]

    def _order(self, dvipa: Address, name: str) -> tuple[int, str]:
        peer = self._context.membership.get(name)
        entry = peer.entries.get(dvipa) if peer is not None else None
        return _key(entry.rank if entry is not None else 0, name)


def _key(rank: int, name: str) -> tuple[int, str]:
    return -rank, name
