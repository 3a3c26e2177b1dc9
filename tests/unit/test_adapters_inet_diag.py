"""inet_diag: messages as the kernel lays them out, built by hand and read back."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, create_connection, create_server
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.adapters.inet_diag import (
    InetDiag,
    ListenerKey,
    State,
    listener_key,
    parse,
    request,
    sample,
)
from dvipad.adapters.tcp_info import flow_of
from dvipad.address import Address, pack

VERSIONS: st.SearchStrategy[Literal[4, 6]] = st.sampled_from([4, 6])
PORTS = st.integers(0, 65535)


def message(
    local: Address, remote: Address, ports: tuple[int, int], state: State, v6_only: int = 0
) -> bytes:
    """One answer of the kernel with a trailing attribute, as ``inet_diag_msg`` has it."""
    family = AF_INET if local.version == 4 else AF_INET6
    body = struct.pack("=BBBB", family, state, 0, 0)
    body += struct.pack("!HH", *ports)
    body += local.packed.ljust(16, b"\0") + remote.packed.ljust(16, b"\0")
    body = body.ljust(72, b"\0")
    body += struct.pack("=HHBxxx", 5, 8, 1) + struct.pack("=HHBxxx", 5, 11, v6_only)
    return struct.pack("=IHHII", 16 + len(body), 20, 2, 1, 0) + body


def done() -> bytes:
    return struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


@given(VERSIONS, st.data(), PORTS, PORTS)
def test_key_is_client_then_dvipa(
    version: Literal[4, 6], data: st.DataObject, lport: int, rport: int
) -> None:
    local = data.draw(st.ip_addresses(v=version))
    remote = data.draw(st.ip_addresses(v=version))
    rows, last, _ = parse(message(local, remote, (lport, rport), State.ESTABLISHED) + done())
    assert last
    assert rows[0].key() == pack(remote) + pack(local) + struct.pack("!HH", rport, lport)


@pytest.mark.parametrize(
    ("local", "v6_only", "key"),
    [
        ("0.0.0.0", 0, (IPv4Address("0.0.0.0"), 80)),
        ("192.0.2.9", 0, (IPv4Address("192.0.2.9"), 80)),
        ("::", 0, (None, 80)),
        ("::", 1, (IPv6Address("::"), 80)),
        ("2001:db8::9", 1, (IPv6Address("2001:db8::9"), 80)),
        ("::ffff:192.0.2.9", 0, (IPv4Address("192.0.2.9"), 80)),
    ],
)
def test_listener_key(local: str, v6_only: int, key: ListenerKey) -> None:
    address = IPv6Address(local) if ":" in local else IPv4Address(local)
    nobody = IPv6Address("::") if address.version == 6 else IPv4Address("0.0.0.0")
    rows, _, _ = parse(message(address, nobody, (80, 0), State.LISTEN, v6_only))
    assert listener_key(rows[0]) == key


def test_interrupted_and_refused() -> None:
    flagged = struct.pack("=IHHIIi", 20, 3, 0x12, 1, 0, 0)
    assert parse(flagged) == ([], True, True)
    with pytest.raises(OSError, match="inet_diag") as caught:
        parse(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -errno.EPERM))
    assert caught.value.errno == errno.EPERM


def test_request_filters_in_the_kernel() -> None:
    plain = request(AF_INET, frozenset({State.LISTEN}), ())
    assert len(plain) == 16 + 56
    assert struct.unpack_from("=I", plain, 20) == (1 << State.LISTEN,)
    filtered = request(AF_INET6, frozenset({State.LISTEN}), (IPv4Address("192.0.2.1"),))
    assert filtered.endswith(IPv4Address("192.0.2.1").packed)
    assert len(filtered) == struct.unpack_from("=I", filtered)[0]


def test_kernel_answers() -> None:
    diag = InetDiag()
    try:
        assert all(count > 0 for count in diag.listeners().values())
    finally:
        diag.close()


NOBODY = IPv4Address("192.0.2.1")
LOOPBACKS: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@pytest.fixture
def queued() -> Iterator[dict[int, Address]]:
    """By port: listeners on both loopbacks, each with a connection that nobody accepts."""
    with ExitStack() as stack:
        ports = {}
        for address in LOOPBACKS:
            family = AF_INET if address.version == 4 else AF_INET6
            where = (str(address), 0)
            server = stack.enter_context(create_server(where, family=family, backlog=7))
            stack.enter_context(create_connection(server.getsockname()[:2]))
            ports[server.getsockname()[1]] = address
        yield ports


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (LOOPBACKS, LOOPBACKS),
        ((NOBODY, *LOOPBACKS, NOBODY), LOOPBACKS),
        ((NOBODY, LOOPBACKS[0]), LOOPBACKS[:1]),
        ((IPv6Address("2001:db8::1"), LOOPBACKS[1]), LOOPBACKS[1:]),
        ((NOBODY,), ()),
        ((), LOOPBACKS),
    ],
)
def test_the_kernel_lists_connections_of_some_addresses(
    queued: dict[int, Address], asked: tuple[Address, ...], found: tuple[Address, ...]
) -> None:
    rows, whole = sample(frozenset({State.ESTABLISHED}), asked, 1_000_000, info=True)
    ours = [row for row in rows if int.from_bytes(row.local_port, "big") in queued]
    assert whole and sorted(row.local_packed() for row in ours) == sorted(map(pack, found))
    assert all(flow_of(row.info) is not None for row in ours)


def test_a_sample_ends_when_there_is_enough_of_it(queued: dict[int, Address]) -> None:
    rows, whole = sample(frozenset({State.ESTABLISHED}), (), 0)
    assert (rows, whole) == ([], False)


def test_queues_of_listeners(queued: dict[int, Address]) -> None:
    diag = InetDiag()
    try:
        found = {key: (row.waiting, row.room) for key, row in diag.listening(queued)}
    finally:
        diag.close()
    assert found == {(address, port): (1, 7) for port, address in queued.items()}
