"""Takeover and takeback: the actions of the ownership table, as effects (D8, D9).

The order of steps is part of the rules: rules before address before announcement; giving up is
stop announcing, tell the successor, drop the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from dvipad.address import Address
from dvipad.config.model import Distribute, Moveable
from dvipad.core import crt
from dvipad.core.context import ANNOUNCE_AGAIN_MS, FORGET_MS, HUSH_MS, RETRY_MS, Context
from dvipad.core.crt import Collection
from dvipad.core.dpt import target_spec
from dvipad.core.effects import (
    Announce,
    Broadcast,
    Decision,
    DumpCrt,
    DumpSockets,
    PlaceAddress,
    ProbeAddress,
    RetainConnections,
    Role,
    Send,
    Sequence,
    SetDvipa,
    Step,
)
from dvipad.core.membership import Claim, Life
from dvipad.core.ranges import RANGE_RANK
from dvipad.core.triggers import Facts
from dvipad.core.vipa import Action, Ownership, State, Trigger
from dvipad.wire.messages import Dvipa, Move, VipaList


class Takeover:
    """Carries out the actions; `said` is what the node says of a DVIPA, `show` its part as
    target, `effective` how it distributes."""

    def __init__(
        self,
        context: Context,
        said: Callable[[Ownership], VipaList],
        show: Callable[[Address], None],
        effective: Callable[[Address], tuple[Distribute, ...]],
    ) -> None:
        self._context = context
        self._said = said
        self._show = show
        self._effective = effective
        self.collections: dict[Address, Collection] = {}

    def act(self, vipa: Ownership, trigger: Trigger, facts: Facts, highest: int) -> bool:
        """Take the row for `trigger`; False when the table has none.

        `highest` is the highest epoch of the DVIPA that was ever heard of.
        """
        taken = vipa.take(trigger, self._context.now_ms)
        if taken is None:
            return False
        action, before, after = taken
        detail = vipa.failed if trigger is Trigger.FAILED else ""
        self._perform(vipa, action, facts, highest)
        other = vipa.successor or (facts.rival.name if facts.rival else None)
        self._context.emit(
            Decision(
                vipa.dvipa,
                trigger.value,
                action.value,
                before.value,
                after.value,
                vipa.epoch,
                self._context.settings.name if vipa.owning else other,
                detail,
            )
        )
        return True

    def _perform(self, vipa: Ownership, action: Action, facts: Facts, highest: int) -> None:
        match action:
            case Action.PROBE:
                self._begin(vipa, ProbeAddress(vipa.dvipa))
            case Action.TAKE_OVER:
                self._take_over(vipa, highest)
            case Action.PREPARE:
                self._prepare(vipa, highest)
            case Action.ASK:
                self.ask(vipa, facts.rival.name if facts.rival else None)
            case Action.ASSUME:
                self._assume(vipa)
            case Action.COMPLETE:
                self._complete(vipa)
            case Action.GIVE_UP:
                self._give_up(vipa, facts.rival)
            case Action.RELEASE:
                self._release(vipa)
            case Action.OFFER:
                vipa.offered_to, vipa.idle = facts.backup, False
                self._send(vipa.offered_to, Move.OFFER, vipa)
            case Action.ANNOUNCE_AGAIN:
                vipa.rival_released = False
                vipa.announcing = self._context.sequence(Announce(vipa.dvipa))
            case Action.WITHDRAW:
                self._withdraw(vipa)
            case Action.DROP:
                self._drop(vipa)
            case _:
                assert_never(action)

    def _send(self, name: str | None, move: Move, vipa: Ownership) -> None:
        if name is not None:
            self._context.emit(Send(name, Dvipa(move, vipa.dvipa, vipa.epoch)))

    def ask(self, vipa: Ownership, name: str | None) -> None:
        """Ask `name`, its distributor, for the address."""
        self._send(name, Move.TAKEBACK, vipa)

    def _begin(self, vipa: Ownership, *steps: Step) -> None:
        vipa.done = False
        vipa.failed = ""
        vipa.effect_id = self._context.sequence(*steps)

    def collect(self, vipa: Ownership) -> None:
        """Await the connections of every node that may have some, this one included."""
        peers = self._context.membership
        members = {peer.member.name for peer in peers if peer.life is not Life.DEAD}
        effect_id = self._context.new_id()
        self.collections[vipa.dvipa] = Collection(
            vipa.epoch,
            self._context.now_ms,
            members | {self._context.settings.name},
            effect_id,
        )
        self._context.emit(DumpSockets(effect_id, vipa.dvipa))

    def _take_over(self, vipa: Ownership, highest: int) -> None:
        _forget_talks(vipa)
        _heed(vipa)
        vipa.epoch = highest + 1
        vipa.successor = None
        self._begin(
            vipa,
            SetDvipa(vipa.dvipa, Role.OWNER, vipa.epoch, collecting=True),
            Broadcast(self._said(vipa)),
            Broadcast(Dvipa(Move.TAKEOVER, vipa.dvipa, vipa.epoch)),
            PlaceAddress(vipa.dvipa, True),
            Announce(vipa.dvipa),
        )
        self.collect(vipa)

    def _prepare(self, vipa: Ownership, highest: int) -> None:
        vipa.released = False
        vipa.successor = None
        vipa.epoch = highest + 1
        self._begin(
            vipa,
            SetDvipa(vipa.dvipa, Role.OWNER, vipa.epoch, collecting=True, quiet=True),
            Broadcast(Dvipa(Move.PREPARE, vipa.dvipa, vipa.epoch)),
        )
        self.collect(vipa)

    def _assume(self, vipa: Ownership) -> None:
        # What its owner offered was not taken away from it, whoever wished for it before.
        disruptive = vipa.moveable is Moveable.DISRUPTIVE and vipa.offered_by is None
        _forget_talks(vipa)
        self.collections.pop(vipa.dvipa, None)
        self._begin(
            vipa,
            SetDvipa(vipa.dvipa, Role.OWNER, vipa.epoch),
            PlaceAddress(vipa.dvipa, True),
            Announce(vipa.dvipa),
            Broadcast(self._said(vipa)),
            Broadcast(Dvipa(Move.COMPLETE, vipa.dvipa, vipa.epoch)),
        )
        if vipa.summoned and disruptive:
            self._break(vipa.dvipa)
        _heed(vipa)

    def _break(self, dvipa: Address) -> None:
        """Connections that end elsewhere are not carried on: clients are told by a reset."""
        timers = self._context.settings.timers
        before_ms = self._context.now_ms + timers.collect_ms  # what was handed over is put in now
        for peer in self._context.membership:
            self._context.emit(RetainConnections(dvipa, peer.member.xcf, b"", before_ms))

    def _complete(self, vipa: Ownership) -> None:
        self.collections.pop(vipa.dvipa, None)
        vipa.unheard = self._silent_targets(vipa.dvipa)
        vipa.hushed_until_ms = self._context.now_ms + HUSH_MS
        vipa.withholding = bool(vipa.unheard) or self._rival_acts(vipa)
        self._begin(
            vipa,
            SetDvipa(vipa.dvipa, Role.OWNER, vipa.epoch, collecting=vipa.withholding),
            Broadcast(Dvipa(Move.COMPLETE, vipa.dvipa, vipa.epoch)),
        )

    def _silent_targets(self, dvipa: Address) -> set[str]:
        """Targets that fell silent lately: they, or only the way to them, may be gone."""
        rows, now_ms = self._effective(dvipa), self._context.now_ms
        return {
            peer.member.name
            for peer in self._context.membership
            if peer.life is Life.DEAD
            and not peer.left
            and now_ms < peer.since_ms + FORGET_MS
            and any(target_spec(row, peer.member.xcf) for row in rows)
        }

    def _rival_acts(self, vipa: Ownership) -> bool:
        """Whether a former owner may not know yet that it is none: it may be cut off and not dead,
        or dead with a kernel that goes on until the lease ends."""
        if self._context.now_ms >= vipa.hushed_until_ms:
            return False
        return any(
            entry.owner or (peer.life is Life.UP and not peer.listed)
            for peer in self._context.membership
            if (entry := peer.entries.get(vipa.dvipa)) is not None
        )

    def on_time(self, vipa: Ownership) -> None:
        """What an owner does when its time has come."""
        self._hear_again(vipa)
        self._announce_due(vipa)

    def _hear_again(self, vipa: Ownership) -> None:
        """Nobody's connections are awaited any more once all were heard of, or are forgotten."""
        if vipa.state is not State.ACTIVE or not vipa.withholding:
            return
        for name in list(vipa.unheard):
            peer = self._context.membership.get(name)
            dead = peer is not None and peer.life is Life.DEAD
            if peer is None or (dead and self._context.now_ms >= peer.since_ms + FORGET_MS):
                vipa.unheard.discard(name)
        if not vipa.unheard and not self._rival_acts(vipa):
            vipa.withholding = False
            self._context.emit(SetDvipa(vipa.dvipa, Role.OWNER, vipa.epoch))

    def effect_failed(self, vipa: Ownership, effect_id: int, reason: str) -> None:
        """A failure; one of a superseded sequence changes nothing."""
        if vipa.effect_id == effect_id:
            vipa.failed = reason
        elif vipa.announcing == effect_id:
            vipa.announce_ms = self._context.now_ms + ANNOUNCE_AGAIN_MS

    def _announce_due(self, vipa: Ownership) -> None:
        """An announcement that failed is made again after a while."""
        if vipa.announce_ms is not None and self._context.now_ms >= vipa.announce_ms:
            vipa.announce_ms = None
            vipa.rival_released = vipa.owning

    def follow(self, vipa: Ownership, rival: Claim | None) -> None:
        """What this node gave up has moved on: relay to who has it now."""
        if vipa.state is not State.MOVING or rival is None or rival.name == vipa.successor:
            return
        vipa.successor = rival.name
        vipa.epoch = max(vipa.epoch, rival.epoch)  # what eyes saw was a guess
        successor = self._context.xcf_of(rival.name)
        self._context.emit(SetDvipa(vipa.dvipa, Role.MOVING, vipa.epoch, successor=successor))

    def _give_up(self, vipa: Ownership, rival: Claim | None) -> None:
        """Relay first, hide next, hand over then: what arrives in between is the successor's."""
        vipa.held_epoch = vipa.epoch
        if vipa.asked_by is not None:
            vipa.successor, vipa.epoch = vipa.asked_by, vipa.asked_epoch
        elif rival is not None:
            vipa.successor, vipa.epoch = rival.name, rival.epoch
        vipa.unheard, vipa.withholding = set(), False
        vipa.crt_dump = vipa.settled_ms = None
        vipa.done = False
        vipa.failed = ""
        self.collections.pop(vipa.dvipa, None)
        vipa.effect_id = self._context.new_id()
        successor = self._context.xcf_of(vipa.successor or "")
        steps = (
            SetDvipa(vipa.dvipa, Role.MOVING, vipa.epoch, successor=successor),
            PlaceAddress(vipa.dvipa, False),
            DumpSockets(vipa.effect_id, vipa.dvipa),
            DumpCrt(vipa.effect_id, vipa.dvipa),
        )
        self._context.emit(Sequence(vipa.effect_id, steps))

    def _release(self, vipa: Ownership) -> None:
        successor = vipa.successor or ""
        # Connections that ended up here without a choice are in no CRT, but in the sockets. Some
        # are over by now, and their TERMCONN is on its way ahead of this: for the successor none
        # is established before its next packet.
        xcf = self._context.settings.xcf
        own = (xcf, b"", b"".join(vipa.socket_dump))
        vipa.socket_dump = (b"", b"")
        for target, established, embryonic in (own, *(vipa.crt_dump or ())):
            if target == xcf:
                established, embryonic = b"", established + embryonic
            for message in crt.batches(
                vipa.dvipa, vipa.epoch, target, established, embryonic, snapshot=False
            ):
                self._context.emit(Send(successor, message))
        vipa.crt_dump = None
        self._send(successor, Move.RELEASE, vipa)  # and the list says it to all

    def _withdraw(self, vipa: Ownership) -> None:
        if vipa.failed:
            vipa.retry_ms = self._context.now_ms + RETRY_MS
        if vipa.successor is not None and vipa.asked_by is None:
            self._send(vipa.successor, Move.RELEASE, vipa)
        # Who asked gets no connections: for it the owner is lost, and it asks the targets again.
        self._drop(vipa)

    def _drop(self, vipa: Ownership) -> None:
        _forget_talks(vipa)
        vipa.effect_id = 0
        vipa.failed = ""
        vipa.crt_dump = None
        self.collections.pop(vipa.dvipa, None)
        self._show(vipa.dvipa)


def _forget_talks(vipa: Ownership) -> None:
    """What was asked, offered or released concerned the former owner."""
    vipa.asked_by = vipa.offered_by = vipa.offered_to = None
    vipa.released = vipa.rival_released = vipa.idle = False
    vipa.unheard, vipa.withholding = set(), False


def _heed(vipa: Ownership) -> None:
    """Who asked for the address has it; from now on its wish is one of several."""
    if vipa.summoned:
        vipa.summoned, vipa.rank = False, RANGE_RANK
