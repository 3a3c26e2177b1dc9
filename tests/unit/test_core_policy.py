"""Policies of one service: who gets what, in Python and as the kernel's look-up has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvipad.address import Address, pack
from dvipad.config.model import (
    DAY_MINUTES,
    WEEK_MINUTES,
    Comparison,
    Condition,
    Device,
    DistMethod,
    Hours,
    Label,
    Match,
    Otherwise,
    Policy,
    PortRange,
    Prefix,
    Subset,
    Use,
)
from dvipad.core.methods import Choice, Ring, ring
from dvipad.core.policy import concerns, is_open, judge, rows_of
from dvipad.core.policy_explain import explain
from dvipad.core.policy_prefixes import EVERYBODY, NONE, UNSEEN, compile_prefixes
from dvipad.core.policy_rows import PolicyRow, Request, first
from dvipad.core.targets import DptRow

DVIPA = ip_address("192.0.2.100")
ROWS = tuple(
    DptRow(
        name,
        IPv4Address(f"192.0.2.{number}"),
        ready,
        weight,
        labels=(Label("rack", rack),),
        metric=weight,
    )
    for number, (name, ready, weight, rack) in enumerate(
        (("t1", 1, 10, "a"), ("t2", 1, 40, "a"), ("t3", 1, 60, "b"), ("t4", 0, 64, "b")), 1
    )
)
XCF = {row.name: row.xcf for row in ROWS}


def turns(rows: Sequence[DptRow]) -> Ring:
    return ring(DistMethod.ROUNDROBIN, [Choice(row.xcf) for row in rows])


def policy(subset: Subset, **fields: object) -> Policy:
    return replace(Policy("p", Match(), subset), **fields)  # type: ignore[arg-type]


def chosen(given: Policy) -> list[str]:
    return [row.name for row in judge(given, ROWS).chosen]


ABOVE_40 = Subset(conditions=(Condition("weight", Comparison.MORE, 40),))
LOW = Subset(("t1",))


@pytest.mark.parametrize(
    ("subset", "fields", "names"),
    [
        (Subset(("t1", "t3")), {}, ["t1", "t3"]),
        (Subset(labels=(Label("rack", "a"),)), {}, ["t1", "t2"]),
        (ABOVE_40, {}, ["t3"]),
        (Subset(("t2", "t3"), (Label("rack", "a"),)), {}, ["t2"]),
        (Subset(("t1", "t2")), {"threshold": 40}, ["t2"]),
        (LOW, {"threshold": 40}, ["t1", "t2", "t3"]),
        (LOW, {"threshold": 50, "otherwise": Otherwise.BEST_OUTSIDE}, ["t3"]),
        (LOW, {"threshold": 64, "otherwise": Otherwise.BEST_OUTSIDE}, ["t1"]),
        (LOW, {"threshold": 40, "otherwise": Otherwise.REFUSE}, []),
        (Subset(("t4",)), {}, ["t1", "t2", "t3"]),
        (Subset(("t4",)), {"otherwise": Otherwise.REFUSE}, []),
        (Subset(("t4",)), {"otherwise": Otherwise.BEST_OUTSIDE}, ["t1", "t2", "t3"]),
        (Subset(("nobody",)), {"threshold": 64, "otherwise": Otherwise.BEST_OUTSIDE},
         ["t1", "t2", "t3"]),
        (Subset(conditions=(Condition("speed", Comparison.MORE, 0),)),
         {"otherwise": Otherwise.REFUSE}, []),
    ],
)  # fmt: skip
def test_who_gets_a_request(subset: Subset, fields: dict[str, object], names: list[str]) -> None:
    """P1 to P3, as the source describes in its Figure 8."""
    assert chosen(policy(subset, **fields)) == names


@pytest.mark.parametrize(
    ("comparison", "names"),
    [
        (Comparison.LESS, ["t1"]),
        (Comparison.AT_MOST, ["t1", "t2"]),
        (Comparison.EQUAL, ["t2"]),
        (Comparison.AT_LEAST, ["t2", "t3"]),
        (Comparison.MORE, ["t3"]),
    ],
)
def test_comparisons(comparison: Comparison, names: list[str]) -> None:
    assert chosen(policy(Subset(conditions=(Condition("weight", comparison, 40),)))) == names


def test_a_target_of_which_nothing_is_known_meets_no_criterion() -> None:
    unknown = tuple(replace(row, metric=None) for row in ROWS)
    above = Subset(conditions=(Condition("weight", Comparison.AT_LEAST, 0),))
    refusing = policy(above, otherwise=Otherwise.REFUSE)
    assert judge(refusing, unknown).chosen == ()
    assert judge(replace(refusing, subset=Subset(), threshold=0), unknown).chosen == ()
    assert judge(replace(refusing, subset=Subset()), unknown).chosen == unknown[:3]


def _minute(day: int, hour: int, minute: int = 0) -> int:
    return day * DAY_MINUTES + hour * 60 + minute


@pytest.mark.parametrize(
    ("match", "inside", "outside"),
    [
        (Match(), [_minute(3, 4)], []),
        (Match(hours=(Hours(480, 1080),)), [_minute(0, 8), _minute(6, 17, 59)],
         [_minute(0, 7, 59), _minute(0, 18)]),
        (Match(hours=(Hours(480, 1080),), days=(4,)), [_minute(4, 12)], [_minute(5, 12)]),
        (Match(hours=(Hours(1320, 360),), days=(4,)), [_minute(4, 22), _minute(5, 5, 59)],
         [_minute(4, 5), _minute(5, 6), _minute(5, 22)]),
        (Match(hours=(Hours(1320, 360),), days=(6,)), [_minute(0, 1)], [_minute(1, 1)]),
        (Match(days=(2,)), [_minute(2, 0), _minute(2, 23, 59)], [_minute(3, 0)]),
        (Match(hours=(Hours(0, 0),)), [0, 719, 10079], []),
    ],
)  # fmt: skip
def test_hours_and_days(match: Match, inside: list[int], outside: list[int]) -> None:
    given = policy(Subset(("t1",)), match=match)
    assert all(is_open(given, minute) for minute in inside)
    assert not any(is_open(given, minute) for minute in outside)


def test_without_a_clock_only_timeless_policies_apply() -> None:
    assert is_open(policy(Subset(("t1",))), None)
    assert not is_open(policy(Subset(("t1",)), match=Match(days=(0,))), None)


def test_rows_have_what_is_left_to_see() -> None:
    """Ports are decided, the first row for all requests ends the list."""
    office = Prefix(ip_address("203.0.113.0"), 24)
    policies = (
        policy(LOW, name="other port", match=Match(ports=(PortRange(443, 443),))),
        policy(LOW, name="office", match=Match(clients=(office,)), use=Use.RESTRICT),
        policy(Subset(("t3",)), name="all"),
        policy(LOW, name="never"),
    )
    assert rows_of(policies, 80, turns, ROWS) == (
        PolicyRow("office", (office,), strict=True, ring=(XCF["t1"],), targets=1),
        PolicyRow("all", ring=(XCF["t3"],), targets=1),
    )


def test_a_name_that_comes_twice_counts_once() -> None:
    twice = (policy(LOW, match=Match(days=(0,))), policy(Subset(("t3",))))
    assert [row.ring for row in rows_of(twice, 80, turns, ROWS)] == [(XCF["t1"],)]


SUBNETS = [
    "0.0.0.0/0", "192.0.0.0/8", "192.0.2.0/24", "192.0.2.128/25", "192.0.2.200/32",
    "::/0", "2001:db8::/32", "2001:db8:0:1::/64", "2001:db8::7/128",
    "::fffe:0:0/95", "::/90", "::ffff:192.0.2.0/120",
]  # fmt: skip
CLIENTS = [
    "192.0.2.1", "192.0.2.129", "192.0.2.200", "192.1.1.1", "10.0.0.1", "255.255.255.255",
    "2001:db8::7", "2001:db8:0:1::5", "2001:db9::1", "::1", "::fffe:1:1",
]  # fmt: skip


def _prefix(text: str) -> Prefix:
    network = ip_network(text)
    return Prefix(network.network_address, network.prefixlen)


known_subnets = st.sampled_from(SUBNETS).map(_prefix)
any_subnets = st.builds(
    Prefix, st.ip_addresses(v=4), st.integers(0, 32)
) | st.builds(Prefix, st.ip_addresses(v=6), st.integers(0, 128))  # fmt: skip
policy_rows = st.builds(
    PolicyRow,
    name=st.just("p"),
    clients=st.lists(known_subnets | any_subnets, max_size=4).map(tuple),
    dscps=st.sampled_from([(), (), (46,)]),
    devices=st.sampled_from([(), (), (Device.APPLE,)]),
    strict=st.booleans(),
)
clients = (
    st.sampled_from(CLIENTS).map(ip_address) | st.ip_addresses(v=4) | st.ip_addresses(v=6)
).map(lambda each: (isinstance(each, IPv6Address) and each.ipv4_mapped) or each)


def _longest(table: dict[tuple[int, int], int], client: Address) -> int | None:
    """A longest-prefix look-up, as BPF_MAP_TYPE_LPM_TRIE does it."""
    value = int.from_bytes(pack(client), "big")
    for length in range(128, -1, -1):
        free = 128 - length
        found = table.get((value >> free << free, length))
        if found is not None:
            return None if found == NONE else found
    return None


@given(st.lists(policy_rows, max_size=8), clients)
def test_the_kernel_agrees_with_the_worker(rows: list[PolicyRow], client: Address) -> None:
    """It passes over what it cannot see and may, and knows where it may not."""
    expected: int | None = None
    for place, row in enumerate(rows):
        if row.unseen and not row.strict:
            continue
        address_only = replace(row, dscps=(), interfaces=(), devices=())
        if first([address_only], Request(client)) is not None:
            expected = UNSEEN if row.unseen else place
            break
    compiled = compile_prefixes(rows)
    assert EVERYBODY in compiled
    assert _longest(compiled, client) == expected
    if not any(row.unseen for row in rows):
        wanted = first(rows, Request(client))
        assert wanted is (None if expected is None else rows[expected])


matches = st.builds(
    Match,
    dvipas=st.sampled_from([(), (DVIPA,), (ip_address("192.0.2.101"),)]),
    ports=st.sampled_from([(), (PortRange(80, 80),), (PortRange(443, 8000),)]),
    clients=st.lists(known_subnets, max_size=2).map(tuple),
    dscps=st.sampled_from([(), (46,), (0, 10)]),
    interfaces=st.sampled_from([(), ("eth0",)]),
    devices=st.sampled_from([(), (Device.LINUX, Device.APPLE)]),
    hours=st.sampled_from([(), (Hours(480, 1080),)]),
    days=st.sampled_from([(), (0, 1)]),
)
policies = st.builds(
    Policy,
    name=st.sampled_from("abcde"),
    match=matches,
    subset=st.builds(Subset, st.sampled_from([(), ("t1",), ("t4",), ("t2", "t3")])),
    threshold=st.none() | st.integers(0, 64),
    use=st.sampled_from(Use),
    otherwise=st.sampled_from(Otherwise),
)
requests = st.builds(
    Request,
    clients,
    st.sampled_from([0, 10, 46]),
    st.sampled_from(["eth0", "eth1"]),
    st.sampled_from(Device),
)


@given(
    st.lists(policies, max_size=5, unique_by=lambda policy: policy.name),
    requests,
    st.sampled_from([80, 443, 22]),
    st.integers(0, WEEK_MINUTES - 1),
)
def test_what_is_explained_is_what_is_done(
    given: list[Policy], request: Request, port: int, minute: int
) -> None:
    found = explain(given, DVIPA, port, request, minute, ROWS)
    live = [each for each in given if concerns(each, DVIPA) and is_open(each, minute)]
    row = first(rows_of(live, port, turns, ROWS), request)
    assert found.policy == (None if row is None else row.name)
    ring = {XCF["t1"], XCF["t2"], XCF["t3"]} if row is None else set(row.ring)
    assert {XCF[name] for name in found.targets} == ring
    assert found.reason
    assert [step.matches for step in found.steps].count(True) == (row is not None)
