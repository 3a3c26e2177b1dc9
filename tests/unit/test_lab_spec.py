"""The lab's specification: addresses, node files, profiles, limits, names."""

from __future__ import annotations

import json

import pytest
import yaml

from dvipad.lab.cli import parser_of, spec_of
from dvipad.lab.network import rules_text
from dvipad.lab.spec import (
    SLOW_VARIABLE,
    LabError,
    LabSpec,
    merge,
    namespace_pattern,
    node_settings,
    profile_text,
    yaml_text,
)


def spec_for(*words: str) -> LabSpec:
    return spec_of(parser_of().parse_args(["--prefix", "x", "up", *words]))


def test_default_hosts_and_addresses() -> None:
    spec = LabSpec()
    assert [host.name for host in spec.hosts()] == ["client", "lb1", "lb2", "t1", "t2", "t3"]
    assert [str(spec.host(name).address(4)) for name in ("client", "lb1", "t1")] == [
        "192.0.2.201",
        "192.0.2.1",
        "192.0.2.11",
    ]
    assert str(spec.host("t3").address(6)) == "2001:db8:2::13"
    assert str(spec.dvipa()) == "192.0.2.100"
    assert [host.name for host in spec.nodes()] == ["lb1", "lb2", "t1", "t2", "t3"]


def test_no_two_hosts_of_the_largest_lab_share_an_address() -> None:
    spec = LabSpec(lbs=9, targets=80, clients=20)
    numbers = [host.number for host in spec.hosts()] + [
        int(str(LabSpec().dvipa(index)).rpartition(".")[2]) for index in range(100)
    ]
    assert len(set(numbers)) == len(numbers)
    assert len({host.mac for host in spec.hosts()}) == len(spec.hosts())
    assert max(numbers) < 255


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prefix": "A/b"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"lbs": 0}, "distributors"),
        ({"targets": 81}, "targets"),
        ({"clients": 0}, "clients"),
        ({"tunnel": "geneve"}, "tunnel"),
        ({"family": 5}, "family"),
        ({"xcf_family": 5}, "XCF"),
        ({"weights": (1, 2)}, "weights"),
        ({"profiles": {"lb9": ""}}, "lb9"),
        ({"host_settings": {"t9": {}}}, "t9"),
        ({"slow": 0.5}, "slowness"),
        ({"slow": float("nan")}, "slowness"),
    ],
)
def test_limits(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        LabSpec(**options)  # type: ignore[arg-type]


def test_the_first_distributor_defines_and_the_others_back_up() -> None:
    spec = LabSpec(lbs=3)
    texts = {host.name: profile_text(spec, host) for host in spec.hosts()}
    assert texts["lb1"] == (
        "VIPADYNAMIC\n"
        "  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100\n"
        "  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.100 PORT 80 7\n"
        "    DESTIP\n"
        "      192.0.2.11\n"
        "      192.0.2.12\n"
        "      192.0.2.13\n"
        "ENDVIPADYNAMIC\n"
    )
    assert "VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100" in str(texts["lb2"])
    assert "VIPABACKUP 90 " in str(texts["lb3"])
    assert texts["t1"] is texts["client"] is None


def test_ipv6_over_ipv4_with_weights() -> None:
    spec = LabSpec(family=6, xcf_family=4, targets=2, method="WEIGHTEDACTIVE", weights=(1, 3))
    text = str(profile_text(spec, spec.host("lb1")))
    assert "VIPADEFINE MOVEABLE IMMEDIATE DVIPA1 2001:db8:2::100/64" in text
    assert "VIPADISTRIBUTE DISTMETHOD WEIGHTEDACTIVE DVIPA1 PORT 80 7" in text
    assert "192.0.2.12 WEIGHT 3" in text


def test_node_files() -> None:
    spec = LabSpec(
        lbs=2,
        targets=1,
        family=6,
        settings={"timers": {"heartbeat_ms": 50}},
        host_settings={"lb1": {"timers": {"dead_ms": 90}}},
    )
    lb1 = yaml.safe_load(
        yaml_text(node_settings(spec, spec.host("lb1"), "/run/a", "/run/b", "profile"))
    )
    assert lb1 == {
        "node": "lb1",
        "cluster": "dvipa",
        "xcf": "2001:db8:2::1",
        "uplinks": ["eth0"],
        "peers": ["2001:db8:2::2", "2001:db8:2::11"],
        "tunnel": "ipip",
        "paths": {"run": "/run/a", "bpffs": "/run/b", "state": "/run/a.state"},
        "profile": "profile",
        "timers": {"heartbeat_ms": 50, "dead_ms": 90},
    }
    assert "profile" not in node_settings(spec, spec.host("t1"), "/run/a", "/run/b", None)


def test_a_slow_lab_has_longer_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLOW_VARIABLE, "5")
    spec = LabSpec(settings={"timers": {"join_ms": 10}})
    assert spec.slow == 5
    assert LabSpec.from_json(spec.to_json()) == spec
    lb1 = node_settings(spec, spec.host("lb1"), "", "", None)
    assert lb1["timers"] == {
        "heartbeat_ms": 500,
        "dead_ms": 1500,
        "restart_grace_ms": 20_000,
        "join_ms": 10,
        "collect_ms": 5000,
        "probe_ms": 1000,
    }
    assert lb1["health"] == {"persist_ms": 5000, "uplink_ms": 1500, "clear_ms": 15_000}
    assert lb1["queue"] == {"stale_ms": 1500, "hung_ms": 750}
    monkeypatch.setenv(SLOW_VARIABLE, "very")
    with pytest.raises(LabError, match="very"):
        LabSpec()


def test_a_seed_is_the_only_peer() -> None:
    spec = LabSpec(seed=True)
    peers = {h.name: node_settings(spec, h, "", "", None)["peers"] for h in spec.nodes()}
    assert peers["t3"] == peers["lb2"] == ["192.0.2.1"]
    assert peers["lb1"] == ["192.0.2.2"]


def test_merge_replaces_what_is_no_mapping() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {
        "a": {"b": 3, "c": 2},
        "d": [2],
    }


def test_json_and_back() -> None:
    spec = LabSpec(targets=2, weights=(1, 2), profiles={"lb1": "x"}, settings={"a": {"b": 1}})
    assert LabSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_only_the_labs_own_namespaces_match() -> None:
    pattern = namespace_pattern("dvipa")
    for name in ("dvipa-lan", "dvipa-client", "dvipa-client2", "dvipa-lb1", "dvipa-t12"):
        assert pattern.fullmatch(name)
    for name in ("dvipa-x-lb1", "dvipa", "dvipa-", "dvipa-lanes", "xdvipa-lb1", "dvipa-t1x"):
        assert not pattern.fullmatch(name)


def test_rules_name_cuts_and_losses() -> None:
    text = rules_text({("t1", "lb1")}, {"lb2": 2.5, "t3": 100.0, "t2": 0.0})
    assert '"t1" . "lb1"' in text
    assert 'iifname "lb2" numgen random mod 10000 < 250 drop' in text
    assert 'oifname "t3" drop' in text
    assert '"t2"' not in text
    assert "elements" not in rules_text((), {})


def test_options_of_up() -> None:
    spec = spec_for(
        "--lbs=3",
        "--targets=2",
        "--tunnel=gre",
        "--family=6",
        "--xcf-family=4",
        "--weights=1,2",
        "--ports=80",
        "--set=timers.dead_ms=200",
        "--set=lb1:queue.window=16",
    )
    assert (spec.prefix, spec.lbs, spec.tunnel, spec.xcf_family) == ("x", 3, "gre", 4)
    assert (spec.weights, spec.ports) == ((1, 2), (80,))
    assert spec.settings == {"timers": {"dead_ms": 200}}
    assert spec.host_settings == {"lb1": {"queue": {"window": 16}}}


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("--set=timers", "--set"),
        ("--set=timers.=1", "--set"),
        ("--set=a.b=[", "--set"),
        ("--weights=a", "--weights"),
        ("--profile=/nonexistent", "nonexistent"),
    ],
)
def test_bad_options_are_refused(word: str, complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        spec_for(word)


def test_a_setting_cannot_be_a_value_and_a_mapping() -> None:
    with pytest.raises(LabError, match="has a value"):
        spec_for("--set=a=1", "--set=a.b=2")
