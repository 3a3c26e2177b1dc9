"""The rivals' configuration: what they are told is what is compared."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from bench import choice, haproxy, rivals
from bench.keepalived import Vrrp
from dvipad.config.profile import parse_profile
from dvipad.lab.spec import LabSpec

SERVERS4 = [ip_address("192.0.2.11"), ip_address("192.0.2.12")]
SERVERS6 = [ip_address("2001:db8:2::11"), ip_address("2001:db8:2::12")]


def test_haproxy_serves_each_port_by_its_servers() -> None:
    lines = haproxy.config_text({80: SERVERS4, 5201: SERVERS4[:1]}, 4, 1).splitlines()
    assert "  nbthread 1" in lines and "  mode tcp" in lines
    assert [line for line in lines if line.startswith("  server")] == [
        "  server s1 192.0.2.11:80",
        "  server s2 192.0.2.12:80",
        "  server s1 192.0.2.11:5201",
    ]
    assert "  bind 0.0.0.0:80 backlog 4096" in lines
    lines = haproxy.config_text({80: SERVERS6}, 6, 2).splitlines()
    assert "  bind [::]:80 backlog 4096" in lines
    assert "  server s2 [2001:db8:2::12]:80" in lines


def test_keepalived_keeps_its_defaults_unless_it_is_tuned() -> None:
    address = ip_address("192.0.2.100")
    default = Vrrp(address).config_text("lb1", master=True)
    assert "advert_int" not in default
    assert "state MASTER" in default and "priority 254" in default
    tuned = Vrrp(address, 0.1).config_text("lb2", master=False)
    assert "advert_int 0.1" in tuned
    assert "state BACKUP" in tuned and "priority 253" in tuned and "192.0.2.100/32" in tuned
    ip6 = Vrrp(ip_address("2001:db8:2::100")).config_text("lb1", master=True)
    assert ip6.index("fe80::") < ip6.index("2001:db8:2::100/128")


def test_dnat_takes_turns() -> None:
    text = rivals.dnat_text(4, ip_address("192.0.2.1"), SERVERS4)
    assert "dnat to numgen inc mod 2 map { 0 : 192.0.2.11, 1 : 192.0.2.12 }" in text
    assert "tcp dport 5201 dnat to 192.0.2.11\n" in text
    assert "table ip6 bench {" in rivals.dnat_text(6, ip_address("2001:db8::1"), SERVERS6)


@pytest.mark.parametrize("family", [4, 6])
def test_the_profile_has_a_port_for_each_kind_of_decision(family: int) -> None:
    spec = LabSpec(family=family, targets=3)
    parsed = parse_profile(rivals.profile_text(spec), "bench")
    assert parsed.problems == ()
    rows = [
        ([p.first for p in row.ports], row.offload, len(row.targets or ()))
        for row in parsed.profile.distributes
    ]
    assert rows == [([80], False, 3), ([81], True, 3), ([5201], False, 1)]


@pytest.mark.parametrize("family", [4, 6])
def test_choice_compares_methods_on_ports_of_their_own(family: int) -> None:
    parsed = parse_profile(choice.profile_text(LabSpec(family=family)), "profile")
    assert parsed.profile is not None and not parsed.problems
    found = {row.method.value: row.ports[0].first for row in parsed.profile.distributes}
    assert found == {"ROUNDROBIN": 80, "BASEWLM": 81}
    text = haproxy.config_text({80: SERVERS4}, 4, 1, "leastconn")
    assert "  balance leastconn\n" in text and "roundrobin" not in text


def test_choice_tells_ratios_and_shares() -> None:
    samples = [
        {"rival": name, "round": turn, "values": values}
        for turn in (1, 2, 3)
        for name, values in (
            ("roundrobin", {"p50": 5.0, "p99": 100.0, "failed": 1.0, "share": 0.33}),
            ("basewlm", {"p50": 5.0, "p99": 10.0 * turn, "failed": 0.0, "share": 0.2}),
            ("haproxy_leastconn", {"p50": 5.0, "p99": 25.0, "failed": 0.0, "share": 0.0}),
        )
    ]
    lines = [figure.line() for figure in choice.figures(samples, 180.0)]
    assert "choice.p99_basewlm_vs_roundrobin 0.2 ratio" in lines
    assert "choice.p99_basewlm_vs_haproxy_leastconn 0.8 ratio" in lines
    assert "choice.failed_roundrobin 3 requests" in lines
    assert "choice.busy_share_basewlm 0.2 ratio" in lines
    assert not [line for line in lines if "busy_share_haproxy" in line]
