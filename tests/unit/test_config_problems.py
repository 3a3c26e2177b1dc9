"""Every defect of a profile is reported: place, offending text, message, remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvipad.config.errors import ConfigError, Problem, Severity
from dvipad.config.profile import check_profile, load_profile, parse_profile

DEFINED = "VIPADEFINE 255.255.255.0 192.0.2.10 192.0.2.11\n"


def problems(text: str) -> tuple[Problem, ...]:
    return parse_profile(text, "f").problems


def within(statements: str) -> tuple[Problem, ...]:
    """Problems of statements that start in line 1, inside of a block with two DVIPAs."""
    found = problems(f"VIPADYNAMIC {DEFINED}{statements}\nENDVIPADYNAMIC")
    for problem in found:
        assert problem.position.line >= 2
    return found


@pytest.mark.parametrize(
    ("statement", "column", "text", "fragment"),
    [
        ("VIPADEFIN1 255.255.255.0 192.0.2.12", 1, "VIPADEFIN1", "not a statement"),
        ("VIPADEFINE", 1, "VIPADEFINE", "missing"),
        ("VIPADEFINE 255.255.255.0", 12, "255.255.255.0", "without an address"),
        ("VIPADEFINE 255.0.255.0 192.0.2.12", 12, "255.0.255.0", "not a mask"),
        ("VIPADEFINE 0.0.0.0 192.0.2.12", 12, "0.0.0.0", "not a mask"),
        ("VIPADEFINE 255.255.255.0 192.0.2.300", 26, "192.0.2.300", "not an address"),
        ("VIPADEFINE 255.255.255.0 192.0.2.12 192.0.3.1", 37, "192.0.3.1", "same subnet"),
        ("VIPADEFINE 255.255.255.0 192.0.2.255", 26, "192.0.2.255", "broadcast"),
        ("VIPADEFINE 255.255.255.0 192.0.2.0", 26, "192.0.2.0", "network address"),
        ("VIPADEFINE 255.0.0.0 127.0.0.1", 22, "127.0.0.1", "loopback"),
        ("VIPADEFINE 255.255.255.0 224.0.0.5", 26, "224.0.0.5", "multicast"),
        ("VIPADEFINE 255.255.255.0 0.0.0.0", 26, "0.0.0.0", "unspecified"),
        ("VIPADEFINE V6 ::/64", 15, "::/64", "unspecified"),
        ("VIPADEFINE V6 fe80::1/64", 15, "fe80::1/64", "link-local"),
        ("VIPADEFINE V6 ::ffff:192.0.2.12/128", 15, "::ffff:192.0.2.12/128", "mapped"),
        ("VIPADEFINE V6 2001:db8::1/129", 15, "2001:db8::1/129", "not an IPv6 address"),
        ("VIPADEFINE V6 2001:db8::1 2001:db8::2", 27, "2001:db8::2", "second address"),
        ("VIPADEFINE ALL 2001:db8::1", 12, "ALL", "not an interface name"),
        ("VIPADEFINE 255.255.255.0 2001:db8::1", 26, "2001:db8::1", "IPv6 address among"),
        ("VIPADEFINE 255.255.255.0 192.0.2.10", 26, "192.0.2.10", "already"),
        ("VIPADEFINE MOVEABLE 255.255.255.0 192.0.2.12", 12, "MOVEABLE", "does not say when"),
        ("VIPADEFINE IMMED 255.255.255.0 192.0.2.12", 12, "IMMED", "without MOVEABLE"),
        ("VIPADEFINE MOVE DISRUPT 255.255.255.0 192.0.2.12", 17, "DISRUPT", "not a way"),
        ("VIPADEFINE TIER1 255.255.255.0 192.0.2.12", 12, "TIER1", "not part of dvipad"),
        ("VIPADEFINE SERVICEMGR 255.255.255.0 192.0.2.12", 12, "SERVICEMGR", "not part"),
        ("VIPADEFINE 192.0.2.12/24", 12, "192.0.2.12/24", "not an address"),
        ("VIPABACKUP 0 MOVE IMMED 255.255.255.0 192.0.2.12", 12, "0", "not a rank"),
        ("VIPABACKUP 255 MOVE IMMED 255.255.255.0 192.0.2.12", 12, "255", "not a rank"),
        ("VIPABACKUP 1 MOVE IMMED 255.255.255.0 192.0.2.10", 39, "192.0.2.10", "already"),
        ("VIPARANGE 255.255.255.0 192.0.2.0 SAF RES", 35, "SAF", "not part of dvipad"),
        ("VIPARANGE 255.255.255.0 192.0.2.0 192.0.3.0", 35, "192.0.3.0", "second address"),
        ("VIPARANGE 128.0.0.0 64.0.0.0", 21, "64.0.0.0", "covers"),
        ("VIPARANGE 2001:db8::1", 11, "2001:db8::1", "prefix length"),
        ("VIPARANGE DELETE 255.255.255.0 192.0.2.0", 32, "192.0.2.0", "not defined"),
        ("VIPADELETE 192.0.2.99", 12, "192.0.2.99", "not defined"),
        ("VIPADELETE", 1, "VIPADELETE", "deletes nothing"),
        ("VIPADELETE NOBODY", 12, "NOBODY", "neither an address"),
        ("VIPAROUTE 198.51.100.1", 1, "VIPAROUTE", "missing"),
        ("VIPAROUTE 198.51.100.1 2001:db8::1", 24, "2001:db8::1", "family"),
        ("VIPAROUTE 198.51.100.1 192.0.2.9 7", 34, "7", "not expected"),
        ("VIPASMPARMS SMPORT 1", 1, "VIPASMPARMS", "not part of dvipad"),
        ("VIPADIST 192.0.2.10", 1, "VIPADIST", "DESTIP is missing"),
        ("VIPADIST PORT 80 DESTIP ALL", 1, "VIPADIST", "which DVIPA"),
        ("VIPADIST 192.0.2.99 DESTIP ALL", 10, "192.0.2.99", "neither defined nor backed up"),
        ("VIPADIST 192.0.2.10 PORT 80;web\nDESTIP ALL", 26, "80;web", "not a port"),
        ("VIPADIST 192.0.2.10 PORT 0 DESTIP ALL", 26, "0", "not a port"),
        ("VIPADIST 192.0.2.10 PORT 65536 DESTIP ALL", 26, "65536", "not a port"),
        ("VIPADIST 192.0.2.10 PORT 9-8 DESTIP ALL", 26, "9-8", "not a port"),
        ("VIPADIST 192.0.2.10 PORT 80 79-81 DESTIP ALL", 29, "79-81", "listed before"),
        ("VIPADIST 192.0.2.10 DESTIP", 21, "DESTIP", "without targets"),
        ("VIPADIST 192.0.2.10 DESTIP 198.51.100.1,", 40, ",", "comma"),
        ("VIPADIST 192.0.2.10 DESTIP 198.51.100.1 198.51.100.1", 41, "198.51.100.1", "before"),
        ("VIPADIST 192.0.2.10 DESTIP 198.51.100.1 2001:db8::1", 41, "2001:db8::1", "family"),
        ("VIPADIST 192.0.2.10 DESTIP 192.0.2.11", 10, "192.0.2.10", "is a DVIPA"),
        ("VIPADIST DISTM 192.0.2.10 DESTIP ALL", 10, "DISTM", "without a method"),
        ("VIPADIST DISTM RANDOM 192.0.2.10 DESTIP ALL", 16, "RANDOM", "not a distribution"),
        ("VIPADIST OPTLOCAL 17 192.0.2.10 DESTIP ALL", 19, "17", "from 0 to 16"),
        ("VIPADIST PAUSE PAUSE 192.0.2.10 DESTIP ALL", 16, "PAUSE", "twice"),
        ("VIPADIST TIMEDAFF x 192.0.2.10 DESTIP ALL", 19, "x", "not a time"),
        ("VIPADIST 192.0.2.10 PAUSE DESTIP ALL", 21, "PAUSE", "expected PORT or DESTIP"),
        ("VIPADIST 192.0.2.10 DESTIP ALL PAUSE", 32, "PAUSE", "behind the address"),
        ("VIPADIST GRE 192.0.2.10 DESTIP ALL", 10, "GRE", "not part of dvipad"),
        (
            "VIPADIST DISTM BASEWLM PROCTYPE CP 20 ZAAP 80 192.0.2.10 DESTIP ALL",
            24,
            "PROCTYPE",
            "not part of dvipad",
        ),
        ("VIPADIST DISTM HOTSTANDBY 192.0.2.10 DESTIP ALL", 38, "DESTIP", "HOTSTANDBY"),
        ("VIPADIST AUTOSWITCHBACK 192.0.2.10 DESTIP ALL", 10, "AUTOSWITCHBACK", "without"),
        ("VIPADIST 192.0.2.10 DESTIP 198.51.100.1 PREFERRED", 41, "PREFERRED", "without"),
        ("VIPADIST DELETE 192.0.2.10 DESTIP ALL", 17, "192.0.2.10", "not distributed"),
        ("VIPADIST WEIGHTLESS 192.0.2.10 DESTIP ALL", 10, "WEIGHTLESS", "not an option"),
    ],
)
def test_one_defect_is_one_error(statement: str, column: int, text: str, fragment: str) -> None:
    found = [problem for problem in within(statement) if problem.severity is Severity.ERROR]
    assert len(found) == 1, "\n".join(map(str, found))
    (problem,) = found
    assert (problem.position.line, problem.position.column) == (2, column)
    assert problem.text == text
    assert fragment in problem.message
    assert problem.remedy.endswith((".", ")"))


def test_all_defects_of_all_statements_are_reported_in_order() -> None:
    found = problems("""VIPADYNAMIC
  VIPADEFINE 255.255.255.0 192.0.2.10 192.0.2.x 192.0.3.1
  VIPADISTT 1
  VIPADIST RONDROBIN OPTLOCAL 99 192.0.2.10 PORT 0 80 DESTIP ::1
IPCONFIG DYNAMICXCF 1.2.3.4
""")
    places = [(p.position.line, p.position.column) for p in found]
    of_line_4 = [(4, 12), (4, 31), (4, 50), (4, 62)]
    assert places == [(1, 1), (2, 39), (2, 49), (3, 3), *of_line_4, (5, 1), (5, 10)]
    assert "ROUNDROBIN" in found[4].remedy


def test_statements_outside_of_the_block() -> None:
    found = problems("PORT 80 TCP HTTPD SHAREPORT\nVIPADYNAMIC ENDVIPADYNAMIC\nVIPADEFINE 1")
    assert [(p.position.line, p.text) for p in found] == [(1, "PORT"), (3, "VIPADEFINE")]
    assert "AUTOAFFINITY" in found[0].remedy


def test_a_file_without_a_block() -> None:
    (problem,) = problems("; nothing\n")
    assert "no VIPADYNAMIC block" in problem.message
    (problem,) = problems("")
    assert (problem.position.line, problem.position.column) == (1, 1)


def test_standby_needs_one_preferred_and_a_backup() -> None:
    statement = "VIPADIST DISTM HOTSTANDBY 192.0.2.10 DESTIP {}"
    messages = [p.message for p in within(statement.format("198.51.100.1 198.51.100.2 BACKUP"))]
    assert any("neither PREFERRED nor BACKUP: 198.51.100.1" in text for text in messages)
    assert any(text.startswith("0 PREFERRED") for text in messages)
    (problem,) = within(statement.format("198.51.100.1 PREFERRED"))
    assert "no BACKUP" in problem.message


@pytest.mark.parametrize(("count", "accepted"), [(32, True), (33, False)])
def test_limit_of_targets(count: int, accepted: bool) -> None:
    targets = " ".join(f"198.51.100.{host}" for host in range(1, count + 1))
    assert (not within(f"VIPADIST 192.0.2.10 DESTIP {targets}")) is accepted


@pytest.mark.parametrize(("count", "accepted"), [(64, True), (65, False)])
def test_limit_of_ports(count: int, accepted: bool) -> None:
    ports = " ".join(str(port) for port in range(1, count + 1))
    assert (not within(f"VIPADIST 192.0.2.10 PORT {ports} DESTIP ALL")) is accepted


@pytest.mark.parametrize(("count", "accepted"), [(1024, True), (1025, False)])
def test_limit_of_dvipas(count: int, accepted: bool) -> None:
    addresses = " ".join(f"10.1.{i // 200}.{i % 200 + 1}" for i in range(count))
    found = problems(f"VIPADYNAMIC VIPADEF 255.255.0.0 {addresses} ENDVIPADYNAMIC")
    assert (not found) is accepted


@pytest.mark.parametrize(
    ("second", "fragment"),
    [
        ("PORT 80 DESTIP ALL", "ports of it are distributed"),
        ("PORT 80 90 DESTIP ALL", "contradicts"),
    ],
)
def test_distributes_of_the_same_ports_agree(second: str, fragment: str) -> None:
    first = "VIPADIST PAUSE 192.0.2.10 PORT 80 90 DESTIP ALL"
    (problem,) = within(f"{first} VIPADIST 192.0.2.10 {second}")
    assert fragment in problem.message


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("VIPABACKUP 1 192.0.2.12", "VIPABACKUP"),
        ("VIPADIST 192.0.2.10 PORT DESTIP ALL", "PORT"),
        ("VIPADIST 192.0.2.10 DESTIP 198.51.100.1 WEIGHT 3", "WEIGHT"),
        ("VIPADIST OPTLOCAL 2 192.0.2.10 DESTIP ALL", "OPTLOCAL"),
    ],
)
def test_warnings_refuse_nothing(statement: str, text: str) -> None:
    (problem,) = within(statement)
    assert problem.severity is Severity.WARNING
    assert problem.text == text


def test_an_interface_name_belongs_to_one_address() -> None:
    (problem,) = within("VIPADEF V6 2001:db8::1 VIPADEF v6 2001:db8::2")
    assert "interface V6 is 2001:db8::1 already" in problem.message


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    (problem,) = within("\x1b[2J\u2028\udcff")
    assert "'\\x1b[2J\\u2028\\xff'" in str(problem)


def test_a_delete_leaves_enough_for_hot_standby() -> None:
    option = "DISTM HOTSTANDBY"
    targets = "198.51.100.1 PREFERRED 198.51.100.2 BACKUP"
    define = f"VIPADIST {option} 192.0.2.10 DESTIP {targets}"
    (problem,) = within(f"{define} VIPADIST DELETE 192.0.2.10 DESTIP 198.51.100.1")
    assert "leaves HOTSTANDBY without" in problem.message
    assert not within(f"{define} VIPADIST DELETE {option} 192.0.2.10 DESTIP {targets}")


def test_one_error_drops_nothing_silently(tmp_path: Path) -> None:
    """Where z/OS drops the rest of the block, all of it is read, and none of it is in force."""
    path = tmp_path / "profile"
    path.write_text(f"VIPADYNAMIC {DEFINED} VIPADISTT 192.0.2.10\n VIPABACKUP 9 192.0.2.12\n")
    parsed = check_profile(path)
    assert [str(backup.dvipa) for backup in parsed.profile.backups] == ["192.0.2.12"]
    with pytest.raises(ConfigError) as refused:
        load_profile(path)
    messages = [problem.message for problem in refused.value.problems]
    assert messages[:2] == ["this block is never ended", "not a statement"]
    assert messages[2].startswith("without MOVEABLE")
