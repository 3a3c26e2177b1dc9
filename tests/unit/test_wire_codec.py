"""Messages survive the wire in any portions; anything else is the peer's fault, never a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvipad.config.model import DistMethod, Distribute, PortRange, Position, TargetSpec
from dvipad.versions import NEWEST
from dvipad.wire.codec import MAX_ITEMS, MAX_NUMBER, MAX_TEXT, TYPES, decode, encode
from dvipad.wire.errors import Fault, RemoteProtocolError
from dvipad.wire.framing import MAX_FRAME, PREFIX_SIZE, Frame, FrameDecoder, encode_frame
from dvipad.wire.messages import (
    MAX_CONNECTIONS,
    Active,
    Dvipa,
    Goodbye,
    Heartbeat,
    Hello,
    Member,
    Members,
    Message,
    Move,
    NewConn,
    PortStatus,
    Quality,
    ServerWeight,
    ServiceQuality,
    SrvStat,
    Status,
    TermConn,
    VipaEntry,
    VipaList,
    Weights,
)

addresses = st.ip_addresses()
ports = st.integers(1, 65535)
numbers = st.integers(0, MAX_NUMBER)
weights = st.integers(0, 64)
percentages = st.integers(0, 100)
permilles = st.integers(0, 1000)
texts = st.text(st.characters(codec="utf-8"), max_size=30).filter(str.isprintable)
batches = st.integers(0, 5).flatmap(lambda n: st.binary(min_size=36 * n, max_size=36 * n))
members = st.builds(Member, name=texts, xcf=addresses, port=ports)
ranges = st.tuples(ports, ports).map(lambda pair: PortRange(min(pair), max(pair)))
specs = st.builds(
    TargetSpec,
    xcf=addresses,
    weight=st.integers(1, 99),
    standby_rank=st.none() | st.integers(1, 255),
)


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=4).map(tuple)


distributes = st.builds(
    Distribute,
    dvipa=addresses,
    ports=tuples(ranges),
    targets=st.none() | tuples(specs),
    method=st.sampled_from(DistMethod),
    cluster_ports=st.booleans(),
    timed_affinity_s=numbers,
    optlocal=st.none() | numbers,
    offload=st.booleans(),
    position=st.just(Position("profile", 3, 1)),
)
entries = st.builds(
    VipaEntry,
    dvipa=addresses,
    rank=st.integers(0, 255),
    creates=st.booleans(),
    owner=st.booleans(),
    epoch=numbers,
    distributes=tuples(distributes),
    active=tuples(st.builds(Active, port=ports, xcf=addresses)),
)
any_message: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, cluster=texts, member=members, incarnation=numbers, version=numbers),
    st.just(Heartbeat()),
    st.builds(Goodbye, reason=texts),
    st.builds(Members, members=tuples(members)),
    st.builds(VipaList, entries=tuples(entries)),
    st.builds(
        SrvStat,
        dvipa=addresses,
        full=st.booleans(),
        ports=tuples(st.builds(PortStatus, port=ports, ready=numbers)),
    ),
    st.builds(
        NewConn,
        dvipa=addresses,
        epoch=numbers,
        target=addresses,
        established=batches,
        embryonic=batches,
        snapshot=st.booleans(),
        last=st.booleans(),
    ),
    st.builds(TermConn, dvipa=addresses, connections=batches),
    st.builds(Dvipa, move=st.sampled_from(Move), dvipa=addresses, epoch=numbers),
    st.builds(
        Weights,
        valid_ms=numbers,
        host=st.none() | weights,
        millicpus=st.integers(1, 10**9),
        servers=tuples(
            st.builds(ServerWeight, address=st.none() | addresses, port=ports, weight=weights)
        ),
        announced=st.none() | weights,
    ),
    st.builds(Status, release=texts, troubles=tuples(texts)),
    st.builds(
        Quality,
        valid_ms=numbers,
        services=tuples(
            st.builds(
                ServiceQuality,
                addresses,
                ports,
                percentages,
                percentages,
                percentages,
                permilles,
                permilles,
                percentages,
                st.none() | numbers,
                st.none() | numbers,
            )
        ),
    ),
)


def frames_of(data: bytes, portion: int) -> Iterator[Frame]:
    decoder = FrameDecoder()
    decoder.version = NEWEST
    for start in range(0, len(data), portion):
        decoder.feed(data[start : start + portion])
        while (frame := decoder.next_frame()) is not None:
            yield frame


def with_header(message: Message, **changes: Any) -> Frame:
    """The frame of `message` with other members in its header; ... removes one."""
    (frame,) = frames_of(encode(message), 1 << 20)
    header = json.loads(frame.header) | changes
    kept = {name: value for name, value in header.items() if value is not ...}
    return Frame(frame.kind, json.dumps(kept).encode(), frame.blob)


def fault_of(frame: Frame) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(frame)
    return caught.value.reason


@given(st.lists(any_message, max_size=5), st.integers(1, 200))
def test_messages_survive_in_any_portions(sent: list[Message], portion: int) -> None:
    stream = b"".join(encode(message) for message in sent)
    assert [decode(frame) for frame in frames_of(stream, portion)] == sent


@given(any_message, st.data())
def test_mutated_frames_are_only_ever_the_peers_fault(message: Message, data: Any) -> None:
    stream = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        for frame in frames_of(bytes(stream), 50):
            decode(frame)
    except RemoteProtocolError as error:
        assert error.reason in Fault


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | addresses.map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(any_message, st.data())
def test_any_json_in_a_field_is_only_ever_the_peers_fault(message: Message, data: Any) -> None:
    frame = with_header(message)
    header = json.loads(frame.header)
    if header:
        header[data.draw(st.sampled_from(sorted(header)))] = data.draw(json_values)
    try:
        decoded = decode(Frame(frame.kind, json.dumps(header).encode(), frame.blob))
    except RemoteProtocolError:
        return
    assert decoded is None or encode(decoded)


@given(st.binary(max_size=200))
def test_garbage_is_refused_at_once(garbage: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(garbage)
    if garbage and garbage[:2] not in (b"D", b"DV"):
        with pytest.raises(RemoteProtocolError) as caught:
            decoder.next_frame()
        assert caught.value.reason is Fault.MAGIC


@given(st.sampled_from(sorted(TYPES)), st.binary(max_size=60), st.binary(max_size=80))
def test_garbage_in_a_frame_is_the_peers_fault(kind: int, header: bytes, blob: bytes) -> None:
    try:
        decode(Frame(kind, header, blob))
    except RemoteProtocolError as error:
        assert error.reason in Fault


def test_every_message_has_a_number() -> None:
    assert set(TYPES.values()) == set(Message.__args__)


def test_what_is_not_known_is_ignored_and_defaults_are_taken() -> None:
    assert decode(Frame(4711, b"not even JSON", b"x")) is None
    message = Dvipa(Move.TAKEOVER, IPv4Address("203.0.113.1"), 7)
    assert decode(with_header(message, colour={"new": [1]})) == message
    address = ip_address("2001:db8::1")
    batch = NewConn(address, 1, address, bytes(36))
    assert decode(with_header(batch, embryonic=..., snapshot=..., last=...)) == batch


def test_the_position_in_the_profile_does_not_travel() -> None:
    here = Distribute(IPv4Address("203.0.113.1"), position=Position("secret", 1, 1))
    frame = with_header(VipaList((VipaEntry(here.dvipa, 1, True, True, 1, (here,)),)))
    assert b"secret" not in frame.header
    decoded = decode(frame)
    assert isinstance(decoded, VipaList)
    assert decoded.entries[0].distributes[0].position.file == ""


ADDRESS = IPv4Address("203.0.113.1")
MOVE = Dvipa(Move.TAKEOVER, ADDRESS, 7)
BATCH = TermConn(ADDRESS, bytes(72))
STATUS = SrvStat(ADDRESS, True, (PortStatus(80, 1),))


class Bad(Enum):
    """A message, changes to its header, and what it is refused for."""

    MISSING = (MOVE, {"epoch": ...}, Fault.MISSING_FIELD)
    NUMBER_AS_TEXT = (MOVE, {"epoch": "7"}, Fault.WRONG_TYPE)
    NUMBER_AS_BOOL = (MOVE, {"epoch": True}, Fault.WRONG_TYPE)
    NUMBER_AS_FLOAT = (MOVE, {"epoch": 7.0}, Fault.WRONG_TYPE)
    NEGATIVE = (MOVE, {"epoch": -1}, Fault.WRONG_VALUE)
    HUGE = (MOVE, {"epoch": MAX_NUMBER + 1}, Fault.WRONG_VALUE)
    ENUM = (MOVE, {"move": "steal"}, Fault.WRONG_VALUE)
    ENUM_TYPE = (MOVE, {"move": 1}, Fault.WRONG_TYPE)
    ADDRESS = (MOVE, {"dvipa": "203.0.113.256"}, Fault.WRONG_VALUE)
    ADDRESS_AS_NUMBER = (MOVE, {"dvipa": 3405803777}, Fault.WRONG_TYPE)
    SCOPED = (MOVE, {"dvipa": "fe80::1%eth0"}, Fault.WRONG_VALUE)
    NULL = (MOVE, {"dvipa": None}, Fault.WRONG_TYPE)
    PORT = (STATUS, {"ports": [{"port": 65536, "ready": 1}]}, Fault.WRONG_VALUE)
    LIST = (STATUS, {"ports": {"port": 1}}, Fault.WRONG_TYPE)
    ITEM = (STATUS, {"ports": [80]}, Fault.WRONG_TYPE)
    LONG_LIST = (STATUS, {"ports": [{"port": 1, "ready": 1}] * (MAX_ITEMS + 1)}, Fault.TOO_LONG)
    TEXT = (Goodbye("x"), {"reason": "x" * (MAX_TEXT + 1)}, Fault.TOO_LONG)
    LINES = (Goodbye("x"), {"reason": "a\nforged log line"}, Fault.WRONG_VALUE)
    SURROGATE = (Goodbye("x"), {"reason": "\ud800"}, Fault.WRONG_VALUE)
    HALF_CONNECTION = (BATCH, {"connections": [0, 35]}, Fault.WRONG_VALUE)
    BEYOND = (BATCH, {"connections": [72, 36]}, Fault.WRONG_VALUE)
    BLOB_TYPE = (BATCH, {"connections": "AAAA"}, Fault.WRONG_TYPE)


@pytest.mark.parametrize("bad", Bad, ids=lambda bad: bad.name.lower())
def test_a_wrong_field_is_refused_by_keyword(bad: Bad) -> None:
    message, changes, fault = bad.value
    assert fault_of(with_header(message, **changes)) is fault


@pytest.mark.parametrize(
    "header", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000]
)
def test_a_header_that_is_no_json_is_refused(header: bytes) -> None:
    assert fault_of(Frame(9, header)) is Fault.JSON


def test_a_header_that_is_no_object_is_refused() -> None:
    assert fault_of(Frame(2, b"[]")) is Fault.WRONG_TYPE


def test_too_many_connections_are_refused() -> None:
    frame = with_header(BATCH)
    size = (MAX_CONNECTIONS + 1) * 36
    header = json.dumps(json.loads(frame.header) | {"connections": [0, size]}).encode()
    assert fault_of(Frame(frame.kind, header, bytes(size))) is Fault.TOO_LONG


@pytest.mark.parametrize(
    "message",
    [
        TermConn(ADDRESS, bytes(35)),
        TermConn(ADDRESS, bytes(36 * (MAX_CONNECTIONS + 1))),
        Goodbye("x" * (MAX_TEXT + 1)),
        Goodbye("two\nlines"),
        SrvStat(ADDRESS, True, (PortStatus(1, 1),) * (MAX_ITEMS + 1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_the_peer_would_refuse_is_not_sent(message: Message) -> None:
    with pytest.raises(ValueError, match=r"message|connections"):
        encode(message)


def test_a_frame_over_its_limit_is_refused_before_it_is_whole() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_frame(Frame(8, b"{}", bytes(MAX_FRAME)))
    stream = encode_frame(Frame(8, b"{}", bytes(MAX_FRAME - PREFIX_SIZE - 2)))
    (frame,) = frames_of(stream, 1 << 16)
    assert len(frame.blob) == MAX_FRAME - PREFIX_SIZE - 2
    decoder = FrameDecoder(limit=1000)
    decoder.version = NEWEST
    decoder.feed(stream[:PREFIX_SIZE])
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.next_frame()
    assert caught.value.reason is Fault.TOO_LONG


def test_another_version_is_refused_before_anything_else_is_read() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"DV\x02")
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.next_frame()
    assert caught.value.reason is Fault.VERSION


@settings(deadline=None)
@given(st.integers(1, 65536))
def test_full_batches_of_both_kinds_fit_in_a_frame(portion: int) -> None:
    address = ip_address("2001:db8::1")
    full = bytes(36 * MAX_CONNECTIONS)
    message = NewConn(address, 1, address, full, full)
    stream = encode(message)
    (frame,) = frames_of(stream, max(portion, 1000))
    assert decode(frame) == message


def test_a_full_batch_takes_milliseconds() -> None:
    address = ip_address("2001:db8::1")
    message = NewConn(address, 1, address, bytes(36 * MAX_CONNECTIONS))
    encode(message)
    started_ns = time.thread_time_ns()
    (frame,) = frames_of(encode(message), 1 << 16)
    assert decode(frame) == message
    assert time.thread_time_ns() - started_ns < 50_000_000
