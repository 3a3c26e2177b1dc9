"""Listeners and connections of a namespace, seen as they come and go."""

from __future__ import annotations

import json
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest

from dvipad.adapters.bpf.layout import connection_key, split_keys
from dvipad.adapters.bpf.maps import Map
from dvipad.adapters.bpf.settings import object_file
from dvipad.adapters.socket_events import EventsLost, SocketEvent, SocketSettings, Watcher
from dvipad.adapters.sockets import SocketWatcher, destroy, open_watcher
from dvipad.address import Address
from dvipad.core.inputs import (
    ConnectionsEnded,
    ConnectionsOriginated,
    Listener,
    ListenersChanged,
)
from tests.e2e.dvs_network import bpffs, eventually, inside, namespace, run, wait_readable

pytestmark = pytest.mark.e2e

DVIPA4, DVIPA6 = ip_address("198.51.100.1"), ip_address("2001:db8:ff::1")
BOTH = frozenset({DVIPA4, DVIPA6})
LINGER_MS = 50
SEEN_WITHIN_S = 0.05
T = TypeVar("T", bound=SocketEvent)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[SocketSettings]:
    """A namespace that has both DVIPAs, with this thread in it."""
    with bpffs(tmp_path / "bpf") as pins, namespace() as name:
        for dvipa in BOTH:
            run("ip", "-n", name, "addr", "add", str(dvipa), "dev", "lo", "nodad")
        made = SocketSettings(pins / "sockets", object_file("sockets.bpf.o"), linger_ms=LINGER_MS)
        with inside(name):
            yield made
        destroy(made)
        assert not made.pin_dir.exists()


@pytest.fixture(params=["tracepoint", "polling"])
def watcher(settings: SocketSettings, request: pytest.FixtureRequest) -> Iterator[Watcher]:
    with ExitStack() as stack:
        yield ready(open_watcher(settings, polling=request.param == "polling"), stack)


@pytest.fixture
def kernel(settings: SocketSettings) -> Iterator[Watcher]:
    """The watcher by tracepoint."""
    with ExitStack() as stack:
        yield ready(SocketWatcher.open(settings), stack)


def ready(made: Watcher, stack: ExitStack) -> Watcher:
    """`made`, watching both DVIPAs, with its first report read."""
    stack.callback(made.close)
    made.watch(BOTH)
    assert wait_for(made, ListenersChanged) == ListenersChanged(())
    return made


def wait_for(
    watcher: Watcher, kind: type[T], like: Callable[[T], bool] = bool, timeout_s: float = 3.0
) -> T:
    """The first event of `kind` that is `like` this; others are passed over."""
    until = time.monotonic() + timeout_s
    while wait_readable(watcher.fileno(), max(0.0, until - time.monotonic())):
        for event in watcher.read_events():
            if isinstance(event, kind) and like(event):
                return event
    raise AssertionError(f"no {kind.__name__} within {timeout_s} s")


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(dvipa: Address, port: int) -> tuple[socket.socket, socket.socket, socket.socket, bytes]:
    """Listener, client, server, and the server's CRT key."""
    kind = family(str(dvipa))
    listener = socket.create_server((str(dvipa), port), family=kind, backlog=4096)
    client = socket.socket(kind)
    source = "127.0.0.1" if dvipa.version == 4 else "::1"
    client.bind((source, 0))
    client.connect((str(dvipa), port))
    server, _ = listener.accept()
    key = connection_key(ip_address(source), client.getsockname()[1], dvipa, port)
    return listener, client, server, key


@pytest.mark.parametrize(
    ("bound", "v6_only", "address"),
    [
        ("198.51.100.1", False, DVIPA4),
        ("0.0.0.0", False, ip_address("0.0.0.0")),
        ("2001:db8:ff::1", False, DVIPA6),
        ("::", True, ip_address("::")),
        ("::", False, None),
        ("::ffff:198.51.100.1", False, DVIPA4),
    ],
)
def test_listener_opens_and_closes(
    watcher: Watcher, bound: str, v6_only: bool, address: Address | None
) -> None:
    listener = socket.socket(family(bound))
    if family(bound) == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6_only))
    listener.bind((bound, 8080))
    slack_s = 0.15 if type(watcher).__name__ == "PollingWatcher" else SEEN_WITHIN_S
    listener.listen()
    opened = wait_for(watcher, ListenersChanged, timeout_s=slack_s)
    assert opened.listeners == (Listener(address, 8080, 1),)
    assert watcher.listeners() == {(address, 8080): 1}
    listener.close()
    assert wait_for(watcher, ListenersChanged, timeout_s=slack_s).listeners == ()


def test_listeners_that_share_a_port_are_counted(watcher: Watcher) -> None:
    made = []
    for count in (1, 2, 3):
        each = socket.create_server((str(DVIPA4), 8080), reuse_port=True)
        made.append(each)
        changed = wait_for(watcher, ListenersChanged)
        assert changed.listeners == (Listener(DVIPA4, 8080, count),)
    made.pop().close()
    assert wait_for(watcher, ListenersChanged).listeners == (Listener(DVIPA4, 8080, 2),)
    made.pop().close()
    made.pop().close()
    wait_for(watcher, ListenersChanged, lambda event: event.listeners == ())


def test_listeners_of_other_addresses_are_nobodys_business(kernel: Watcher) -> None:
    with socket.create_server(("127.0.0.1", 8080)), socket.create_server((str(DVIPA4), 81)):
        changed = wait_for(kernel, ListenersChanged)
        assert changed.listeners == (Listener(DVIPA4, 81, 1),)


@pytest.mark.parametrize("dvipa", [DVIPA4, DVIPA6], ids=["v4", "v6"])
def test_connection_is_listed_until_it_ends(watcher: Watcher, dvipa: Address) -> None:
    listener, client, server, key = connect(dvipa, 80)
    assert watcher.connections(dvipa) == (key, b"")
    wait_for(watcher, ListenersChanged)
    server.close()
    client.close()
    ended = wait_for(watcher, ConnectionsEnded)
    assert ended == ConnectionsEnded(dvipa, key)
    assert watcher.connections(dvipa) == (b"", b"")
    listener.close()


def test_ipv4_client_of_an_ipv6_socket(kernel: Watcher) -> None:
    with socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        client = socket.create_connection((str(DVIPA4), 80), source_address=("127.0.0.1", 0))
        server, _ = listener.accept()
        key = connection_key(ip_address("127.0.0.1"), client.getsockname()[1], DVIPA4, 80)
        assert kernel.connections(DVIPA4) == (key, b"")
        client.close()
        server.close()
        assert wait_for(kernel, ConnectionsEnded).keys == key


def test_a_reset_ends_at_once_and_a_last_fin_is_waited_for(kernel: Watcher) -> None:
    listener, client, server, key = connect(DVIPA4, 80)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    began = time.monotonic()
    client.close()
    assert wait_for(kernel, ConnectionsEnded).keys == key
    assert time.monotonic() - began < LINGER_MS / 1000
    server.close()
    listener.close()
    listener, client, server, key = connect(DVIPA4, 81)
    began = time.monotonic()
    server.close()
    client.close()
    assert wait_for(kernel, ConnectionsEnded).keys == key
    assert time.monotonic() - began >= LINGER_MS / 1000
    listener.close()


def test_embryonic_connections_are_listed(kernel: Watcher) -> None:
    with socket.create_server((str(DVIPA4), 80), backlog=16):
        # No SYN-ACK reaches the client: it stays where it is.
        run("nft", "add table inet cut { chain out { type filter hook output priority 0; } ; }")
        run("nft", "add rule inet cut out tcp sport 80 drop")
        client = socket.socket()
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        client.connect_ex((str(DVIPA4), 80))
        key = connection_key(ip_address("127.0.0.1"), client.getsockname()[1], DVIPA4, 80)
        assert kernel.connections(DVIPA4) == (b"", key)
        client.close()


@pytest.mark.parametrize("no_port", [False, True], ids=["bound", "late port"])
@pytest.mark.parametrize("dvipa", [DVIPA4, DVIPA6], ids=["v4", "v6"])
def test_a_connection_of_an_application_is_reported_before_it_is_answered(
    kernel: Watcher, dvipa: Address, no_port: bool
) -> None:
    """The peer never answers; the connection is known nevertheless."""
    run("nft", "add table inet cut { chain out { type filter hook output priority 0; } ; }")
    run("nft", "add rule inet cut out tcp dport 9 drop")
    client = socket.socket(family(str(dvipa)))
    client.setblocking(False)
    if no_port:
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind((str(dvipa), 0))
    peer = ip_address("127.0.0.1" if dvipa.version == 4 else "::1")
    client.connect_ex((str(peer), 9))
    originated = wait_for(kernel, ConnectionsOriginated, timeout_s=SEEN_WITHIN_S)
    key = connection_key(peer, 9, dvipa, client.getsockname()[1])
    assert originated == ConnectionsOriginated(dvipa, key)
    assert kernel.connections(dvipa) == (key, b"")
    client.close()
    assert wait_for(kernel, ConnectionsEnded).keys == key


def test_other_namespaces_are_not_seen(kernel: Watcher) -> None:
    with namespace() as name, inside(name):
        run("ip", "addr", "add", str(DVIPA4), "dev", "lo")
        listener, client, server, _key = connect(DVIPA4, 80)
        assert kernel.connections(DVIPA4) == (b"", b"")
        for each in (listener, client, server):
            each.close()
    assert kernel.read_events() == []


def test_a_later_start_adopts_and_sees_what_happened_meanwhile(settings: SocketSettings) -> None:
    with ExitStack() as stack:
        first = ready(SocketWatcher.open(settings), stack)
        listener, client, server, old = connect(DVIPA4, 80)
        other = connect(DVIPA6, 80)
        assert first.connections(DVIPA4) == (old, b"")
    more = socket.create_connection((str(DVIPA4), 80), source_address=("127.0.0.1", 0))
    new = connection_key(ip_address("127.0.0.1"), more.getsockname()[1], DVIPA4, 80)
    for each in other[:3]:
        each.close()
    with ExitStack() as stack:
        second = SocketWatcher.open(settings)
        stack.callback(second.close)
        assert second.connections(DVIPA6) == (b"", b"")
        assert set(split_keys(second.connections(DVIPA4)[0])) == {old, new}
        second.watch(BOTH)
        client.close()
        server.close()
        wait_for(second, ConnectionsEnded, lambda event: event.keys == old)
        second.watch(frozenset())
        assert second.connections(DVIPA4) == (b"", b"")
    more.close()
    listener.close()


def test_another_size_of_the_table_is_filled_anew(settings: SocketSettings) -> None:
    with ExitStack() as stack:
        ready(SocketWatcher.open(settings), stack)
        listener, client, server, key = connect(DVIPA4, 80)
    changed = SocketSettings(settings.pin_dir, settings.object_path, connections_max=1000)
    second = SocketWatcher.open(changed)
    second.watch(BOTH)
    assert second.connections(DVIPA4) == (key, b"")
    second.close()
    for each in (listener, client, server):
        each.close()


def connections_by_ss(dvipa: Address) -> set[bytes]:
    """CRT keys of the sockets on port 80 of `dvipa`, as ``ss`` lists them."""
    keys = set()
    for line in run("ss", "-tnH", "-o", "state", "connected", "src", f"{dvipa}:80").splitlines():
        state, _, _, _local, remote = line.split()[:5]
        host, port = remote.rsplit(":", 1)
        if state != "TIME-WAIT":
            keys.add(connection_key(ip_address(host), int(port), dvipa, 80))
    return keys


def test_2000_sockets_are_what_ss_says(watcher: Watcher) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10_000), hard))
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((str(DVIPA4), 80), backlog=4096))
        for number in range(2010):
            client = stack.enter_context(socket.socket())
            client.bind((f"127.0.{number // 250}.{number % 250 + 1}", 0))
            client.connect((str(DVIPA4), 80))
            server = stack.enter_context(listener.accept()[0])
            if number >= 2000:
                server.close()
                client.close()
        if isinstance(watcher, SocketWatcher):  # polling does not see what comes and goes
            wait_for(watcher, ConnectionsEnded)
        shown = connections_by_ss(DVIPA4)
        assert len(shown) == 2000
        assert set(split_keys(watcher.connections(DVIPA4)[0])) == shown


def test_nothing_is_left_after_destroy(settings: SocketSettings) -> None:
    watcher = SocketWatcher.open(settings)
    pin = str(settings.pin_dir / "link")
    link = json.loads(run("bpftool", "-j", "link", "show", "pinned", pin))["id"]
    assert link in link_ids()
    watcher.destroy()
    watcher.close()
    assert not settings.pin_dir.exists()
    eventually(lambda: link not in link_ids())


def link_ids() -> set[int]:
    """All BPF links of this machine."""
    return {row["id"] for row in json.loads(run("bpftool", "-j", "link", "show"))}


def test_connections_from_before_are_found(settings: SocketSettings) -> None:
    made = [connect(DVIPA4, 8000 + number) for number in range(20)]
    watcher = SocketWatcher.open(settings)
    watcher.watch(BOTH)
    assert set(split_keys(watcher.connections(DVIPA4)[0])) == {row[3] for row in made}
    for listener, client, server, _key in made:
        for each in (server, client, listener):
            each.close()
    gone: set[bytes] = set()
    while len(gone) < 20:
        gone |= set(split_keys(wait_for(watcher, ConnectionsEnded).keys))
    assert gone == {row[3] for row in made}
    watcher.close()


def test_lost_events_are_noticed_and_the_table_stays_right(kernel: Watcher) -> None:
    """The ring has room for some 18,000 events; nobody reads it while 30,000 happen."""
    listener, client, server, key = connect(DVIPA4, 80)
    for _ in range(15_000):
        each = socket.socket()
        each.bind((str(DVIPA4), 0))
        each.listen(1)
        each.close()
    lost = wait_for(kernel, EventsLost)
    assert lost.dvipas == BOTH
    assert kernel.counters()["lost_events"] > 0
    assert kernel.connections(DVIPA4) == (key, b"")
    for each in (listener, client, server):
        each.close()


def test_a_surplus_socket_of_a_handshake_ends_no_connection(
    kernel: Watcher, settings: SocketSettings
) -> None:
    """Two CPUs may make a socket each of one handshake; the one that is not taken just closes.

    Here a fast open whose SYN-ACK is lost makes the socket that closes before it is established.
    """
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text(str(0x207))
    synack = ["-p", "tcp", "--tcp-flags", "SYN,ACK", "SYN,ACK"]
    run("iptables", "-A", "INPUT", *synack, "-j", "DROP")
    with (
        socket.create_server((str(DVIPA4), 8080)) as listener,
        socket.socket() as client,
        closing(Map.open(settings.pin_dir / "connections")) as table,
    ):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
        client.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.sendto(b"x", socket.MSG_FASTOPEN, (str(DVIPA4), 8080))
        surplus, _ = listener.accept()
        key = connection_key(ip_address("127.0.0.1"), client.getsockname()[1], DVIPA4, 8080)
        assert table.lookup(key) is None, "not established"
        table.update(key, bytes(16))  # as the socket that was taken does
        surplus.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        surplus.close()
        events = kernel.read_events()
        assert kernel.connections(DVIPA4)[0] == key
        assert not [event for event in events if isinstance(event, ConnectionsEnded)]
