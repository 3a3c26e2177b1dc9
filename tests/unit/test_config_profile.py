"""What the VIPADYNAMIC grammar says (D1, C1, C2, A4; z/OS: IP Configuration Reference)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from dvipad.config.errors import errors
from dvipad.config.model import (
    Backup,
    Define,
    DistMethod,
    Distribute,
    Moveable,
    PortRange,
    Profile,
    Range,
    Route,
    TargetSpec,
)
from dvipad.config.profile import parse_profile

A, B, C = (IPv4Address(f"192.0.2.{host}") for host in (10, 11, 12))
X1, X2, X3 = (IPv4Address(f"198.51.100.{host}") for host in (1, 2, 3))
V6 = ip_address("2001:db8::10")
DEFINED = "VIPADEFINE 255.255.255.0 192.0.2.10 192.0.2.11 VIPADEFINE WEB6 2001:db8::10/64\n"


def parse(statements: str) -> Profile:
    parsed = parse_profile(f"VIPADYNAMIC\n{statements}\nENDVIPADYNAMIC\n", "p")
    assert not errors(parsed.problems), "\n".join(map(str, parsed.problems))
    return parsed.profile


def distribute(statement: str) -> Distribute:
    (value,) = parse(DEFINED + statement).distributes
    return replace(value, position=Distribute(A).position)


def test_the_sample_of_ibm() -> None:
    profile = parse("""
      VIPADEFINE 255.255.255.240 201.2.10.11 201.2.10.12
      VIPABACKUP 100 201.2.10.13                      ; takeover only
      VIPABACKUP 80 MOVEABLE IMMED 255.255.255.240 201.2.10.21   ; may create
      VIPARANGE DEFINE 255.255.255.192 201.2.10.192
      VIPADISTRIBUTE SYSPLEXPORTS DISTM SERVERWLM 201.2.10.11 PORT 20 21 DESTIP ALL
      VIPADISTRIBUTE DISTM WEIGHTEDActive 201.2.10.12 PORT 5000
        DESTIP 193.9.200.2 WEIGHT 10  193.9.200.3 WEIGHT 20
      VIPADISTRIBUTE TIMEDAFF 30 201.2.10.12 PORT 23 DESTIP ALL
    """)
    first, second = (IPv4Address(f"201.2.10.{host}") for host in (11, 12))
    assert profile == Profile(
        (Define(first, 28), Define(second, 28)),
        (
            Backup(IPv4Address("201.2.10.13"), 100),
            Backup(IPv4Address("201.2.10.21"), 80, Moveable.IMMEDIATE, 28),
        ),
        (Range(IPv4Address("201.2.10.192"), 26),),
        (
            Distribute(
                first,
                (PortRange(20, 20), PortRange(21, 21)),
                method=DistMethod.SERVERWLM,
                cluster_ports=True,
            ),
            Distribute(
                second,
                (PortRange(5000, 5000),),
                (
                    TargetSpec(IPv4Address("193.9.200.2"), 10),
                    TargetSpec(IPv4Address("193.9.200.3"), 20),
                ),
                DistMethod.WEIGHTEDACTIVE,
            ),
            Distribute(second, (PortRange(23, 23),), timed_affinity_s=30),
        ),
    )


def test_the_plain_forms_of_the_source_documents() -> None:
    profile = parse("""
      VIPADEFine MOVEable IMMEDIATE 255.255.255.0 192.0.2.10
      VIPABackup 30 192.0.2.11
      VIPADISTribute 192.0.2.10 PORT 60 DESTIP 198.51.100.1, 198.51.100.2,198.51.100.3
      VIPADISTribute 192.0.2.11 PORT DESTIP ALL
      VIPARange MOVEable NONDISRUPTIVE 255.255.255.0 192.0.2.77
    """)
    assert profile.distributes == (
        Distribute(A, (PortRange(60, 60),), (TargetSpec(X1), TargetSpec(X2), TargetSpec(X3))),
        Distribute(B),
    )
    assert profile.ranges == (Range(IPv4Address("192.0.2.0"), 24),)


@pytest.mark.parametrize(
    "text",
    [
        "VIPADEF MOVE IMMED 255.255.255.0 192.0.2.10",
        "vipadefine moveable immediate 255.255.255.0 192.0.2.10",
        "VipaDefin\nMoveabl\n\n; a comment\nImmediat ; another\n255.255.255.0\r\n\t192.0.2.10",
    ],
)
def test_abbreviations_case_and_lines(text: str) -> None:
    assert parse(text).defines == (Define(A, 24),)


def test_positions_are_those_of_statements() -> None:
    profile = parse(DEFINED + "  VIPADIST 192.0.2.10 DESTIP ALL")
    position = profile.distributes[0].position
    assert (position.file, position.line, position.column) == ("p", 3, 3)


def test_definitions_take_options_in_any_order() -> None:
    text = "VIPADEFINE {} MOVEABLE WHENIDLE 255.255.255.0 192.0.2.10"
    expected = (Define(A, 24, Moveable.WHENIDLE, cluster_ports=True),)
    assert parse(text.format("CLUSTERPORTS")).defines == expected
    text = "VIPADEFINE MOVEABLE WHENIDLE SYSPLEXP 255.255.255.0 192.0.2.10"
    assert parse(text).defines == expected


def test_ipv6_with_and_without_interface_names() -> None:
    profile = parse("""
      VIPADEFINE web6 2001:db8::10/64
      VIPADEFINE CLUSTERPORTS 2001:db8::11/64 2001:db8::12/64
      VIPABACKUP 7 MAIL6 2001:db8::13
      VIPABACKUP MOVEABLE IMMEDIATE 2001:db8::14
      VIPARANGE DEFINE APPS 2001:db8:1::77/64
      VIPADIST Web6 PORT 80 DESTIP 2001:db8:f::1
      VIPADIST 2001:db8::11 DESTIP 198.51.100.1
    """)
    assert profile.defines[0] == Define(V6, 64, interface="WEB6")
    assert [entry.cluster_ports for entry in profile.defines] == [False, True, True]
    assert profile.backups == (
        Backup(ip_address("2001:db8::13"), 7, interface="MAIL6"),
        Backup(ip_address("2001:db8::14"), 1, Moveable.IMMEDIATE, 128),
    )
    assert profile.ranges == (Range(ip_address("2001:db8:1::"), 64, interface="APPS"),)
    assert [str(value.dvipa) for value in profile.distributes] == ["2001:db8::10", "2001:db8::11"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("VIPADIST 192.0.2.10 DESTIP ALL", Distribute(A)),
        ("VIPADIST DEFINE 192.0.2.10 DESTIP ALL", Distribute(A)),
        ("VIPADIST NOOPTLOCAL 192.0.2.10 DESTIP ALL", Distribute(A)),
        ("VIPADIST OPTLOCAL 192.0.2.10 DESTIP ALL", Distribute(A, optlocal=1)),
        ("VIPADIST OPTLOCAL 0 192.0.2.10 DESTIP ALL", Distribute(A, optlocal=0)),
        ("VIPADIST AUTOAFFINITY 192.0.2.10 DESTIP ALL", Distribute(A, auto_affinity=True)),
        ("VIPADIST CLUSTERPORTS 192.0.2.10 DESTIP ALL", Distribute(A, cluster_ports=True)),
        ("VIPADIST PAUSE OFFLOAD 192.0.2.10 DESTIP ALL", Distribute(A, paused=True, offload=True)),
        (
            "VIPADIST OFFLOAD DISTM ROUNDROBIN PAUSE TIMEDAFF 9 WEB6 DESTIP ALL",
            Distribute(
                V6,
                method=DistMethod.ROUNDROBIN,
                paused=True,
                offload=True,
                timed_affinity_s=9,
            ),
        ),
        (
            "VIPADIST 192.0.2.10 PORT 80 443,8000-8010 DESTIP ALL",
            Distribute(A, (PortRange(80, 80), PortRange(443, 443), PortRange(8000, 8010))),
        ),
        (
            "VIPADIST DISTM ROUNDROBIN 192.0.2.10 DESTIP 198.51.100.1 WEIGHT 3 198.51.100.2",
            Distribute(
                A, targets=(TargetSpec(X1, 3), TargetSpec(X2)), method=DistMethod.ROUNDROBIN
            ),
        ),
        (
            "VIPADIST DISTM HOTSTANDBY NOAUTOSWITCHBACK NOHEALTHSWITCH 192.0.2.10 DESTIP"
            " 198.51.100.1 PREFERRED 198.51.100.2 BACKUP 9 198.51.100.3 BACKUP",
            Distribute(
                A,
                targets=(TargetSpec(X1, 10, 255), TargetSpec(X2, 10, 9), TargetSpec(X3, 10, 1)),
                method=DistMethod.HOTSTANDBY,
                auto_switch_back=False,
                health_switch=False,
            ),
        ),
    ],
)
def test_distribute(statement: str, expected: Distribute) -> None:
    assert distribute(statement) == expected


def test_a_repeated_distribute_adds_and_replaces_targets() -> None:
    value = distribute("""
      VIPADIST DISTM WEIGHTEDA 192.0.2.10 PORT 80 DESTIP 198.51.100.1 WEIGHT 1 198.51.100.2
      VIPADIST DISTM WEIGHTEDA 192.0.2.10 PORT 80 DESTIP 198.51.100.3 198.51.100.1 WEIGHT 5
    """)
    assert value.targets == (TargetSpec(X1, 5), TargetSpec(X2), TargetSpec(X3))


def test_ports_of_their_own_beside_all_ports() -> None:
    text = "VIPADIST 192.0.2.10 DESTIP ALL VIPADIST 192.0.2.10 PORT 80 DESTIP 198.51.100.1"
    assert len(parse(DEFINED + text).distributes) == 2


def test_deletes_are_applied_in_their_order() -> None:
    profile = parse(f"""{DEFINED}
      VIPABACKUP 5 192.0.2.12
      VIPADIST 192.0.2.10 PORT 80 DESTIP ALL
      VIPADIST 192.0.2.11 PORT 80 DESTIP 198.51.100.1 198.51.100.2
      VIPADIST 192.0.2.11 PORT 81 DESTIP ALL
      VIPADIST WEB6 DESTIP ALL
      VIPADELETE 192.0.2.10 192.0.2.12
      VIPADELETE web6
      VIPADEFINE 255.255.255.0 192.0.2.12
      VIPADIST DELETE 192.0.2.11 PORT 80 DESTIP 198.51.100.1
      VIPADIST DELE 192.0.2.11 PORT 81 DESTIP ALL
      VIPARANGE 255.255.255.0 192.0.2.0 VIPARANGE DELETE 255.255.255.0 192.0.2.1
      VIPAROUTE 198.51.100.1 203.0.113.1 VIPAROUTE 198.51.100.2 203.0.113.2
      VIPAROUTE DELETE 198.51.100.1 203.0.113.1
    """)
    assert profile == Profile(
        (Define(B, 24), Define(C, 24)),
        distributes=(Distribute(B, (PortRange(80, 80),), (TargetSpec(X2),)),),
        routes=(Route(X2, IPv4Address("203.0.113.2")),),
    )


def test_several_blocks_are_one_profile() -> None:
    text = "VIPADYNAMIC VIPADEF 255.255.255.0 192.0.2.10 ENDVIPADYNAMIC\n"
    text += "vipadyn vipadist 192.0.2.10 destip all endvipad ; done"
    parsed = parse_profile(text, "p")
    assert parsed.profile == Profile((Define(A, 24),), distributes=(Distribute(A),))
    assert not parsed.problems


def test_an_empty_block_is_an_empty_profile() -> None:
    assert parse("; nothing\n;here") == Profile()
