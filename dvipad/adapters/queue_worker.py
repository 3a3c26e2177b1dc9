"""Decides the first packet of each connection: the process behind the NFQUEUE (D5, D6).

The eBPF program hands a SYN over only while this process holds the liveness socket and its beat
is fresh. For each SYN: the target that the CRT has for it already, or else the next of the
service's ring; an embryonic entry; the SYN, encapsulated, to the target; and the original is
dropped. What is for this node goes up the stack instead.
"""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias

from netfilterqueue import NetfilterQueue, Packet

from dvipad.adapters.bpf.layout import THIS_NODE, TUNNEL_ID, Tunnel
from dvipad.adapters.queue_counters import QueueState
from dvipad.adapters.syn import Syn, parse_syn, request_of
from dvipad.address import Address
from dvipad.core.policy_rows import Request

BEATS_PER_STALE: Final = 4
"""An idle worker touches its beat this often within the time after which it counts as stale."""
TRACEBACKS_MAX: Final = 20
"""Packets that raised an exception and are printed; all are counted."""
UNREAD_MAX: Final = 4096
"""Messages that a successor takes off the socket before it asks for them again."""

_NETLINK_NETFILTER: Final = 12
_VERDICT_BATCH: Final = (3 << 8) | 3  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_VERDICT_BATCH
_VERDICT_HEADER: Final = 2  # NFQA_VERDICT_HDR
_NF_REPEAT: Final = 4
_NLM_F_REQUEST: Final = 1
_RECEIVE_BYTES: Final = 4096
_SO_ATTACH_FILTER: Final = 26

_ETHERTYPE: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}
_PROTOCOL: Final = {4: socket.IPPROTO_IPIP, 6: socket.IPPROTO_IPV6}
_OUTER_PROTOCOL: Final = {
    Tunnel.GRE: socket.IPPROTO_GRE,
    Tunnel.GRE_DEVICE: socket.IPPROTO_GRE,
    Tunnel.VXLAN: socket.IPPROTO_UDP,
}
"""Of tunnels whose outer header does not say the version of the inner one by its protocol."""
_GRE: Final = bytes(2)
_VXLAN: Final = struct.pack("!II12x", 1 << 27, TUNNEL_ID << 8)
_START: Final = {Tunnel.GRE: _GRE, Tunnel.GRE_DEVICE: _GRE, Tunnel.VXLAN: _VXLAN}
"""What they put between both headers, up to the Ethernet type; VXLAN: a frame without addresses."""


class Chosen(NamedTuple):
    """A target index, or `REFUSED`, and what chose it: 1 more than the slot of a ring."""

    target: int
    chooser: int


REFUSED: Final = -1
"""In place of a target: a policy refuses the request."""


Ask: TypeAlias = Callable[[bool], Request]
"""Tells what policies see of a request; the argument: whether some of them look closely."""


class View(Protocol):
    """What a decision needs of the data plane; ``WorkerView`` is the real one."""

    @property
    def seen_mark(self) -> int:
        """Mark of what goes up the local stack."""

    def lookup_route(self, key: bytes) -> tuple[int, bool] | None:
        """Target index of a connection in the CRT, and whether it is closing."""

    def choose(self, dvipa: bytes, port: int, request: Ask) -> Chosen | None:
        """The next target of a service, None when nobody serves it; `request` tells what policies
        look at."""

    def insert_embryonic(self, key: bytes, target: int, chooser: int) -> None:
        """Enters a connection into the CRT."""

    def target(self, index: int) -> Address | None:
        """XCF address of a target index."""

    def beat(self, now_ns: int) -> None:
        """Tells the program that the worker is alive."""

    def done(self, count: int) -> None:
        """So many more SYNs are decided."""

    def settle(self) -> None:
        """Nothing is undecided."""


class Way(Enum):
    """Where a SYN goes."""

    TARGET = "sent"
    THIS_NODE = "local"
    NO_SERVICE = "no_service"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Decision:
    """`target` is an index; it counts only where `way` is TARGET or THIS_NODE. `known`: the CRT
    had the connection already, so nothing is to be entered; else `chooser` is who chose."""

    way: Way
    target: int
    known: bool
    chooser: int = 0


def decide(known: tuple[int, bool] | None, choose: Callable[[], Chosen | None]) -> Decision:
    """Where a SYN goes: pure.

    `known`: what the CRT has for it, (target index, closing). A live entry binds: a repeated SYN
    must not reach a second target. A closing one does not: the client began a new connection.
    `choose` gives the next target of the service, or None.
    """
    if known is not None and not known[1]:
        return Decision(_way(known[0]), known[0], True)
    chosen = choose()
    if chosen is None:
        return Decision(Way.NO_SERVICE, THIS_NODE, False)
    return Decision(_way(chosen.target), chosen.target, False, chosen.chooser)


def _way(target: int) -> Way:
    if target == REFUSED:
        return Way.REFUSED
    return Way.THIS_NODE if target == THIS_NODE else Way.TARGET


def never_receive(of: socket.socket) -> None:
    """Drops all that would arrive, by the classic BPF filter ``ret 0``.

    A raw socket gets a copy of every tunnel packet of the host otherwise.
    """
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(code))
    of.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class TunnelSender:
    """Sends SYNs to targets as tunnel packets from the own XCF address `xcf`.

    What it sends is what a tunnel device would. Raises ``OSError`` when the node does not have
    that address.
    """

    def __init__(self, xcf: Address, tunnel: Tunnel, vxlan_port: int) -> None:
        family = socket.AF_INET if xcf.version == 4 else socket.AF_INET6
        self._port = vxlan_port if tunnel is Tunnel.VXLAN else 0
        self._start = _START.get(tunnel)
        self._sockets = {
            version: _socket(family, _OUTER_PROTOCOL.get(tunnel, protocol), xcf)
            for version, protocol in _PROTOCOL.items()
        }

    def send(self, packet: bytes, version: int, target: Address) -> None:
        """Sends an IP `packet` of `version` to `target`; raises ``OSError``."""
        if self._start is not None:
            packet = self._start + _ETHERTYPE[version] + packet
        self._sockets[version].sendto(packet, (str(target), self._port))

    def close(self) -> None:
        """Closes the sockets."""
        for each in self._sockets.values():
            each.close()


def _socket(family: int, protocol: int, xcf: Address) -> socket.socket:
    kind = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_RAW
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        never_receive(made)
        made.bind((str(xcf), 0))
    except OSError:
        made.close()
        raise
    return made


Send: TypeAlias = Callable[[bytes, int, Address], None]
Refuse: TypeAlias = Callable[[bytes, Syn], None]


class Worker:
    """Carries decisions out, packet by packet, and counts every one of them."""

    def __init__(self, view: View, send: Send, refuse: Refuse, state: QueueState) -> None:
        self._view = view
        self._send = send
        self._refuse = refuse
        self._state = state

    def beat(self) -> None:
        """Still here."""
        now_ns = time.monotonic_ns()
        self._view.beat(now_ns)
        self._state.beat_ns = now_ns

    def handle(self, packet: Packet) -> None:
        """Judges one packet; whatever happens, it gets exactly one verdict."""
        state = self._state
        state.packets += 1
        try:
            keep = self._process(packet.get_payload(), packet)
        except Exception:
            keep = False
            state.errors += 1
            if state.errors <= TRACEBACKS_MAX:
                traceback.print_exc(file=sys.stderr)
        if keep:
            packet.set_mark(self._view.seen_mark)
            packet.accept()
        else:
            packet.drop()
        self._view.done(1)
        self.beat()

    def _process(self, payload: bytes, packet: Packet) -> bool:
        """Whether the packet goes up the local stack."""
        view, state = self._view, self._state
        syn = parse_syn(payload)
        if syn is None:
            state.malformed += 1
            return True

        def request(closely: bool) -> Request:
            return request_of(payload, syn, (lambda: _interface(packet)) if closely else None)

        known = view.lookup_route(syn.key)
        decision = decide(known, lambda: view.choose(syn.dvipa, syn.port, request))
        if decision.way is Way.NO_SERVICE:
            state.no_service += 1
            return True
        if decision.way is Way.REFUSED:
            state.refused += 1
            self._refuse(payload, syn)
            return False
        if decision.way is Way.TARGET and not syn.whole:
            state.truncated += 1
            return False
        state.duplicates += decision.known
        if not decision.known:
            view.insert_embryonic(syn.key, decision.target, decision.chooser)
        if decision.way is Way.THIS_NODE:
            state.local += 1
            return True
        self._forward(payload, syn.version, decision.target)
        return False

    def _forward(self, payload: bytes, version: int, index: int) -> None:
        target = self._view.target(index)
        if target is None:
            self._state.no_target += 1
            return
        self._send(payload, version, target)
        self._state.sent += 1


def _interface(packet: Packet) -> str:
    """Where the packet came in; empty when that interface is gone."""
    try:
        return socket.if_indextoname(packet.indev)
    except OSError:
        return ""


def verdict_batch(queue: int, verdict: int, last_id: int) -> bytes:
    """The netlink message that gives `verdict` to all packets up to `last_id` (nfnetlink_queue)."""
    header = struct.pack("!II", verdict, last_id)
    attribute = struct.pack("=HH", 4 + len(header), _VERDICT_HEADER) + header
    generic = struct.pack("=BB", socket.AF_UNSPEC, 0) + struct.pack("!H", queue)
    length = 16 + len(generic) + len(attribute)
    return struct.pack("=IHHII", length, _VERDICT_BATCH, _NLM_F_REQUEST, 0, 0) + generic + attribute


def reclaim(fd: int, queue: int) -> int:
    """Has the kernel queue again what a dead worker left without a verdict; none is lost.

    The kernel counts packets by 32 bits and compares them modulo: two batches reach all. What is
    unread in the socket is among them, so it goes first, or it would be judged twice. Returns
    how many messages that were.
    """
    unread = 0
    with socket.fromfd(fd, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        while unread < UNREAD_MAX:
            try:
                link.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            unread += 1
        for last_id in (0x7FFF_FFFF, 0xFFFF_FFFF):
            link.send(verdict_batch(queue, _NF_REPEAT, last_id))
    return unread


def liveness_socket(port: int) -> socket.socket:
    """The UDP socket by which the eBPF program sees that a worker is there."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        never_receive(made)
        made.bind(("127.0.0.1", port))
    except OSError:
        made.close()
        raise
    return made


class Loop:
    """Waits for packets, and beats meanwhile. Ends when `stopping` says so and nothing is left."""

    def __init__(
        self, queue: NetfilterQueue, worker: Worker, view: View, stopping: Callable[[], bool]
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._view = view
        self._stopping = stopping

    def run(self, liveness: socket.socket, stale_ms: int) -> None:
        """Runs until it is told to stop; `liveness` closes first then, so that no more comes."""
        idle_ms = max(1, stale_ms // BEATS_PER_STALE)
        poll = select.poll()
        poll.register(self._queue.get_fd(), select.POLLIN)
        self._view.settle()
        while True:
            self._worker.beat()
            stopping = self._stopping()
            if stopping:
                liveness.close()
            if poll.poll(idle_ms):
                self._queue.run(block=False)
            elif stopping:
                return
            else:
                self._view.settle()
