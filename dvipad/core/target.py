"""The target's part: hidden addresses, SRVSTAT, NEWCONN and TERMCONN (D3, D7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dvipad.address import Address, order
from dvipad.config.model import Distribute
from dvipad.core import crt
from dvipad.core.agenda import Agenda
from dvipad.core.context import (
    IDLE_AGAIN_MS,
    REPORT_AGAIN_MS,
    REPORT_SOON_MS,
    SHOW_AGAIN_MS,
    Context,
)
from dvipad.core.dpt import Dpt, target_spec
from dvipad.core.effects import (
    Broadcast,
    DumpSockets,
    PlaceAddress,
    RemoveAddress,
    RemoveDvipa,
    Role,
    Send,
    SetDvipa,
    Step,
)
from dvipad.core.inputs import ConnectionsEnded, ConnectionsOriginated, Listener, SocketsDumped
from dvipad.wire.messages import MAX_CONNECTIONS, PortStatus, SrvStat, TermConn

_WILDCARDS: Final[dict[int, Address]] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}


class Target:
    """This node as a target of every DVIPA that lists it.

    `distribution(dvipa)` is how the greatest claim distributes it, None while nobody claims it;
    `busy(dvipa)` is true while ownership decides what the data plane does with the address.
    """

    def __init__(
        self,
        context: Context,
        dpt: Dpt,
        distribution: Callable[[Address], tuple[Distribute, ...] | None],
        busy: Callable[[Address], bool],
    ) -> None:
        self._context = context
        self._dpt = dpt
        self._distribution = distribution
        self._busy = busy
        self._listeners: dict[Address | None, list[Listener]] = {}
        self._reported: dict[Address, dict[str, tuple[int, int]]] = {}
        self._dumps: dict[int, tuple[Address, str, int]] = {}
        self._idle_checks: dict[int, Address] = {}
        self._looks: Agenda[Address] = Agenda()
        self._empty: set[Address] = set()
        self._told: set[tuple[str, Address]] = set()
        self._reports: Agenda[tuple[Address, str]] = Agenda()
        self._showing: dict[Address, int] = {}
        self._show_again: Agenda[Address] = Agenda()
        self.hidden: set[Address] = set()
        self.quiescing: set[Address] = set()

    def adopt(self, dvipa: Address) -> None:
        """A former daemon left `dvipa` hidden here: it stays until a VIPA list says otherwise."""
        self.hidden.add(dvipa)
        self.show(dvipa)

    def wants(self, dvipa: Address) -> bool:
        """Whether this node keeps `dvipa` as a hidden address."""
        return dvipa in self.hidden

    # -- hidden addresses ---------------------------------------------------------------------

    def refresh(self, look: Iterable[Address], named: Callable[[Address], bool]) -> None:
        """Follow the lists of the DVIPAs `look`; `named`: whether anybody in the cluster names
        one."""
        now_ms = self._context.now_ms
        # As long as nobody spoke, what was adopted stays.
        silent = not any(peer.listed for peer in self._context.membership)
        self._report_again()
        for dvipa in self._looks.due(now_ms):
            self._check_idle(dvipa)
        for dvipa in self._show_again.due(now_ms):
            self.show(dvipa)
        ordered = sorted(look, key=order)
        for dvipa in ordered:
            self._follow(dvipa, named(dvipa) or silent)
        up = sorted(self._context.membership.names_up())
        for dvipa in ordered:
            if dvipa in self.hidden:
                self._publish(dvipa, up)

    def _follow(self, dvipa: Address, named: bool) -> None:
        rows = self._distribution(dvipa) if named else ()
        if rows is None:
            return
        candidate = any(target_spec(row, self._context.settings.xcf) for row in rows)
        if candidate:
            self.quiescing.discard(dvipa)
            if dvipa not in self.hidden:
                self.hidden.add(dvipa)
                self.show(dvipa)
        elif dvipa in self.hidden and dvipa not in self.quiescing:
            self.quiescing.add(dvipa)
            self._check_idle(dvipa)

    def show(self, dvipa: Address) -> None:
        """Bring address and data plane to what this node is to `dvipa` as a target."""
        if self._busy(dvipa):
            return
        steps: tuple[Step, ...] = (RemoveAddress(dvipa), RemoveDvipa(dvipa))
        if dvipa in self.hidden:
            steps = (SetDvipa(dvipa, Role.HIDDEN, 0), PlaceAddress(dvipa, False))
        self._showing[dvipa] = self._context.sequence(*steps)
        self._show_again.discard(dvipa)

    def give_back(self, dvipa: Address) -> None:
        """Ownership is done with `dvipa`; connections that end here keep it hidden."""
        if dvipa not in self.hidden:
            self.hidden.add(dvipa)
            self.quiescing.add(dvipa)
            self._check_idle(dvipa)
        self.show(dvipa)

    def effect_failed(self, effect_id: int) -> None:
        """What could not be shown is tried again later; ownership looks after its own effects."""
        for dvipa, awaited in self._showing.items():
            if awaited == effect_id:
                self._show_again.set(dvipa, self._context.now_ms + SHOW_AGAIN_MS)

    def deadlines(self) -> list[int]:
        """When `refresh` has something to do again."""
        found = (self._show_again.next(), self._reports.next(), self._looks.next())
        return [at_ms for at_ms in found if at_ms is not None]

    def _check_idle(self, dvipa: Address) -> None:
        if dvipa not in self._idle_checks.values():
            effect_id = self._context.new_id()
            self._idle_checks[effect_id] = dvipa
            self._context.emit(DumpSockets(effect_id, dvipa))

    # -- SRVSTAT ------------------------------------------------------------------------------

    def listeners_changed(self, listeners: tuple[Listener, ...]) -> None:
        """Listeners opened or closed on this node."""
        before, self._listeners = self._listeners, {}
        for listener in listeners:
            self._listeners.setdefault(listener.address, []).append(listener)
        for address in before.keys() | self._listeners.keys():
            if before.get(address) == self._listeners.get(address):
                continue
            if address is None or address.is_unspecified:
                self._context.touched.everything()
            else:
                self._context.touched.add(address)

    def status(self, dvipa: Address) -> dict[int, int]:
        """Ports on which this node can serve `dvipa`: {port: ready listeners} (C1)."""
        xcf = self._context.settings.xcf
        rows = self._distribution(dvipa) or ()
        listed = [span for row in rows if target_spec(row, xcf) for span in row.ports]
        ready: dict[int, int] = {}
        for listener in self._listening(dvipa):
            wildcard = listener.address != dvipa
            if wildcard and not any(listener.port in span for span in listed):
                continue
            if listener.ready > 0 and not self._refuses(dvipa, listener.port):
                ready[listener.port] = ready.get(listener.port, 0) + listener.ready
        return ready

    def _refuses(self, dvipa: Address, port: int) -> bool:
        """The operator wants no connections to `port`, or the instance behind it is down (S1)."""
        failing = self._context.failing
        down = (None, port) in failing or (dvipa, port) in failing
        return down or self._context.orders.refuses(port)

    def _listening(self, dvipa: Address) -> Iterator[Listener]:
        """Listeners that take connections for `dvipa`."""
        for address in (None, _WILDCARDS[dvipa.version], dvipa):
            yield from self._listeners.get(address, ())

    def _publish(self, dvipa: Address, up: list[str]) -> None:
        """Send what changed since the last SRVSTAT, to everybody: backups know it ahead.

        `up`: peers that there is a session with.
        """
        if self._distribution(dvipa) is None:
            return
        own = self._context.settings.name
        now = {} if dvipa in self.quiescing else self.status(dvipa)
        before = self._dpt.ready(own, dvipa)
        changed = {port: now.get(port, 0) for port, _ in now.items() ^ before.items()}
        if changed:
            ports = tuple(PortStatus(port, changed[port]) for port in sorted(changed))
            message = SrvStat(dvipa, False, ports)
            self._dpt.update(own, message)
            self._context.emit(Broadcast(message))
        self._tell(dvipa, up)

    def _tell(self, dvipa: Address, up: list[str]) -> None:
        """Peers whose session is new get the whole status."""
        ready = self._dpt.ready(self._context.settings.name, dvipa)
        ports = tuple(PortStatus(port, ready[port]) for port in sorted(ready))
        for name in up:
            if (name, dvipa) not in self._told:
                self._told.add((name, dvipa))
                self._context.emit(Send(name, SrvStat(dvipa, True, ports)))

    def greet(self, name: str) -> None:
        """A session with peer `name` began: it knows nothing of this node yet."""
        self._told = {told for told in self._told if told[0] != name}
        for reported in self._reported.values():
            reported.pop(name, None)

    # -- NEWCONN and TERMCONN -----------------------------------------------------------------

    def report(self, dvipa: Address, name: str, epoch: int) -> None:
        """Peer `name` claims `dvipa` with `epoch`: send it every connection, once."""
        peer = self._context.membership.get(name)
        if peer is None:
            return
        self._context.distributors.add(name)
        mark = (peer.session, epoch)
        reported = self._reported.setdefault(dvipa, {})
        if reported.get(name) == mark:
            return
        reported[name] = mark
        delays_ms = (REPORT_SOON_MS, REPORT_AGAIN_MS) if epoch > 1 else (REPORT_AGAIN_MS,)
        self._reports.set((dvipa, name), *(self._context.now_ms + each for each in delays_ms))
        self._list(dvipa, name, epoch)

    def released(self, dvipa: Address, name: str) -> None:
        """Peer `name` gave `dvipa` up. An owner that cannot hear of it from `name` learns from
        here what came by `name` since it was told of this node's connections."""
        former = self._context.membership.get(name)
        for owner, epoch in self._interested(dvipa):
            if former is not None and owner != name and owner not in former.reaches:
                self._list(dvipa, owner, epoch)

    def _report_again(self) -> None:
        for dvipa, name in self._reports.due(self._context.now_ms):
            known = self._reported.get(dvipa, {}).get(name)
            if known is not None and self._context.membership.is_up(name):
                self._list(dvipa, name, known[1])

    def _list(self, dvipa: Address, name: str, epoch: int) -> None:
        effect_id = self._context.new_id()
        self._dumps[effect_id] = (dvipa, name, epoch)
        self._context.emit(DumpSockets(effect_id, dvipa))

    def sockets_dumped(self, result: SocketsDumped) -> bool:
        """The answer to a dump of this part; False when it is not."""
        if result.effect_id in self._idle_checks:
            self._idle(self._idle_checks.pop(result.effect_id), result)
            return True
        dump = self._dumps.pop(result.effect_id, None)
        if dump is None:
            return False
        dvipa, name, epoch = dump
        own = self._context.settings.xcf
        for message in crt.batches(
            dvipa, epoch, own, result.established, result.embryonic, snapshot=True
        ):
            self._context.emit(Send(name, message))
        return True

    def _idle(self, dvipa: Address, result: SocketsDumped) -> None:
        """Twice in a row nothing: what was on its way at the first look has come by the second.

        Half-open connections end without a word, so there is another look in any case.
        """
        if dvipa not in self.quiescing:
            return
        if result.established or result.embryonic:
            self._empty.discard(dvipa)
            self._looks.set(dvipa, self._context.now_ms + REPORT_AGAIN_MS)
        elif dvipa not in self._empty:
            self._empty.add(dvipa)
            self._looks.set(dvipa, self._context.now_ms + IDLE_AGAIN_MS)
        else:
            self._empty.discard(dvipa)
            self.quiescing.discard(dvipa)
            self.hidden.discard(dvipa)
            self._context.touched.add(dvipa)
            self.show(dvipa)

    def originated(self, event: ConnectionsOriginated) -> None:
        """Applications here connect with the DVIPA as source."""
        own = self._context.settings.xcf
        for name, epoch in self._interested(event.dvipa):
            for message in crt.batches(event.dvipa, epoch, own, event.keys, b"", snapshot=False):
                self._context.emit(Send(name, message))

    def ended(self, event: ConnectionsEnded) -> None:
        """Connections ended here."""
        size = crt.KEY_SIZE * MAX_CONNECTIONS
        for name, _ in self._interested(event.dvipa):
            for at in range(0, len(event.keys), size):
                self._context.emit(Send(name, TermConn(event.dvipa, event.keys[at : at + size])))
        if event.dvipa in self.quiescing:
            self._check_idle(event.dvipa)

    def events_missed(self, dvipas: frozenset[Address]) -> None:
        """Who has the connections of these DVIPAs gets the whole list again."""
        for dvipa in sorted(dvipas, key=order):
            if dvipa in self.quiescing:
                self._check_idle(dvipa)
            for name, epoch in self._interested(dvipa):
                del self._reported[dvipa][name]
                self.report(dvipa, name, epoch)

    def _interested(self, dvipa: Address) -> list[tuple[str, int]]:
        return [
            (name, epoch)
            for name, (_, epoch) in sorted(self._reported.get(dvipa, {}).items())
            if self._context.membership.is_up(name)
        ]
