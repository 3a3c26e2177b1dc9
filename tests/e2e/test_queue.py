"""SYNs through a real NFQUEUE: every one is decided, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from dvipad.adapters.bpf.layout import Role, Tunnel, connection_key
from dvipad.adapters.bpf.plane import DataPlane
from dvipad.adapters.bpf.settings import PlaneSettings
from dvipad.adapters.bpf.worker_view import WorkerView
from dvipad.adapters.inet_diag import InetDiag, State
from dvipad.adapters.queue import QueueError, QueueSettings, QueueSupervisor
from dvipad.adapters.rules import probe, queue_rules
from dvipad.address import Address
from tests.e2e.dvs_network import (
    SLOW,
    bpffs,
    eventually,
    inside,
    namespace,
    pair,
    run,
    wait_readable,
)
from tests.e2e.plane_network import TUNNELS

pytestmark = pytest.mark.e2e

NUMBER = 4780
DVIPA = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8:ff::1")}
XCF = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
TARGETS = {v: tuple(type(XCF[v])(int(XCF[v]) + i) for i in (1, 2, 3)) for v in (4, 6)}
CLIENTS = {4: int(ip_address("198.18.0.0")), 6: int(ip_address("2001:db8:c::"))}
SYNS = round(3000 / SLOW)
HUNG_MS = round(150 * SLOW)
NEVER_MS = 60_000
"""A worker that only waits for a processor is not hung: what it has is decided once."""
STARTS = {4: 0, 41: 0, 47: 4, 17: 30}
"""Bytes between the outer and the inner IP header, by protocol: what the worker sends."""
TAKEN_TWICE = 15
"""Of 3,000 turns at line rate: worker and program move the same cursor, and nothing locks it."""
RETRANSMISSION_S = 1.0 * SLOW
"""What a client waits before it sends a SYN again: a successor must be faster."""


@cache
def syn_packet(version: int, number: int, port: int) -> bytes:
    """Of the `number`-th client. Scapy needs longer for one than the kernel for a hundred."""
    layer = IP if version == 4 else IPv6
    client = ip_address(CLIENTS[version] + number)
    segment = TCP(sport=1024 + number % 60000, dport=port, flags="S")
    return bytes(layer(src=str(client), dst=str(DVIPA[version])) / segment)


@dataclass
class Node:
    """A distributor with its queue, and the host on the other end of its cable.

    `wire`: a packet socket over there: client and all targets at once.
    """

    version: int
    plane: DataPlane
    queue: QueueSupervisor
    wire: socket.socket
    mac: bytes
    settings: QueueSettings

    def syn(self, number: int, port: int = 80) -> bytes:
        """The frame of the `number`-th client's SYN."""
        kind = b"\x08\x00" if self.version == 4 else b"\x86\xdd"
        return self.mac + b"\x02\0\0\0\0\x09" + kind + syn_packet(self.version, number, port)

    def forwarded(self, wanted: int, timeout_s: float = 15.0) -> Counter[tuple[Address, int]]:
        """(target, client's number) of the SYNs that came out, once `wanted` clients' did."""
        seen: Counter[tuple[Address, int]] = Counter()
        clients: set[int] = set()
        until = time.monotonic() + timeout_s * SLOW
        while len(clients) < wanted and wait_readable(self.wire.fileno(), until - time.monotonic()):
            found = self._target_and_client(self.wire.recv(2048)[14:])
            if found is not None:
                seen[found] += 1
                clients.add(found[1])
        return seen

    def _target_and_client(self, packet: bytes) -> tuple[Address, int] | None:
        if packet[0] >> 4 == 4 and packet[9] in STARTS and packet[12:16] == XCF[4].packed:
            target: Address = IPv4Address(packet[16:20])
            inner = packet[20 + STARTS[packet[9]] :]
        elif packet[0] >> 4 == 6 and packet[6] in STARTS and packet[8:24] == XCF[6].packed:
            target = IPv6Address(packet[24:40])
            inner = packet[40 + STARTS[packet[6]] :]
        else:
            return None
        client = inner[12:16] if inner[0] >> 4 == 4 else inner[8:24]
        return target, int.from_bytes(client, "big") - CLIENTS[4 if inner[0] >> 4 == 4 else 6]


def address_plan(node: str, peer: str) -> None:
    for version, bits in ((4, 24), (6, 64)):
        run("ip", "-n", node, "addr", "add", f"{XCF[version]}/{bits}", "dev", "eth0", "nodad")
        for target in TARGETS[version]:
            run("ip", "-n", peer, "addr", "add", f"{target}/{bits}", "dev", "eth0", "nodad")
        run("ip", "-n", node, "addr", "add", str(DVIPA[version]), "dev", "lo")


def mac_of(interface: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe_socket:
        probe_socket.bind((interface, 0))
        mac: bytes = probe_socket.getsockname()[4]
        return mac


def packet_socket() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    made.bind(("eth0", 3))
    return made


def start_node(
    stack: ExitStack,
    folder: Path,
    version: int,
    tunnel: Tunnel,
    window: int = 1000,
    hung_ms: int = HUNG_MS,
) -> Node:
    pins = stack.enter_context(bpffs(folder / "bpf"))
    node, peer = stack.enter_context(namespace()), stack.enter_context(namespace())
    stack.enter_context(pair(node, peer))
    address_plan(node, peer)
    with inside(peer):
        wire = stack.enter_context(packet_socket())
    stack.enter_context(inside(node))
    settings = PlaneSettings(
        XCF[version],
        ("eth0",),
        tunnel,
        pins / "plane",
        stale_ms=round(300 * SLOW),
        window=window,
        budget_per_s=1_000_000,
    )
    plane = DataPlane.open(settings)
    stack.callback(plane.destroy)
    plane.renew_lease(time.monotonic_ns() + 3600 * 10**9)
    for dvipa in DVIPA.values():
        plane.set_dvipa(dvipa, Role.OWNER, 1)
        plane.set_service(dvipa, 80, TARGETS[version])
    queue_settings = QueueSettings(settings.pin_dir, folder, NUMBER, hung_ms=hung_ms)
    queue = QueueSupervisor.start(queue_settings)
    stack.callback(queue.stop)
    queue.wait_ready(10 * SLOW)
    backend = probe()
    assert backend is not None
    rules = queue_rules(backend, settings.queue_mark, NUMBER)
    rules.ensure()
    stack.callback(rules.remove)
    for target in TARGETS[version]:
        run("ping", "-c", "1", "-W", "2", str(target))
    return Node(version, plane, queue, wire, mac_of("eth0"), queue_settings)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        yield start_node(stack, tmp_path, 4, Tunnel.IPIP)


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_syns_are_decided_in_turn(tmp_path: Path, inner: int, outer: int, tunnel: Tunnel) -> None:
    with ExitStack() as stack:
        node = start_node(stack, tmp_path, outer, tunnel, hung_ms=NEVER_MS)
        node.version = inner
        node.wire.setblocking(True)
        for number in range(SYNS):
            node.wire.send(node.syn(number))
        seen = node.forwarded(SYNS)
        assert len(seen) == sum(seen.values()) == SYNS
        per_target = Counter(target for target, _client in seen.elements())
        assert set(per_target) == set(TARGETS[outer])
        assert max(per_target.values()) - min(per_target.values()) <= TAKEN_TWICE
        counters = node.plane.counters()
        assert counters["queued"] + counters["chosen"] == SYNS
        # A packet is on the wire before it is counted.
        eventually(lambda: node.queue.counters()["sent"] == counters["queued"] > 0)
        assert node.queue.counters()["packets"] == counters["queued"]
        assert node.queue.counters()["errors"] == 0


def test_a_repeated_syn_goes_to_the_same_target(node: Node) -> None:
    for _ in range(4):
        for number in range(30):
            node.wire.send(node.syn(number))
    eventually(lambda: sum(node.plane.counters()[c] for c in ("queued", "hit_embryonic")) >= 120)
    seen = node.forwarded(30)
    assert len(seen) == 30


def burst_and(node: Node, count: int, harm_at: int, number: int) -> Counter[tuple[Address, int]]:
    """Sends `count` SYNs at once; in the middle, the worker gets the signal `number`."""
    worker = node.queue.worker_pid()
    for client in range(count):
        if client == harm_at:
            os.kill(worker, number)
        node.wire.send(node.syn(client))
    return node.forwarded(count)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("round_", range(3))
def test_no_syn_is_lost_when_the_worker_is(node: Node, number: signal.Signals, round_: int) -> None:
    before = node.queue.worker_pid()
    seen = burst_and(node, SYNS, (7 + 4 * round_) * SYNS // 30, number)
    clients = {client for _target, client in seen}
    assert len(clients) == SYNS  # nobody sent anything twice
    assert len(seen) == SYNS  # and nobody's SYN went to two targets
    eventually(lambda: node.queue.worker_pid() not in (0, before))
    # On a busy machine others count as hung after that: each of them is a restart, too.
    killed = number == signal.SIGKILL

    def told() -> bool:
        counters = node.queue.counters()
        return bool(counters["restarts"] == counters["hung"] + killed >= 1)

    eventually(told)


def test_what_a_hung_worker_holds_is_decided_by_its_successor(node: Node) -> None:
    os.kill(node.queue.worker_pid(), signal.SIGSTOP)
    began = time.monotonic()
    for client in range(200):
        node.wire.send(node.syn(client))
    seen = node.forwarded(200)
    assert len(seen) == 200
    assert time.monotonic() - began < RETRANSMISSION_S
    assert node.queue.counters()["hung"] == 1
    assert node.queue.counters()["reclaimed"] > 100
    view = WorkerView.open(node.settings.pin_dir)
    eventually(lambda: view.undecided() == 0)
    view.close()


def test_what_a_dead_worker_had_read_is_queued_again(node: Node) -> None:
    """The worker is stopped, somebody else reads its socket, and then it dies."""
    supervisor, worker = node.queue.pid, node.queue.worker_pid()
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    for client in range(50):
        node.wire.send(node.syn(client))
    read = 0
    for fd in netlink_sockets(worker):
        with fd:
            while wait_readable(fd.fileno(), 0.1):
                fd.recv(4096)
                read += 1
    assert read >= 50
    os.kill(worker, signal.SIGKILL)
    os.kill(supervisor, signal.SIGCONT)
    assert len(node.forwarded(50)) == 50


def netlink_sockets(pid: int) -> list[socket.socket]:
    """Copies of the netfilter sockets of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        if not str(each.readlink()).startswith("socket:"):
            continue
        copy = libc.syscall(438, pidfd, int(each.name), 0)  # pidfd_getfd
        assert copy >= 0
        made = socket.socket(fileno=copy)
        if made.family == socket.AF_NETLINK:
            found.append(made)
        else:
            made.close()
    os.close(pidfd)
    return found


def test_the_program_chooses_while_there_is_no_worker(node: Node) -> None:
    began = time.monotonic()
    node.queue.stop()
    for client in range(100):
        node.wire.send(node.syn(client))
    slow = time.monotonic() - began >= node.settings.stale_ms / 1000
    assert len(node.forwarded(100)) == 100
    counters = node.plane.counters()
    assert counters["worker_dead"] + slow * counters["worker_stale"] == 100


def test_what_is_for_this_node_goes_up_its_stack(node: Node) -> None:
    run("ip", "route", "add", "default", "via", str(TARGETS[4][0]))
    node.plane.set_service(DVIPA[4], 81, (XCF[4],))
    diag = InetDiag()
    with socket.create_server((str(DVIPA[4]), 81)):
        node.wire.send(node.syn(1, port=81))
        opening = eventually(lambda: diag.connections(DVIPA[4], frozenset({State.SYN_RECV})))
    client = ip_address(CLIENTS[4] + 1)
    assert opening == [connection_key(client, 1025, DVIPA[4], 81)]
    diag.close()
    counters = node.queue.counters()
    assert (counters["packets"], counters["local"], counters["sent"]) == (1, 1, 0)


def test_a_worker_that_cannot_start_is_tried_again(node: Node) -> None:
    os.kill(node.queue.pid, signal.SIGSTOP)
    os.kill(node.queue.worker_pid(), signal.SIGKILL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        eventually(lambda: _bound(taken, ("127.0.0.1", PlaneSettings(XCF[4], ()).liveness_port)))
        os.kill(node.queue.pid, signal.SIGCONT)
        eventually(lambda: node.queue.counters()["restarts"] >= 3)
    node.wire.send(node.syn(1))
    assert len(node.forwarded(1)) == 1
    eventually(lambda: node.queue.worker_pid())


def _bound(to_bind: socket.socket, address: tuple[str, int]) -> bool:
    try:
        to_bind.bind(address)
    except OSError:
        return False
    return True


def test_an_absent_data_plane_is_reported(tmp_path: Path) -> None:
    with namespace() as name, inside(name):
        queue = QueueSupervisor.start(QueueSettings(tmp_path / "none", tmp_path, NUMBER))
        with pytest.raises(QueueError):
            queue.wait_ready(10)
        queue.stop()


def test_the_event_loop_waits_and_sees_the_supervisor_end(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = start_node(stack, tmp_path, 4, Tunnel.IPIP)
        worker = node.queue.worker_pid()
        os.kill(node.queue.pid, signal.SIGKILL)
        assert wait_readable(node.queue.pidfd, 2)
        eventually(lambda: not Path(f"/proc/{worker}").exists())
        again = QueueSupervisor.start(node.settings)
        stack.callback(again.stop)
        asyncio.run(again.ready(10))
        node.wire.send(node.syn(1))
        assert len(node.forwarded(1)) == 1
        eventually(lambda: again.counters()["sent"] == 1)


def test_queue_and_worker_end_with_the_daemon(node: Node) -> None:
    """A process that starts a supervisor of its own is killed; what it started goes too."""
    node.queue.stop()
    start = (
        "import sys, time; from pathlib import Path; from dvipad.adapters.queue import *\n"
        "queue = QueueSupervisor.start(QueueSettings(Path(sys.argv[1]), Path(sys.argv[2]), 4780))\n"
        "queue.wait_ready(10); print(queue.pid, queue.worker_pid(), flush=True); time.sleep(60)"
    )
    folders = [str(node.settings.pin_dir), str(node.settings.run_dir)]
    daemon = subprocess.Popen([sys.executable, "-c", start, *folders], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    started = [int(text) for text in daemon.stdout.readline().split()]
    assert len(started) == 2
    daemon.kill()
    daemon.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    daemon.stdout.close()
    node.wire.send(node.syn(1))
    assert len(node.forwarded(1)) == 1
