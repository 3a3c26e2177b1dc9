"""The mesh over real sockets on loopback addresses; every wait is for an event."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from dvipad.adapters.mesh import MeshTransport, TransportSettings
from dvipad.adapters.tcp_options import tune
from dvipad.wire.codec import encode
from dvipad.wire.datagram import Beat, encode_beat
from dvipad.wire.events import (
    DownReason,
    HostAnswered,
    MeshEvent,
    MessageReceived,
    PeerDown,
    PeerUp,
)
from dvipad.wire.mesh import MeshSettings
from dvipad.wire.messages import MAX_CONNECTIONS, Dvipa, Hello, Member, Move, NewConn
from dvipad.wire.redial import Endpoint
from dvipad.wire.session import SessionSettings

PATIENCE_S = 10.0
RESET = struct.pack("ii", 1, 0)
DVIPA = IPv4Address("203.0.113.1")
# Generous, so that a busy machine finds nobody silent who is not.
SLOW = SessionSettings(heartbeat_ms=100, dead_ms=5000, handshake_ms=5000)


def within_patience(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Runs a coroutine test; nothing in it may take longer than `PATIENCE_S`."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def free_endpoint(address: str) -> Endpoint:
    """A port at `address` on which nobody listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return Endpoint(ip_address(address), probe.getsockname()[1])


@dataclass
class Node:
    """A transport, and what it told."""

    name: str
    endpoint: Endpoint
    seeds: tuple[Endpoint, ...] = ()
    incarnation: int = 1
    session: SessionSettings = SLOW
    max_buffered: int = 1 << 22
    events: list[MeshEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        member = Member(self.name, self.endpoint.address, self.endpoint.port)
        hello = Hello("test", member, self.incarnation)
        mesh = MeshSettings(hello, self.seeds, self.session)
        self.transport = MeshTransport(TransportSettings(mesh, self.max_buffered), self.take)
        await self.transport.start()

    def take(self, events: list[MeshEvent]) -> None:
        self.events += events
        self.changed.set()

    async def told(self, *wanted: MeshEvent) -> None:
        """Returns when all of `wanted` have been told."""
        while not all(event in self.events for event in wanted):
            self.changed.clear()
            await self.changed.wait()

    def up(self, incarnation: int = 1) -> PeerUp:
        """What its peers are told when it is up."""
        return PeerUp(Member(self.name, self.endpoint.address, self.endpoint.port), incarnation)

    def kill(self) -> None:
        """As the kernel does for a daemon that dies."""
        assert self.transport._server is not None
        self.transport._server.close()
        self.transport._datagrams.close()
        if self.transport._timer is not None:
            self.transport._timer.cancel()
        self.transport.mesh.leave("", 0)
        for connection in self.transport._connections.values():
            self.transport._abort(connection)


async def two_nodes(first: str = "127.0.0.1", second: str = "127.0.0.2") -> tuple[Node, Node]:
    one = Node("a", free_endpoint(first))
    other = Node("b", free_endpoint(second), (one.endpoint,))
    await one.start()
    await other.start()
    await one.told(other.up())
    await other.told(one.up())
    return one, other


async def stop(*nodes: Node) -> None:
    for node in nodes:
        await node.transport.stop("test is over")


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
@within_patience
async def test_messages_travel_in_both_families(addresses: tuple[str, str]) -> None:
    one, other = await two_nodes(*addresses)
    batch = NewConn(DVIPA, 1, one.endpoint.address, bytes(range(36)) * MAX_CONNECTIONS)
    assert one.transport.send("b", batch)
    move = Dvipa(Move.PREPARE, DVIPA, 2)
    other.transport.broadcast(move)
    await other.told(MessageReceived("a", batch))
    await one.told(MessageReceived("b", move))
    await stop(other)
    await one.told(PeerDown("b", DownReason.GOODBYE))
    await stop(one)


@within_patience
async def test_one_seed_is_enough() -> None:
    seed = Node("c", free_endpoint("127.0.0.1"))
    others = [
        Node(name, free_endpoint(f"127.0.0.{number}"), (seed.endpoint,))
        for number, name in enumerate("abde", 2)
    ]
    nodes = [seed, *others]
    for node in nodes:
        await node.start()
    for node in nodes:
        await node.told(*(other.up() for other in nodes if other is not node))
        assert not [event for event in node.events if isinstance(event, PeerDown)]
    await stop(*nodes)


@within_patience
async def test_a_killed_daemon_is_lost_its_host_answers_and_it_comes_back() -> None:
    one, other = await two_nodes()
    other.kill()
    await one.told(PeerDown("b", DownReason.LOST), HostAnswered("b"))
    again = Node("b", other.endpoint, incarnation=2)
    await again.start()
    await one.told(again.up(2))
    await stop(one, again)


@within_patience
async def test_silence_is_found_although_the_connection_stands() -> None:
    session = SessionSettings(heartbeat_ms=50, dead_ms=200, handshake_ms=2000)
    one = Node("a", free_endpoint("127.0.0.1"), session=session)
    await one.start()
    reader, writer = await dial(one)
    mute = Hello("test", Member("z", ip_address("127.0.0.9"), 9), 1)
    writer.write(encode(mute))
    await one.told(PeerDown("z", DownReason.SILENT))
    with pytest.raises(ConnectionResetError):
        while await reader.read(1 << 16):
            pass
    await stop(one)


async def dial(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(str(node.endpoint.address), node.endpoint.port)


@within_patience
async def test_garbage_is_refused_and_counted() -> None:
    one = Node("a", free_endpoint("127.0.0.1"))
    await one.start()
    reader, writer = await dial(one)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"DV")
    assert b"magic" in answer
    assert one.transport.counters["magic"] == 1
    writer.close()
    await stop(one)


@within_patience
async def test_a_peer_that_does_not_read_is_dropped() -> None:
    one = Node("a", free_endpoint("127.0.0.1"), max_buffered=1 << 20)
    await one.start()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (str(one.endpoint.address), one.endpoint.port))
    deaf = Hello("test", Member("z", ip_address("127.0.0.9"), 9), 1)
    await loop.sock_sendall(sock, encode(deaf))
    await one.told(PeerUp(deaf.member, 1))
    batch = NewConn(DVIPA, 1, DVIPA, bytes(36 * MAX_CONNECTIONS))
    while one.transport.send("z", batch):
        pass
    await one.told(PeerDown("z", DownReason.PROTOCOL))
    assert one.transport.counters["overflow"] == 1
    sock.close()
    await stop(one)


@within_patience
async def test_a_reset_is_a_loss() -> None:
    one = Node("a", free_endpoint("127.0.0.1"))
    await one.start()
    _, writer = await dial(one)
    peer = Hello("test", Member("z", ip_address("127.0.0.9"), 9), 1)
    writer.write(encode(peer))
    await one.told(PeerUp(peer.member, 1))
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
    await one.told(PeerDown("z", DownReason.LOST))
    assert one.transport.counters["reset"] == 1
    await stop(one)


@within_patience
async def test_events_may_send_at_once() -> None:
    """An answer sent from inside `on_events` goes out in the same turn."""
    one = Node("a", free_endpoint("127.0.0.1"))
    other = Node("b", free_endpoint("127.0.0.2"), (one.endpoint,))
    move = Dvipa(Move.PREPARE, DVIPA, 2)
    plain = one.take

    def answer(events: list[MeshEvent]) -> None:
        for event in events:
            if isinstance(event, PeerUp):
                one.transport.send(event.member.name, move)
        plain(events)

    one.take = answer  # type: ignore[method-assign]
    await one.start()
    await other.start()
    await other.told(MessageReceived("a", move))
    await stop(one, other)


@within_patience
async def test_an_address_in_use_is_an_error_at_start() -> None:
    one = Node("a", free_endpoint("127.0.0.1"))
    await one.start()
    second: Awaitable[None] = Node("b", one.endpoint).start()
    with pytest.raises(OSError, match="in use"):
        await second
    await stop(one)


@within_patience
async def test_stop_cancels_dials_and_leaves_no_task() -> None:
    nobody = free_endpoint("127.0.0.3")
    one = Node("a", free_endpoint("127.0.0.1"), (nobody,))
    await one.start()
    await stop(one)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
@within_patience
async def test_heartbeats_travel_by_udp_and_garbage_does_no_harm(
    addresses: tuple[str, str],
) -> None:
    one, other = await two_nodes(*addresses)
    family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
    target = (str(one.endpoint.address), one.endpoint.port)
    with socket.socket(family, socket.SOCK_DGRAM) as stranger:
        for data in (b"", b"GET / HTTP/1.1\r\n", bytes(2000), encode_beat(Beat(7, 7))):
            stranger.sendto(data, target)
    counters = one.transport.counters
    while (
        min(each.transport.counters["udp_received"] for each in (one, other)) < 3
        or counters["udp_malformed"] < 3
        or counters["udp_stranger"] < 1
    ):
        await asyncio.sleep(0)
    assert one.transport.mesh.peers() == (other.up().member,)
    await stop(one, other)


@within_patience
async def test_nodes_of_both_families_send_heartbeats_to_each_other() -> None:
    one, other = await two_nodes("127.0.0.1", "::1")
    while min(each.transport.counters["udp_received"] for each in (one, other)) < 3:
        await asyncio.sleep(0)
    await stop(one, other)


@within_patience
async def test_what_cannot_be_sent_is_counted() -> None:
    one, other = await two_nodes()
    one.transport._datagrams.send(Endpoint(ip_address("255.255.255.255"), 9), b"x")
    assert one.transport.counters["udp_failed"] == 1
    await stop(one, other)


@within_patience
async def test_a_udp_port_in_use_is_an_error_at_start() -> None:
    endpoint = free_endpoint("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((str(endpoint.address), endpoint.port))
        with pytest.raises(OSError, match="in use"):
            await Node("a", endpoint).start()


def test_options_that_a_kernel_lacks_are_left_out() -> None:
    with socket.socket() as sock:
        tune(sock, 3000)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        assert sock.getsockopt(socket.IPPROTO_TCP, 16)
