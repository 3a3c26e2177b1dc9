"""Ownership of every DVIPA on this node: facts for the table, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from dvipad.address import Address
from dvipad.config.model import Distribute, Profile
from dvipad.core.candidates import LIST_FACTOR, Candidates
from dvipad.core.context import FORGET_MS, STOP_LINGER_MS, STOP_MS, Context
from dvipad.core.crt import Collection
from dvipad.core.distribution import Distribution
from dvipad.core.effects import Broadcast, Send, SetMembers, WatchDvipas
from dvipad.core.idle import Idle
from dvipad.core.inputs import Adopted, ConnectionsCounted, CrtDumped, SocketsDumped
from dvipad.core.membership import Claim, Life, make_claim
from dvipad.core.parts import Parts
from dvipad.core.rechecks import Rechecks
from dvipad.core.takeover import Takeover
from dvipad.core.triggers import Facts, due
from dvipad.core.vipa import Ownership, State, Trigger
from dvipad.core.witnesses import Witnesses
from dvipad.wire.messages import Dvipa, Move, VipaEntry, VipaList, Witness

ROWS_PER_STEP = 8
"""Rows of the table that one input may lead through, for one DVIPA; more is a bug."""


class Owners:
    """All `Ownership`s of this node."""

    def __init__(self, context: Context, show: Callable[[Address], None]) -> None:
        self._context = context
        self._vipas: dict[Address, Ownership] = {}
        self._rows = Distribution(context)
        self.effective = self._rows.effective
        self._takeover = Takeover(context, self.vipa_list, show, self.effective)
        self._candidates = Candidates(context)
        self.patience = self._candidates.patience
        self.parts = Parts(context, self._vipas, self._candidates)
        self._idle = Idle(context)
        self._members = self._watched = frozenset[Address]()
        self._offered: tuple[object, ...] = ()
        self._rechecks = Rechecks(context)
        self._witnesses = Witnesses(context)
        self.seen = partial(self._witnesses.seen, self._epoch)
        self.collections: dict[Address, Collection] = self._takeover.collections

    def __iter__(self) -> Iterator[Ownership]:
        return iter(self._vipas.values())

    def get(self, dvipa: Address) -> Ownership | None:
        """This node's part in the ownership of `dvipa`."""
        return self._vipas.get(dvipa)

    # -- adoption -----------------------------------------------------------------------------

    def adopt(self, adopted: Adopted) -> bool:
        """Go on as the distributor that a former daemon was; False when the profile forbids it.

        The profile is known before the start. A CRT that was being collected is collected anew.
        """
        vipa = self._vipas.get(adopted.dvipa)
        if vipa is None or vipa.rank == 0:
            return False
        vipa.adopt(adopted.epoch, adopted.collecting, self._context.now_ms)
        vipa.rival_released = True  # somebody may have had it meanwhile
        if adopted.collecting:
            self._takeover.collect(vipa)
        else:
            self.recheck(adopted.dvipa)
        return True

    def recheck(self, dvipa: Address, again: bool = True) -> None:
        """Ends of own connections may have been missed: compare, and again when all are old."""
        if self.keeps_crt(dvipa) and dvipa not in self.collections:
            self._rechecks.ask(self._vipas[dvipa], again)

    # -- who has it ---------------------------------------------------------------------------

    def busy(self, dvipa: Address) -> bool:
        """Whether ownership, not the target's part, rules the data plane for `dvipa`."""
        vipa = self._vipas.get(dvipa)
        return vipa is not None and vipa.state is not State.BACKUP

    def keeps_crt(self, dvipa: Address) -> bool:
        """Whether this node has a CRT for `dvipa` that messages may change."""
        vipa = self._vipas.get(dvipa)
        return vipa is not None and vipa.wants_crt

    def with_crt(self) -> list[Address]:
        """DVIPAs that this node distributes or is about to."""
        return [vipa.dvipa for vipa in self if vipa.wants_crt]

    def named(self) -> set[Address]:
        """DVIPAs that anybody names."""
        peers = {dvipa for peer in self._context.membership for dvipa in peer.entries}
        return peers | set(self._vipas)

    def profile_changed(self, before: Profile) -> None:
        """Follow the profile, which was `before` until now."""
        self._rows.profile_changed(before)
        self.parts.profile_changed()

    def distribution(self, dvipa: Address) -> tuple[Distribute, ...] | None:
        """How the present distributor distributes `dvipa`; None while nobody claims it."""
        vipa = self._vipas.get(dvipa)
        rival = self._context.membership.claim(dvipa)
        if vipa is not None and vipa.owning and (rival is None or self._own(vipa) > rival):
            return self._rows.effective(dvipa)
        if rival is None:
            return None
        peer = self._context.membership.get(rival.name)
        entry = peer.entries.get(dvipa) if peer is not None else None
        return entry.distributes if entry is not None else None

    def _own(self, vipa: Ownership) -> Claim:
        return make_claim(vipa.epoch, vipa.rank, self._context.settings.name)

    # -- what others say ----------------------------------------------------------------------

    def list_received(self, name: str, message: VipaList, first: bool) -> None:
        """Remember epochs and distributions; a lower claim than ours is told so.

        `first`: of a session; before it the peer may have owned what it does not any more.
        """
        for entry in message.entries:
            self._candidates.heard(entry.dvipa, entry.epoch)
            vipa = self._vipas.get(entry.dvipa)
            if not entry.owner:
                had = (entry.rank > 0 and first) or (vipa and entry.epoch > vipa.epoch)
                if had and vipa and vipa.owning:  # maybe, and neighbours may still look there
                    vipa.rival_released = True
                continue
            if self._rows.heard(entry.dvipa, entry.distributes) and vipa and vipa.owning:
                self._context.emit(Broadcast(self.vipa_list()))
            claim = make_claim(entry.epoch, entry.rank, name)
            if vipa is not None and vipa.owning and claim < self._own(vipa):
                self._context.emit(Send(name, self.vipa_list()))

    def dvipa_received(self, name: str, message: Dvipa) -> None:
        """A DVIPA message: takeover or takeback; one of an old epoch changes nothing here."""
        self._candidates.heard(message.dvipa, message.epoch)
        membership = self._context.membership
        vipa = self._vipas.get(message.dvipa)
        match message.move:
            case Move.TAKEOVER | Move.COMPLETE:
                membership.claimed(name, message.dvipa, message.epoch, True)
            case Move.RELEASE:
                membership.claimed(name, message.dvipa, message.epoch, False)
                if vipa is not None and message.epoch == vipa.epoch:
                    vipa.released = vipa.state is State.AWAITING
                    vipa.rival_released = vipa.owning
            case Move.TAKEBACK:
                if vipa is not None and vipa.owning and message.epoch > vipa.epoch:
                    self._asked(vipa, name, message.epoch)
            case Move.OFFER:
                if vipa is not None and not vipa.owning:
                    vipa.offered_by = name
            case Move.PREPARE:
                pass  # targets answer with their connections; the owner stays what it is

    def witnessed(self, name: str, message: Witness) -> None:
        """Peer `name` says whose claim of a DVIPA it hears."""
        self._candidates.heard(message.dvipa, message.epoch)
        self._witnesses.heard(name, message)

    def _epoch(self, dvipa: Address) -> int:
        vipa = self._vipas.get(dvipa)
        return max(self._candidates.highest(dvipa), vipa.epoch if vipa is not None else 0)

    def _hears(self, dvipa: Address) -> Claim | None:
        vipa = self._vipas.get(dvipa)
        own = self._own(vipa) if vipa is not None and vipa.owning else None
        claims = [claim for claim in (own, self._context.membership.heard(dvipa)) if claim]
        return max(claims, default=None)

    def _asked(self, vipa: Ownership, name: str, epoch: int) -> None:
        peer = self._context.membership.get(name)
        entry = peer.entries.get(vipa.dvipa) if peer is not None else None
        entitled = entry is not None and (entry.rank > vipa.rank or vipa.ranged)
        if entitled or self._leaving(vipa) or name == vipa.offered_to:
            vipa.asked_by, vipa.asked_epoch = name, epoch

    def _leaving(self, vipa: Ownership) -> bool:
        if self._context.stopping or vipa.rank == 0 or self._context.orders.bars(vipa.dvipa):
            return True
        if self._context.troubles and self._candidates.best_other(vipa.dvipa) is not None:
            return True
        return vipa.unwanted and self._candidates.wanted_elsewhere(vipa.dvipa)

    # -- completions --------------------------------------------------------------------------

    def effect_done(self, effect_id: int) -> None:
        """A completion; one of a superseded sequence changes nothing."""
        for vipa in self:
            if vipa.effect_id == effect_id:
                vipa.done = True

    def effect_failed(self, effect_id: int, reason: str) -> None:
        """A failure; one of a superseded sequence changes nothing."""
        for vipa in self:
            self._takeover.effect_failed(vipa, effect_id, reason)

    def crt_dumped(self, event: CrtDumped) -> None:
        """The CRT that a giving node hands over."""
        for vipa in self:
            if vipa.effect_id == event.effect_id and vipa.state is State.GIVING:
                vipa.crt_dump = event.entries

    def sockets_dumped(self, event: SocketsDumped) -> None:
        """The connections that end here, of a DVIPA that is being given up."""
        for vipa in self:
            if vipa.effect_id == event.effect_id and vipa.state is State.GIVING:
                vipa.socket_dump = (event.established, event.embryonic)

    def collecting(self, effect_id: int) -> tuple[Ownership, Collection] | None:
        """The collection whose own part the dump `effect_id` is."""
        for dvipa, collection in self.collections.items():
            if collection.own_effect == effect_id:
                return self._vipas[dvipa], collection
        found = self._rechecks.answered(effect_id)
        vipa = self._vipas.get(found[0]) if found is not None else None
        if found is None or vipa is None or not vipa.wants_crt:
            return None
        return vipa, found[1]

    # -- deciding -----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take every row of the table that is due."""
        for dvipa in self._rechecks.due():
            self.recheck(dvipa, again=False)
        for vipa in list(self):
            self._take_rows(vipa)
            if vipa.rank == 0 and vipa.state is State.BACKUP:
                self.parts.forget(vipa)
                named = self._vipas.get(vipa.dvipa)  # by the profile, which had to wait
                if named is not None:
                    self._take_rows(named)
        self._idle.refresh({vipa.dvipa for vipa in self if self._waits_idle(vipa)})

    def _take_rows(self, vipa: Ownership) -> None:
        self.parts.heed(vipa)
        self._takeover.on_time(vipa)
        for _ in range(ROWS_PER_STEP):
            facts = self._facts(vipa)
            trigger = due(vipa, facts)
            if trigger is None:
                break
            if not self._takeover.act(vipa, trigger, facts, self._epoch(vipa.dvipa)):
                break
            if trigger in (Trigger.RELEASED, Trigger.CRT_COMPLETE) and vipa.owning:
                self._rechecks.later(vipa.dvipa)  # what was handed over may have ended here
        self._takeover.follow(vipa, self._context.membership.claim(vipa.dvipa))

    def _waits_idle(self, vipa: Ownership) -> bool:
        if vipa.unwanted:
            return vipa.rank > 0 and vipa.state in (State.ACTIVE, State.BACKUP)
        return vipa.state is State.ACTIVE and self._candidates.primary_waits(vipa)

    def counted(self, event: ConnectionsCounted) -> None:
        """A DVIPA that waited until it is idle may be."""
        dvipa = self._idle.counted(event)
        vipa = self._vipas.get(dvipa) if dvipa is not None else None
        if vipa is not None and self._waits_idle(vipa):
            vipa.idle = True
            vipa.rank = 0 if vipa.unwanted else vipa.rank

    def _facts(self, vipa: Ownership) -> Facts:
        context = self._context
        membership, timers = context.membership, context.settings.timers
        rival = membership.claim(vipa.dvipa)
        backup = self._candidates.best_other(vipa.dvipa)
        if vipa.unwanted and vipa.rank == 0 and not self._candidates.wanted_elsewhere(vipa.dvipa):
            backup = None  # no connection is left that somebody would have to carry on
        leaving = self._leaving(vipa)
        stopping_since = context.stopping_since_ms
        overdue = stopping_since is not None and context.now_ms >= stopping_since + STOP_MS
        return Facts(
            now_ms=context.now_ms,
            joined=context.joined,
            own=self._own(vipa),
            rival=rival,
            rival_up=rival is not None and membership.is_up(rival.name),
            rival_proven=rival is not None and not membership.is_lost(rival.name),
            entitled=not leaving and self._candidates.entitled(vipa),
            activated=self._candidates.activated(vipa.dvipa),
            quorate=self._candidates.quorate(),
            collected=self._collected(vipa),
            leaving=leaving,
            overdue=overdue,
            backup=backup,
            asker_up=vipa.asked_by is not None and membership.is_up(vipa.asked_by),
            successor_up=vipa.successor is not None and membership.is_up(vipa.successor),
            collect_ms=timers.collect_ms,
            linger_ms=STOP_LINGER_MS if context.stopping else timers.moving_ms,
            rival_ranged=self._candidates.holder_ranged(vipa.dvipa),
            primary_waits=self._candidates.primary_waits(vipa),
        )

    def _collected(self, vipa: Ownership) -> bool:
        collection = self.collections.get(vipa.dvipa)
        if collection is None:
            return False
        for peer in self._context.membership:
            if peer.life is Life.DEAD:
                collection.awaiting.discard(peer.member.name)
        return collection.complete(self._context.now_ms, self._context.settings.timers.collect_ms)

    # -- telling ------------------------------------------------------------------------------

    def vipa_list(self) -> VipaList:
        """This node's whole list (D2)."""
        return VipaList(tuple(self._entry(vipa) for vipa in self), self._context.joined)

    def _fit(self, vipa: Ownership) -> bool:
        return not self._leaving(vipa) and self._context.now_ms >= vipa.retry_ms

    def _entry(self, vipa: Ownership) -> VipaEntry:
        # Until it is released the old claim stands, or the successor would miss its owner.
        giving = vipa.state is State.GIVING
        owner = vipa.owning or giving
        rank = vipa.rank if self._fit(vipa) or owner else 0
        epoch = vipa.held_epoch if giving else vipa.epoch
        if not owner:  # nor does a claim that it prepares count yet
            own = vipa.epoch if vipa.state is State.BACKUP else 0
            epoch = max(self._candidates.highest(vipa.dvipa), own)
        rows = self.effective(vipa.dvipa) if owner else ()
        facts = (vipa.dvipa, rank, vipa.creates, owner, epoch, rows, vipa.origin, vipa.moveable)
        return VipaEntry(*facts, vipa.moving_to)

    def announce_again(self, ranged_only: bool) -> None:
        """Somebody may have had in between what this node owns, and neighbours look there.

        `ranged_only`: a peer is back, which remembers all it had but addresses of ranges."""
        for vipa in self:
            if vipa.owning and (vipa.ranged or not ranged_only):
                vipa.rival_released = True

    def greet(self, name: str) -> None:
        """A session with `name` began: what it missed of a takeback under way."""
        for vipa in self:
            if vipa.preparing:
                self._context.emit(Send(name, Dvipa(Move.PREPARE, vipa.dvipa, vipa.epoch)))
            collection = self.collections.get(vipa.dvipa)
            if collection is not None:
                collection.awaiting.add(name)
        self._witnesses.greet(name)

    def publish(self, hidden: Iterable[Address]) -> None:
        """Tell the data plane who the members are, and the socket watcher which DVIPAs count."""
        members = frozenset(peer.member.xcf for peer in self._context.membership)
        if members != self._members:
            self._members = members
            self._context.emit(SetMembers(members))
        self._republish()
        self._witnesses.testify({dvipa: self._hears(dvipa) for dvipa in self.named()})
        watched = frozenset(hidden) | frozenset(self._vipas)
        if watched != self._watched:
            self._watched = watched
            self._context.emit(WatchDvipas(watched))

    def _republish(self) -> None:
        """Peers follow the profile, and whether this node is fit: they choose by that (D2)."""
        offered = (self._context.joined, *(self._offer(vipa) for vipa in self))
        if offered != self._offered:
            self._offered = offered
            self._context.emit(Broadcast(self.vipa_list()))

    def _offer(self, vipa: Ownership) -> tuple[object, ...]:
        # Not the rank of the entry: a list in the middle of giving up would overtake the release.
        rank = vipa.rank if self._fit(vipa) else 0
        rows = self._context.own_distributes(vipa.dvipa)
        facts = (vipa.dvipa, rank, vipa.creates, vipa.origin, vipa.moveable, rows)
        return *facts, vipa.moving_to

    def deadlines(self) -> list[int]:
        """When a row of the table may be due without any input."""
        context = self._context
        timers = context.settings.timers
        list_ms = LIST_FACTOR * timers.join_ms
        times: list[int] = [peer.since_ms + list_ms for peer in context.membership]
        times += [item.deadline(timers.collect_ms) for item in self.collections.values()]
        linger = STOP_LINGER_MS if context.stopping else timers.moving_ms
        for vipa in self:
            times.append(vipa.retry_ms)
            if vipa.state is State.AWAITING:
                times.append(vipa.since_ms + 3 * timers.collect_ms)
            if vipa.state is State.MOVING:
                times.append(vipa.since_ms + linger)
            times += [vipa.hushed_until_ms, vipa.announce_ms or 0]
            for name in vipa.unheard:
                peer = context.membership.get(name)
                times.append(0 if peer is None else peer.since_ms + FORGET_MS)
        times += [*self._rechecks.deadlines(), *self._idle.deadlines()]
        if context.stopping_since_ms is not None:
            times.append(context.stopping_since_ms + STOP_MS)
        return times
