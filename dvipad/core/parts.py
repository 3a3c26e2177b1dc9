"""Which DVIPAs this node has a part in, and why: VIPADEFINE, VIPABACKUP, VIPARANGE (D1, D10)."""

from __future__ import annotations

from dvipad.address import Address
from dvipad.config.model import OWNER_RANK, Backup, Define, Moveable
from dvipad.core.candidates import Candidates
from dvipad.core.context import Context
from dvipad.core.effects import Refusal, WatchRanges
from dvipad.core.inputs import AddressesBound
from dvipad.core.ranges import (
    LEFT_RANK,
    RANGE_RANK,
    RANGED,
    SUMMONS_RANK,
    Code,
    Verdict,
    covering,
    second,
)
from dvipad.core.vipa import Ownership
from dvipad.wire.messages import Origin

Wish = tuple[Origin, int]
"""How an address of a range is asked for, and the number of the latest time."""


class Parts:
    """Keeps `vipas` as profile, applications and commands want them."""

    def __init__(
        self, context: Context, vipas: dict[Address, Ownership], candidates: Candidates
    ) -> None:
        self._context = context
        self._vipas = vipas
        self._candidates = candidates
        self._bound: dict[Address, int] = {}
        self._deleted: dict[Address, int] = {}
        self._seen: dict[tuple[Address, Origin], int] = {}
        self._ranges: frozenset[tuple[Address, int]] = frozenset()

    # -- the profile --------------------------------------------------------------------------

    def profile_changed(self) -> None:
        """Follow the profile: new DVIPAs, new ranks, those that it does not name any more."""
        named = self._named()
        for dvipa in named:
            self._configure(dvipa, named[dvipa])
        for dvipa, vipa in self._vipas.items():
            if dvipa not in named and not vipa.ranged:
                vipa.rank, vipa.creates = 0, False
        ranges = frozenset((row.network, row.prefix_length) for row in self._context.profile.ranges)
        if ranges != self._ranges:
            self._ranges = ranges
            self._context.emit(WatchRanges(ranges))
        self.follow()

    def forget(self, vipa: Ownership) -> None:
        """This node has no part in the DVIPA any more; the profile may name it by now."""
        del self._vipas[vipa.dvipa]
        row = self._named().get(vipa.dvipa)
        if row is not None:
            self._configure(vipa.dvipa, row)

    def _named(self) -> dict[Address, Define | Backup]:
        profile = self._context.profile
        named: dict[Address, Define | Backup] = {row.dvipa: row for row in profile.backups}
        named.update({row.dvipa: row for row in profile.defines})
        return named

    def _configure(self, dvipa: Address, row: Define | Backup) -> None:
        origin = Origin.DEFINE if isinstance(row, Define) else Origin.BACKUP
        vipa = self._vipas.get(dvipa)
        holder = self._candidates.holder(dvipa)
        if vipa is not None and vipa.ranged:
            text = f"{origin.value} fails: it is active here by {vipa.origin.value}"
            self._context.emit(Refusal(dvipa, text))
            return
        if vipa is None and holder is not None and holder[1].origin in RANGED:
            text = f"{origin.value} waits: {holder[0]} has it by {holder[1].origin.value}"
            self._context.emit(Refusal(dvipa, text))
        vipa = self._vipas.setdefault(dvipa, Ownership(dvipa))
        vipa.origin, vipa.prefix_length = origin, row.prefix_length
        vipa.moveable = row.moveable or Moveable.IMMEDIATE
        if isinstance(row, Define):
            vipa.rank, vipa.creates = OWNER_RANK, True
        else:
            vipa.rank, vipa.creates = row.rank, row.moveable is not None

    # -- ranges -------------------------------------------------------------------------------

    def bound(self, event: AddressesBound) -> None:
        """Applications are bound to these addresses of ranges."""
        self._bound = dict(event.bound)
        self.follow()

    def delete(self, dvipa: Address) -> None:
        """A command deletes the address; only a new bind activates it again."""
        self._deleted[dvipa] = self._bound.get(dvipa, 0)
        vipa = self._vipas.get(dvipa)
        if vipa is not None and vipa.ranged:
            vipa.rank = 0
        self.follow()

    def adopt(self, dvipa: Address) -> None:
        """A former daemon had an address of a range here; connections to it may live."""
        row = covering(self._context.profile.ranges, dvipa)
        if row is not None and dvipa not in self._vipas:
            vipa = self._vipas[dvipa] = Ownership(dvipa, LEFT_RANK, True, Origin.BIND)
            vipa.moveable, vipa.prefix_length = row.moveable, row.prefix_length
            vipa.unwanted = True

    def follow(self) -> None:
        """Follow what applications and commands want.

        What is wanted for the first time since the start moves here; what was wanted before the
        start is wanted, but takes nothing away from others.
        """
        wanted = self._wanted()
        asked = {(dvipa, origin) for dvipa, wishes in wanted.items() for origin, _ in wishes}
        self._seen = {key: number for key, number in self._seen.items() if key in asked}
        for dvipa, wishes in wanted.items():
            for origin, number in wishes:
                new = number > self._seen.get((dvipa, origin), 0)
                self._seen[dvipa, origin] = number
                if new:
                    self._want(dvipa, origin)
        for dvipa, vipa in self._vipas.items():
            if not vipa.ranged or vipa.rank == 0:
                continue
            wishes = wanted.get(dvipa, [])
            if wishes and all(origin is not vipa.origin for origin, _ in wishes):
                vipa.origin = wishes[0][0]
            if not wishes:
                vipa.rank, vipa.unwanted, vipa.summoned = LEFT_RANK, True, False

    def _wanted(self) -> dict[Address, list[Wish]]:
        wanted: dict[Address, list[Wish]] = {}
        for dvipa, number in self._context.orders.activated:
            wanted.setdefault(dvipa, []).append((Origin.IOCTL, number))
        for dvipa, number in self._bound.items():
            if number > self._deleted.get(dvipa, 0):
                wanted.setdefault(dvipa, []).append((Origin.BIND, number))
        return wanted

    def _want(self, dvipa: Address, origin: Origin) -> None:
        verdict = self.verdict(dvipa, origin)
        if verdict.code is Code.REFUSED:
            self._context.emit(Refusal(dvipa, f"{origin.value}: {verdict.reason}"))
            return
        row = covering(self._context.profile.ranges, dvipa)
        if verdict.code is Code.USABLE or row is None:
            return
        vipa = self._vipas.setdefault(dvipa, Ownership(dvipa))
        started = self._context.started
        vipa.origin, vipa.creates = origin, True
        vipa.rank = SUMMONS_RANK if started else RANGE_RANK
        vipa.moveable, vipa.prefix_length = row.moveable, row.prefix_length
        vipa.unwanted, vipa.summoned, vipa.retry_ms = False, started, 0

    def heed(self, vipa: Ownership) -> None:
        """A wish from a time when this node knew of no owner takes nothing from one that may
        keep the address."""
        holder = self._candidates.holder(vipa.dvipa) if vipa.summoned else None
        if holder is None or vipa.owning:
            return
        verdict = second(holder[1].origin, holder[1].moveable, holder[0], vipa.origin)
        if verdict.code is Code.REFUSED:
            vipa.summoned, vipa.rank = False, RANGE_RANK
            self._context.emit(Refusal(vipa.dvipa, f"{vipa.origin.value}: {verdict.reason}"))

    def verdict(self, dvipa: Address, origin: Origin) -> Verdict:
        """Whether `origin` may activate `dvipa` here now."""
        vipa = self._vipas.get(dvipa)
        row = covering(self._context.profile.ranges, dvipa)
        if row is None:
            return Verdict(Code.REFUSED, "it is in no VIPARANGE of this node")
        if vipa is not None and not vipa.ranged:
            return Verdict(Code.REFUSED, f"{vipa.origin.value} names it here")
        if self._context.orders.bars(dvipa):
            return Verdict(Code.REFUSED, "the operator does not want it here")
        named = self._candidates.named_by(dvipa)
        if named is not None:
            return Verdict(Code.REFUSED, f"{named[0]} names it in {named[1].origin.value}")
        if vipa is not None and vipa.owning and vipa.rank > 0:
            return Verdict(Code.USABLE, f"it is active here already, by {vipa.origin.value}")
        holder = self._candidates.holder(dvipa)
        if holder is None:
            return Verdict(Code.DONE)
        return second(holder[1].origin, holder[1].moveable, holder[0], origin)

    def deletable(self, dvipa: Address) -> Verdict:
        """Whether a command may delete `dvipa` here."""
        vipa = self._vipas.get(dvipa)
        if vipa is None:
            return Verdict(Code.REFUSED, "it is not active here")
        if not vipa.ranged:
            return Verdict(Code.REFUSED, f"{vipa.origin.value} names it here")
        if self._context.own_distributes(dvipa):
            return Verdict(Code.REFUSED, "it is distributed")
        return Verdict(Code.DONE)
