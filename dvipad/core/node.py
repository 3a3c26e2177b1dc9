"""One node: inputs in, effects out. Dispatch only; the parts decide.

`step(input, now_ms)` and `expire(now_ms)` return the effects to carry out, in order;
`deadline()` says when `expire` is due. Time is a parameter, in milliseconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from dvipad.address import Address
from dvipad.core.context import Context, NodeSettings
from dvipad.core.distributor import Distributor
from dvipad.core.dpt import Dpt
from dvipad.core.effects import Effect, InsertConnections, Leave, Send
from dvipad.core.inputs import (
    ActiveCounted,
    AddressesBound,
    Adopted,
    ConnectionsCounted,
    ConnectionsEnded,
    ConnectionsOriginated,
    CrtDumped,
    DeleteAsked,
    EffectDone,
    EffectFailed,
    EventsMissed,
    Input,
    ListenersChanged,
    Measured,
    MinuteCame,
    OfStatus,
    Ordered,
    PoliciesChanged,
    ProfileChanged,
    SeenElsewhere,
    SocketsDumped,
    Stalled,
    Started,
    StopRequested,
    TroublesChanged,
)
from dvipad.core.membership import Life, Membership
from dvipad.core.owners import Owners
from dvipad.core.scope import ends_only, touches_itself
from dvipad.core.target import Target
from dvipad.core.view import NodeView
from dvipad.core.viewing import view_of
from dvipad.core.vipa import State
from dvipad.core.workload import Workloads
from dvipad.wire.events import HostAnswered, MessageReceived, PeerDown, PeerUp
from dvipad.wire.messages import (
    Dvipa,
    Figures,
    Goodbye,
    Heartbeat,
    Hello,
    Members,
    Message,
    Move,
    NewConn,
    Quality,
    SrvStat,
    Status,
    TermConn,
    VipaList,
    Weights,
    Witness,
)

ALONE_FACTOR: Final = 4
"""A starting node that reaches none of its peers, or not those that they reach, waits so many
times `join_ms` for them: claiming an address without them would cost their connections. One that
was told of no peer waits, too: it may be the seed that all others know."""


class Node:
    """The pure core of one `dvipad`."""

    def __init__(self, settings: NodeSettings) -> None:
        timers = settings.timers
        membership = Membership(settings.name, timers.dead_ms, timers.restart_grace_ms)
        self.context = Context(settings, membership)
        self.workloads = Workloads(self.context)
        self.dpt = Dpt(self.workloads)
        self.owners = Owners(self.context, self._show)
        self.target = Target(self.context, self.dpt, self.owners.distribution, self.owners.busy)
        ways = (self.owners.effective, self.owners.policies.open, self.owners.standby)
        self.distributor = Distributor(self.context, self.dpt, self.workloads, *ways)
        self._left = False
        self._started_ms: int | None = None
        self._settled_ms = 0

    @property
    def _own_name(self) -> str:
        return self.context.settings.name

    def _show(self, dvipa: Address) -> None:
        self.target.give_back(dvipa)

    # -- the verbs ----------------------------------------------------------------------------

    def step(self, event: Input, now_ms: int) -> list[Effect]:
        """Take `event` in; returns what is to be done, in order."""
        self.context.now_ms = now_ms
        if not touches_itself(event):
            self.context.touched.everything()
        self._dispatch(event)
        return self._take_effects() if ends_only(event) else self._settle()

    def expire(self, now_ms: int) -> list[Effect]:
        """Time has come: returns what is to be done."""
        self.context.now_ms = now_ms
        return self._settle()

    def deadline(self) -> int | None:
        """When `expire` is to be called, if nothing happens before.

        After the time of the last step that settled everything; one that only took note of ended
        connections did not.
        """
        times = [*self._deadlines(), *self.target.deadlines()]
        dues = (self.owners.deadline(), self.workloads.deadline(), self.distributor.turn_ms())
        times += [due_ms for due_ms in dues if due_ms is not None]
        return min((time for time in times if time > self._settled_ms), default=None)

    def _deadlines(self) -> list[int]:
        """Times that concern all DVIPAs."""
        context = self.context
        times = [*context.membership.deadlines(), *self.owners.deadlines()]
        times += self.distributor.deadlines()
        if context.doubting_since_ms is not None:
            timers, since_ms = context.settings.timers, context.doubting_since_ms
            times += [since_ms + timers.dead_ms, since_ms + ALONE_FACTOR * timers.join_ms]
        if not context.joined and self._started_ms is not None:
            join_ms = context.settings.timers.join_ms
            times += [self._started_ms + join_ms, self._started_ms + ALONE_FACTOR * join_ms]
        return times

    def sure(self) -> bool:
        """Whether what this node knows of ownership is fresh.

        After a stall it is not, until the peers have said what they own: another node may have
        taken over what this one believes to be its own.
        """
        return self.context.doubting_since_ms is None

    def view(self) -> NodeView:
        """What this node knows."""
        return view_of(self.context, self.owners, self.target, self.distributor)

    # -- inputs -------------------------------------------------------------------------------

    def _dispatch(self, event: Input) -> None:
        match event:
            case Started():
                self._start(event)
            case ProfileChanged() | PoliciesChanged() | MinuteCame():
                self.owners.configured(event)
            case PeerUp() | PeerDown() | HostAnswered():
                self._peer(event)
            case MessageReceived():
                self._message(event.name, event.message)
            case ListenersChanged():
                self.target.listeners_changed(event.listeners)
            case ConnectionsOriginated() | ConnectionsEnded():
                self._connections(event)
            case EventsMissed():
                self.target.events_missed(event.dvipas)
                for dvipa in sorted(event.dvipas, key=str):
                    self.owners.recheck(dvipa)
            case EffectDone():
                self.owners.effect_done(event.effect_id)
            case EffectFailed():
                self.owners.effect_failed(event.effect_id, event.reason)
                self.target.effect_failed(event.effect_id)
            case CrtDumped():
                self.owners.crt_dumped(event)
            case ConnectionsCounted():
                self.owners.counted(event)
            case SocketsDumped():
                self._sockets_dumped(event)
            case Ordered():
                self.context.orders = event.orders
                self.owners.parts.follow()
            case AddressesBound():
                self.owners.parts.bound(event)
            case DeleteAsked():
                self.owners.parts.delete(event.dvipa)
            case TroublesChanged():
                self.context.troubles = event.troubles
            case SeenElsewhere():
                self.owners.seen(event.claims)
            case Measured():
                self.workloads.measured(event.said)
            case ActiveCounted():
                self.workloads.counted(dict(event.counts))
            case OfStatus():
                self.workloads.of_status(event)
            case Stalled():
                self.context.doubting_since_ms = self.context.now_ms
            case StopRequested():
                if not self.context.stopping:
                    self.context.stopping_since_ms = self.context.now_ms
            case _:
                assert_never(event)

    def _start(self, event: Started) -> None:
        self._started_ms = self.context.now_ms
        self.context.started = True
        for adopted in event.adopted:
            self._adopt(adopted)

    def _adopt(self, adopted: Adopted) -> None:
        self.owners.parts.adopt(adopted.dvipa)
        if adopted.owned and self.owners.adopt(adopted):
            hold_ms = 2 * self.context.settings.timers.join_ms
            self.distributor.adopt(adopted, hold_ms)
        else:
            self.distributor.adopt(adopted, 0)
            self.target.adopt(adopted.dvipa)

    def _peer(self, event: PeerUp | PeerDown | HostAnswered) -> None:
        membership, now = self.context.membership, self.context.now_ms
        match event:
            case PeerUp():
                name = event.member.name
                known = membership.get(name)
                if known is not None and known.life is Life.DEAD:
                    self.owners.announce_again(ranged_only=True)
                membership.up(event.member, now)
                self.distributor.peer_up(name)
                self.context.emit(Send(name, self.owners.vipa_list()))
                self.owners.greet(name)
                self.target.greet(name)
                self.workloads.greet(name)
            case PeerDown():
                membership.down(event.name, event.reason, now)
            case HostAnswered():
                membership.answered(event.name, now)

    def _connections(self, event: ConnectionsOriginated | ConnectionsEnded) -> None:
        keeps_crt = self.owners.keeps_crt(event.dvipa)
        if isinstance(event, ConnectionsOriginated):
            self.target.originated(event)
            if keeps_crt:
                own = self.context.settings.xcf
                self.context.emit(InsertConnections(own, event.keys, b""))
        else:
            self.target.ended(event)
            if keeps_crt:
                self.distributor.ended(self.context.settings.name, event.keys)

    def _sockets_dumped(self, event: SocketsDumped) -> None:
        if self.target.sockets_dumped(event):
            return
        self.owners.sockets_dumped(event)
        found = self.owners.collecting(event.effect_id)
        if found is not None:
            self.distributor.own_connections(found[0], event, found[1])

    # -- messages -----------------------------------------------------------------------------

    def _message(self, name: str, message: Message) -> None:
        match message:
            case VipaList():
                self._list(name, message)
            case SrvStat():
                self.context.touched.add(message.dvipa)
                self.dpt.update(name, message)
            case NewConn():
                self.context.touched.add(message.dvipa)
                vipa = self.owners.get(message.dvipa)
                if vipa is not None and vipa.wants_crt:
                    collection = self.owners.collections.get(message.dvipa)
                    self.distributor.new_connections(name, message, vipa, collection)
            case TermConn():
                if self.owners.keeps_crt(message.dvipa):
                    self.distributor.ended(name, message.connections)
            case Dvipa():
                self.context.touched.add(message.dvipa)
                self.owners.dvipa_received(name, message)
                if message.move in (Move.PREPARE, Move.TAKEOVER):
                    self.target.report(message.dvipa, name, message.epoch)
            case Witness():
                self.context.touched.add(message.dvipa)
                self.owners.witnessed(name, message)
            case Weights() | Quality():
                self.workloads.received(name, message)
            case Figures():
                self.workloads.figures_received(name, message)
            case Members():
                self.owners.reach_changed()
                named = {member.name for member in message.members}
                self.context.membership.members_received(name, named - {self._own_name})
            case Hello() | Heartbeat() | Goodbye() | Status():
                pass  # the mesh's own affairs
            case _:
                assert_never(message)

    def _list(self, name: str, message: VipaList) -> None:
        peer = self.context.membership.get(name)
        if peer is None:
            return
        first, before = not peer.listed, (peer.joined, peer.labels)
        changed = self.context.membership.list_received(name, message)
        if (first and message.whole) or before != (message.joined, message.labels):
            self.context.touched.everything()
        for dvipa in changed:
            self.context.touched.add(dvipa)
        self.owners.list_received(name, message, first)
        for dvipa, released in changed.items():
            if released:
                self.target.released(dvipa, name)
        for entry in message.entries:
            if entry.owner:
                self.target.report(entry.dvipa, name, entry.epoch)

    # -- after every input --------------------------------------------------------------------

    def _settle(self) -> list[Effect]:
        """Everything that follows from what is known now."""
        context = self.context
        since_ms, self._settled_ms = self._settled_ms, context.now_ms
        if any(since_ms < time <= context.now_ms for time in self._deadlines()):
            context.touched.everything()
        for name in context.membership.expire(context.now_ms):
            context.touched.everything()
            self.distributor.peer_dead(name)
        self.workloads.expire()
        self._join()
        self._make_sure()
        self.owners.touch_due()
        look = context.touched.take(self._known)
        context.note(look)
        self.owners.refresh(look)
        self.target.refresh(look, self.owners.is_named)
        self.distributor.refresh(look, self.owners.keeps_crt)
        self.distributor.expire()
        self.owners.publish(look, self.target.hidden)
        self._leave()
        return self._take_effects()

    def _known(self) -> Iterator[Address]:
        yield from self.owners.known()
        yield from self.target.hidden

    def _take_effects(self) -> list[Effect]:
        effects, self.context.effects = self.context.effects, []
        return effects

    def _join(self) -> None:
        """Ownership is decided once everybody that is there could say what it owns."""
        context = self.context
        if context.joined or self._started_ms is None:
            return
        listed = sum(peer.listed for peer in context.membership)
        knowing = sum(peer.listed and peer.joined for peer in context.membership)
        seeds = context.settings.seeds
        # Who was told of one peer only, the seed, needs somebody who knows the others.
        complete = listed >= seeds if seeds > 1 else knowing >= seeds == 1
        missing = context.membership.mentioned() - context.membership.names_up()
        factor = 1 if knowing and not missing and seeds else ALONE_FACTOR
        patience_ms = context.settings.timers.join_ms * factor
        waited_ms = context.now_ms - self._started_ms
        context.joined = waited_ms >= patience_ms or (complete and not missing)
        if context.joined:
            context.touched.everything()

    def _make_sure(self) -> None:
        """A doubt ends when every peer whose session is new has said what it owns.

        Peers that found this node silent have ended their sessions with it, and that is known
        at once; those that did not would have said so.
        """
        context = self.context
        since_ms = context.doubting_since_ms
        if since_ms is None:
            return
        up = [peer for peer in context.membership if peer.life is Life.UP]
        timers = context.settings.timers
        wait_ms = timers.dead_ms if up else ALONE_FACTOR * timers.join_ms
        if context.now_ms >= since_ms + wait_ms and all(peer.listed for peer in up):
            context.doubting_since_ms = None
            context.touched.everything()
            self.owners.announce_again(ranged_only=False)

    def _leave(self) -> None:
        if not self.context.stopping or self._left:
            return
        if all(vipa.state is State.BACKUP for vipa in self.owners):
            self._left = True
            self.context.emit(Leave())
