"""The queue worker's decisions, on packets that scapy builds, with tables in memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dvipad.adapters.bpf.layout import connection_key
from dvipad.adapters.queue_counters import QueueState
from dvipad.adapters.queue_worker import (
    REFUSED,
    Ask,
    Chosen,
    Decision,
    Way,
    Worker,
    decide,
    verdict_batch,
)
from dvipad.adapters.syn import Syn, parse_syn, request_of
from dvipad.adapters.tcp_reset import reset_of
from dvipad.address import Address, pack
from dvipad.config.model import Device
from dvipad.core.policy_rows import Request

DVIPA4, DVIPA6 = ip_address("198.51.100.1"), ip_address("2001:db8::1")
XCF = ip_address("192.0.2.7")
VERSIONS: st.SearchStrategy[Literal[4, 6]] = st.sampled_from([4, 6])
PORTS = st.integers(1, 65535)


def syn(client: Address, dvipa: Address, ports: tuple[int, int], flags: str = "S") -> bytes:
    layer = IP if dvipa.version == 4 else IPv6
    segment = TCP(sport=ports[0], dport=ports[1], flags=flags, options=[("MSS", 1460)])
    return bytes(layer(src=str(client), dst=str(dvipa)) / segment)


@dataclass
class Tables:
    """The data plane's tables as dictionaries; `ring` of target indexes for every service."""

    ring: list[int]
    routes: dict[bytes, tuple[int, bool]] = field(default_factory=dict)
    position: int = 0
    decided: int = 0

    def lookup_route(self, key: bytes) -> tuple[int, bool] | None:
        return self.routes.get(key)

    def choose(self, dvipa: bytes, port: int, request: Ask) -> Chosen | None:
        if not self.ring:
            return None
        self.position += 1
        return Chosen(self.ring[(self.position - 1) % len(self.ring)], 1)

    def insert_embryonic(self, key: bytes, target: int, chooser: int) -> None:
        self.routes[key] = (target, False)

    @property
    def seen_mark(self) -> int:
        return 7

    def target(self, index: int) -> Address | None:
        return None if index == 9 else IPv4Address(int(XCF) + index)

    def beat(self, now_ns: int) -> None:
        pass

    def done(self, count: int) -> None:
        self.decided += count

    def settle(self) -> None:
        pass


class Queued:
    """A packet that notes its verdict."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.verdicts: list[str] = []

    def get_payload(self) -> bytes:
        return self.payload

    def set_mark(self, mark: int) -> None:
        self.verdicts.append(f"mark {mark}")

    def accept(self) -> None:
        self.verdicts.append("accept")

    def drop(self) -> None:
        self.verdicts.append("drop")


def judge(tables: Tables, *payloads: bytes) -> tuple[QueueState, list[Queued], list[Address]]:
    sent: list[Address] = []
    state = QueueState()
    refused: list[Syn] = []
    worker = Worker(
        tables,
        lambda packet, version, target: sent.append(target),
        lambda packet, syn: refused.append(syn),
        state,
    )
    packets = [Queued(payload) for payload in payloads]
    for packet in packets:
        worker.handle(packet)  # type: ignore[arg-type]
    assert state.packets == tables.decided == len(payloads)
    assert state.refused == len(refused)
    return state, packets, sent


@given(VERSIONS, st.data(), PORTS, PORTS)
def test_key_of_a_syn(
    version: Literal[4, 6], data: st.DataObject, client_port: int, port: int
) -> None:
    client = data.draw(st.ip_addresses(v=version))
    dvipa = data.draw(st.ip_addresses(v=version))
    parsed = parse_syn(syn(client, dvipa, (client_port, port)))
    assert parsed is not None
    assert parsed.key == connection_key(client, client_port, dvipa, port)
    assert (parsed.dvipa, parsed.port, parsed.version) == (pack(dvipa), port, version)
    assert parsed.whole


@given(st.binary(max_size=128))
def test_noise_never_raises(packet: bytes) -> None:
    parse_syn(packet)


@pytest.mark.parametrize("client", [IPv4Address("203.0.113.5"), IPv6Address("2001:db8:1::5")])
def test_every_cut_is_malformed_or_truncated(client: Address) -> None:
    dvipa = DVIPA4 if client.version == 4 else DVIPA6
    whole = syn(client, dvipa, (1024, 80))
    for length in range(len(whole)):
        parsed = parse_syn(whole[:length])
        assert parsed is None or not parsed.whole


@pytest.mark.parametrize("flags", ["SA", "A", "R", "SR", "SF", ""])
def test_only_syns_are_connection_requests(flags: str) -> None:
    assert parse_syn(syn(IPv4Address("203.0.113.5"), DVIPA4, (1, 80), flags)) is None


def test_ecn_setup_is_a_connection_request() -> None:
    assert parse_syn(syn(IPv4Address("203.0.113.5"), DVIPA4, (1, 80), "SEC")) is not None


def test_fragments_and_other_protocols_are_malformed() -> None:
    whole = bytearray(syn(IPv4Address("203.0.113.5"), DVIPA4, (1, 80)))
    for offset, value in ((6, 0x20), (7, 1), (9, 17)):
        broken = whole[:]
        broken[offset] = value
        assert parse_syn(bytes(broken)) is None


@given(st.none() | st.tuples(st.integers(0, 255), st.booleans()), st.none() | st.integers(0, 255))
def test_decision(known: tuple[int, bool] | None, chosen: int | None) -> None:
    asked = []

    def choose() -> Chosen | None:
        asked.append(True)
        return None if chosen is None else Chosen(chosen, 3)

    decision = decide(known, choose)
    if known is not None and not known[1]:
        assert not asked
        assert (decision.target, decision.known) == (known[0], True)
    elif chosen is None:
        assert decision == Decision(Way.NO_SERVICE, 0, False)
    else:
        assert (decision.target, decision.known, len(asked)) == (chosen, False, 1)
        assert decision.chooser == 3
    if decision.way is not Way.NO_SERVICE:
        assert (decision.way is Way.THIS_NODE) == (decision.target == 0)


def test_each_way_is_counted_and_gets_one_verdict() -> None:
    tables = Tables([1, 0, 9, 1])
    client = IPv4Address("203.0.113.5")
    first = syn(client, DVIPA4, (1, 80))
    with_data = IP(src=str(client), dst=str(DVIPA4)) / TCP(sport=4, dport=80, flags="S")
    cut = bytes(with_data / Raw(b"x" * 10))[:-5]
    state, packets, sent = judge(
        tables,
        first,
        first,
        syn(client, DVIPA4, (2, 80)),
        syn(client, DVIPA4, (3, 80)),
        cut,
        b"\x45garbage",
    )
    local = ["mark 7", "accept"]
    assert [p.verdicts for p in packets] == [["drop"], ["drop"], local, ["drop"], ["drop"], local]
    assert sent == [tables.target(1), tables.target(1)]
    assert state.counters() == {
        **dict.fromkeys(state.counters(), 0),
        "packets": 6,
        "sent": 2,
        "duplicates": 1,
        "local": 1,
        "no_target": 1,
        "truncated": 1,
        "malformed": 1,
    }


@pytest.mark.parametrize("client", [IPv4Address("203.0.113.5"), IPv6Address("2001:db8:1::5")])
@pytest.mark.parametrize("data", [b"", b"hello"])
def test_what_a_policy_refuses_is_answered_as_tcp_would(client: Address, data: bytes) -> None:
    dvipa = DVIPA4 if client.version == 4 else DVIPA6
    packet = syn(client, dvipa, (1024, 80)) + data
    layer = IP if client.version == 4 else IPv6
    whole = layer(packet)
    whole.setfieldval("len" if client.version == 4 else "plen", None)
    packet = bytes(whole)
    parsed = parse_syn(packet)
    assert parsed is not None
    made = reset_of(packet, parsed)
    answer = layer(made)
    assert (answer.src, answer.dst) == (str(dvipa), str(client))
    assert (answer[TCP].sport, answer[TCP].dport, answer[TCP].flags) == (80, 1024, "RA")
    assert (answer[TCP].seq, answer[TCP].ack) == (0, whole[TCP].seq + 1 + len(data))
    del answer[TCP].chksum
    if client.version == 4:
        del answer.chksum
    assert bytes(layer(bytes(answer))) == made, "scapy computes the same checksums"


def test_a_refused_request_is_dropped_and_entered_nowhere() -> None:
    tables = Tables([REFUSED])
    state, packets, sent = judge(tables, syn(IPv6Address("2001:db8:1::5"), DVIPA6, (1, 80)))
    assert packets[0].verdicts == ["drop"]
    assert (tables.routes, sent, state.refused) == ({}, [], 1)


@pytest.mark.parametrize("version", [4, 6])
def test_what_policies_see_of_a_packet(version: Literal[4, 6]) -> None:
    client = "203.0.113.5" if version == 4 else "2001:db8:1::5"
    linux = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    segment = TCP(sport=1, dport=80, flags="S", window=64240, options=linux)
    ip: IP | IPv6
    if version == 4:
        ip = IP(src=client, dst=str(DVIPA4), tos=46 << 2, ttl=61)
    else:
        ip = IPv6(src=client, dst=str(DVIPA6), tc=46 << 2, hlim=61)
    packet = bytes(ip / segment)
    parsed = parse_syn(packet)
    assert parsed is not None
    seen = request_of(packet, parsed, lambda: "eth0")
    assert seen == Request(ip_address(client), 46, "eth0", Device.LINUX)
    assert request_of(packet, parsed, None) == Request(ip_address(client), 46)


def test_no_service_is_left_to_the_kernel() -> None:
    state, packets, _ = judge(Tables([]), syn(IPv6Address("2001:db8:1::5"), DVIPA6, (1, 80)))
    assert packets[0].verdicts == ["mark 7", "accept"]
    assert state.no_service == 1


def test_a_closing_entry_does_not_bind(capsys: pytest.CaptureFixture[str]) -> None:
    packet = syn(IPv4Address("203.0.113.5"), DVIPA4, (1, 80))
    parsed = parse_syn(packet)
    assert parsed is not None
    tables = Tables([2], {parsed.key: (1, True)})
    judge(tables, packet)
    assert tables.routes[parsed.key] == (2, False)


def test_a_failed_send_is_counted_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(packet: bytes, version: int, target: Address) -> None:
        raise OSError("no route")

    state = QueueState()
    packet = Queued(syn(IPv4Address("203.0.113.5"), DVIPA4, (1, 80)))
    Worker(Tables([1]), refuse, lambda *_: None, state).handle(packet)  # type: ignore[arg-type]
    assert packet.verdicts == ["drop"]
    assert (state.errors, state.sent) == (1, 0)
    assert "no route" in capsys.readouterr().err


def test_verdict_batch_layout() -> None:
    message = verdict_batch(4780, 4, 0x7FFF_FFFF)
    length, kind, flags, _sequence, _port = struct.unpack_from("=IHHII", message)
    assert (length, kind, flags) == (len(message), 0x303, 1)
    assert struct.unpack_from("!BBH", message, 16) == (0, 0, 4780)
    assert struct.unpack_from("=HH", message, 20) == (12, 2)
    assert struct.unpack_from("!II", message, 24) == (4, 0x7FFF_FFFF)
