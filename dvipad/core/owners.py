"""Ownership of every DVIPA on this node: facts for the table, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial

from dvipad.address import Address, order
from dvipad.config.model import Distribute
from dvipad.core.agenda import Agenda
from dvipad.core.candidates import Candidates
from dvipad.core.context import STOP_MS, Context
from dvipad.core.crt import Collection
from dvipad.core.distribution import Distribution
from dvipad.core.effects import Broadcast, Send, SetMembers, WatchDvipas
from dvipad.core.facts import facts_of, own_claim, times_of
from dvipad.core.idle import Idle
from dvipad.core.inputs import (
    Adopted,
    ConnectionsCounted,
    CrtDumped,
    MinuteCame,
    PoliciesChanged,
    ProfileChanged,
    SocketsDumped,
)
from dvipad.core.lists import Lists
from dvipad.core.membership import Claim, make_claim
from dvipad.core.parts import Parts
from dvipad.core.policies import Policies
from dvipad.core.rechecks import Rechecks
from dvipad.core.standby import Standby
from dvipad.core.takeover import Takeover
from dvipad.core.triggers import due
from dvipad.core.vipa import Ownership, State, Trigger
from dvipad.core.witnesses import Witnesses
from dvipad.wire.messages import Dvipa, Move, VipaList, Witness

ROWS_PER_STEP = 8
"""Rows of the table that one input may lead through, for one DVIPA; more is a bug."""


class Owners:
    """All `Ownership`s of this node."""

    def __init__(self, context: Context, show: Callable[[Address], None]) -> None:
        self._context = context
        self._vipas: dict[Address, Ownership] = {}
        self._rows = Distribution(context)
        self.effective = self._rows.effective
        self.policies = Policies(context)
        self._candidates = Candidates(context)
        self.standby = Standby()
        told = (self.effective, self.policies, self.standby)
        self._lists = Lists(context, self._vipas, self._candidates, *told)
        self.vipa_list = self._lists.whole
        self._takeover = Takeover(context, self._lists.part, show, self.effective)
        self.patience = self._candidates.patience
        self.backup = self._candidates.best_other
        self.parts = Parts(context, self._vipas, self._candidates)
        self._idle = Idle(context)
        self._members = frozenset[Address]()
        self._watched: set[Address] = set()
        self._agenda: Agenda[Address] = Agenda()
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

    def is_named(self, dvipa: Address) -> bool:
        """Whether anybody names `dvipa`."""
        membership = self._context.membership
        return dvipa in self._vipas or any(dvipa in peer.entries for peer in membership)

    def known(self) -> Iterator[Address]:
        """DVIPAs that anybody names, or that named one before; some more than once."""
        yield from self._vipas
        for peer in self._context.membership:
            yield from peer.entries
        yield from self._watched
        yield from self._witnesses.testified()

    def configured(self, event: ProfileChanged | PoliciesChanged | MinuteCame) -> None:
        """Follow the files of this node, and the time that they speak of."""
        match event:
            case ProfileChanged():
                before, self._context.profile = self._context.profile, event.profile
                self._rows.profile_changed(before)
                self.parts.profile_changed()
            case PoliciesChanged():
                self.policies.changed(event.policies)
            case MinuteCame():
                self.policies.minute_came(event.minute)

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
        return own_claim(vipa, self._context)

    # -- what others say ----------------------------------------------------------------------

    def list_received(self, name: str, message: VipaList, first: bool) -> None:
        """Remember epochs and distributions; a lower claim than ours is told so.

        `first`: of a session; before it the peer may have owned what it does not any more.
        """
        rules = message.rules()
        for entry in message.entries:
            self._candidates.heard(entry.dvipa, entry.epoch)
            vipa = self._vipas.get(entry.dvipa)
            if not entry.owner:
                had = (entry.rank > 0 and first) or (vipa and entry.epoch > vipa.epoch)
                if had and vipa and vipa.owning:  # maybe, and neighbours may still look there
                    vipa.rival_released = True
                    self._context.touched.add(vipa.dvipa)
                continue
            if vipa is None or not vipa.owning:
                self.standby.heard(entry.dvipa, entry.active)
            news = self._rows.heard(entry.dvipa, entry.distributes)
            if self.policies.heard(entry.dvipa, rules.get(entry.dvipa, ())) or news:
                self._context.touched.add(entry.dvipa)
                if vipa and vipa.owning:
                    self._context.emit(Broadcast(self._lists.part(vipa)))
            claim = make_claim(entry.epoch, entry.rank, name)
            if vipa is not None and vipa.owning and claim < self._own(vipa):
                self._context.emit(Send(name, self._lists.part(vipa)))

    def dvipa_received(self, name: str, message: Dvipa) -> None:
        """A DVIPA message: takeover or takeback; one of an old epoch changes nothing here."""
        self._candidates.heard(message.dvipa, message.epoch)
        membership = self._context.membership
        vipa = self._vipas.get(message.dvipa)
        match message.move:
            case Move.TAKEOVER | Move.COMPLETE:
                membership.claimed(name, message.dvipa, message.epoch, True)
                if vipa is not None and message.move is Move.COMPLETE:
                    vipa.settled(message.epoch, self._context.now_ms)
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
                    if vipa.state is State.AWAITING:  # before, its owner wanted to keep it
                        self._takeover.ask(vipa, name)
            case Move.PREPARE:
                pass  # targets answer with their connections; the owner stays what it is

    def reach_changed(self) -> None:
        """Some peer hears others than before: a former owner may be heard of no more."""
        for vipa in self:
            if vipa.withholding:
                self._context.touched.add(vipa.dvipa)

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
        if entitled or self._candidates.leaving(vipa) or name == vipa.offered_to:
            vipa.asked_by, vipa.asked_epoch = name, epoch

    # -- completions --------------------------------------------------------------------------

    def _waiting_for(self, effect_id: int) -> Ownership | None:
        """Whose sequence this is; one that is superseded is nobody's, and changes nothing."""
        for vipa in self:
            if vipa.effect_id == effect_id:
                self._context.touched.add(vipa.dvipa)
                return vipa
        return None

    def effect_done(self, effect_id: int) -> None:
        """A completion."""
        vipa = self._waiting_for(effect_id)
        if vipa is not None:
            vipa.done = True

    def effect_failed(self, effect_id: int, reason: str) -> None:
        """A failure, of a sequence or of an announcement."""
        for vipa in self:
            if effect_id in (vipa.effect_id, vipa.announcing):
                self._takeover.effect_failed(vipa, effect_id, reason)
                self._context.touched.add(vipa.dvipa)

    def crt_dumped(self, event: CrtDumped) -> None:
        """The CRT that a giving node hands over."""
        vipa = self._waiting_for(event.effect_id)
        if vipa is not None and vipa.state is State.GIVING:
            vipa.crt_dump = event.entries

    def sockets_dumped(self, event: SocketsDumped) -> None:
        """The connections that end here, of a DVIPA that is being given up."""
        vipa = self._waiting_for(event.effect_id)
        if vipa is not None and vipa.state is State.GIVING:
            vipa.socket_dump = (event.established, event.embryonic)

    def collecting(self, effect_id: int) -> tuple[Ownership, Collection] | None:
        """The collection whose own part the dump `effect_id` is."""
        for dvipa, collection in self.collections.items():
            if collection.own_effect == effect_id:
                self._context.touched.add(dvipa)
                return self._vipas[dvipa], collection
        found = self._rechecks.answered(effect_id)
        vipa = self._vipas.get(found[0]) if found is not None else None
        if found is None or vipa is None or not vipa.wants_crt:
            return None
        return vipa, found[1]

    # -- deciding -----------------------------------------------------------------------------

    def touch_due(self) -> None:
        """DVIPAs whose time has come are looked at."""
        for dvipa in self._agenda.due(self._context.now_ms):
            self._context.touched.add(dvipa)

    def refresh(self, look: Iterable[Address]) -> None:
        """Take every row of the table that is due for the DVIPAs `look`."""
        for dvipa in self._rechecks.due():
            self.recheck(dvipa, again=False)
        for dvipa in look:
            vipa = self._vipas.get(dvipa)
            if vipa is None:
                continue
            self._take_rows(vipa)
            if vipa.rank == 0 and vipa.state is State.BACKUP:
                self.parts.forget(vipa)
                vipa = self._vipas.get(dvipa)  # by the profile, which had to wait
                if vipa is not None:
                    self._take_rows(vipa)
            self._idle.follow(dvipa, vipa is not None and self._waits_idle(vipa))
            self._agenda.set(dvipa, *self._times(vipa))
        self._idle.count()

    def _take_rows(self, vipa: Ownership) -> None:
        self.parts.heed(vipa)
        self._takeover.on_time(vipa)
        for _ in range(ROWS_PER_STEP):
            facts = facts_of(vipa, self._context, self._candidates, self.collections)
            trigger = due(vipa, facts)
            if trigger is None:
                break
            if not self._takeover.act(vipa, trigger, facts, self._epoch(vipa.dvipa)):
                break
            self._context.touched.add(vipa.dvipa)  # what follows is looked at once more
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
            self._context.touched.add(vipa.dvipa)

    # -- telling ------------------------------------------------------------------------------

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

    def publish(self, look: Iterable[Address], hidden: Container[Address]) -> None:
        """Tell the data plane who the members are, the socket watcher which DVIPAs count, and
        peers what is new about the DVIPAs `look`."""
        members = frozenset(peer.member.xcf for peer in self._context.membership)
        if members != self._members:
            self._members = members
            self._context.emit(SetMembers(members))
        self._lists.publish(look)
        for dvipa in sorted(look, key=order):
            if self.is_named(dvipa):
                self._witnesses.testify(dvipa, self._hears(dvipa))
            else:
                self._witnesses.forget(dvipa)
        before = len(self._watched)
        gone = {dvipa for dvipa in look if dvipa not in self._vipas and dvipa not in hidden}
        changed = not gone.isdisjoint(self._watched)
        self._watched -= gone
        self._watched.update(dvipa for dvipa in look if dvipa not in gone)
        if changed or len(self._watched) != before:
            self._context.emit(WatchDvipas(frozenset(self._watched)))

    def deadlines(self) -> list[int]:
        """When all of them are looked at without any input."""
        times = self._candidates.deadlines()
        if self._context.stopping_since_ms is not None:
            times.append(self._context.stopping_since_ms + STOP_MS)
        return times

    def deadline(self) -> int | None:
        """When a row of the table may be due for some DVIPA without any input."""
        found = (self._agenda.next(), self._rechecks.deadline(), self._idle.deadline())
        return min((at_ms for at_ms in found if at_ms is not None), default=None)

    def _times(self, vipa: Ownership | None) -> list[int]:
        if vipa is None:
            return []
        return times_of(vipa, self._context, self.collections.get(vipa.dvipa))
