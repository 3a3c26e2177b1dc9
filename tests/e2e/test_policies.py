"""Policies with real daemons: every kind of match, every subset, every else (P1-P3, P6)."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.frames import MAX_NAME, WHO
from dvipad.lab.spec import LabSpec, profile_text
from dvipad.lab.traffic import LongConnections, NewConnections
from tests.e2e.cluster_tools import (
    counters,
    echo_servers,
    follow_policies,
    wait_for_holder,
    wait_for_state,
    wait_for_targets,
    wait_until_carried_out,
)
from tests.e2e.conftest import MakeCluster
from tests.e2e.dvs_network import inside

pytestmark = pytest.mark.e2e

SAME = 6
"""Connections of a kind: enough for two turns of all targets."""
EACH = 100
"""Connections between two changes, at least."""
HOSTS = {
    "t1": {"labels": {"rack": "a"}, "workload": {"weight": 1}},
    "t2": {"labels": {"rack": "a", "disk": "fast"}, "workload": {"weight": 2}},
    "t3": {"labels": {"rack": "b"}, "workload": {"weight": 3}},
}
WINDOWS = [("MSS", 1460), ("NOP", None), ("WScale", 8), ("NOP", None), ("NOP", None),
           ("SAckOK", b"")]  # fmt: skip
_TOS = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module", params=[4, 6], ids=["v4", "v6"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three targets that announce 1, 2, 3, with servers; two clients; the distributor's worker."""
    spec = LabSpec(
        prefix=f"pol{request.param}-{time.monotonic_ns() % 10**6}",
        family=request.param,
        clients=2,
        method="TARGCONTROLLED",
        ports=(80, 7),
        host_settings=HOSTS,
    )
    with ExitStack() as stack:
        made = stack.enter_context(Cluster(spec))
        stack.enter_context(echo_servers(made))
        made.wait_until(lambda: _announced(made), 15.0, "the targets announce their weights")
        yield made


def _announced(cluster: Cluster) -> bool:
    return all(row["source"] == "announced" for row in cluster.view("lb1")["targets"])


def rules(*policies: dict[str, Any]) -> str:
    """A policies file."""
    named = [{"name": f"p{number}", **each} for number, each in enumerate(policies)]
    return json.dumps({"policies": named})


def follow(cluster: Cluster, *policies: dict[str, Any], host: str = "lb1") -> None:
    follow_policies(cluster, host, rules(*policies))


def who(
    cluster: Cluster, host: str = "client", port: int = 80, dscp: int = 0, count: int = SAME
) -> dict[str, int]:
    """Who serves `count` connections of a client; refused ones are ``refused``."""
    family = cluster.spec.family
    seen: Counter[str] = Counter()
    with inside(cluster.namespace(host)):
        for _ in range(count):
            with socket.socket(_FAMILY[family]) as sock:
                sock.settimeout(10 * cluster.spec.slow)
                sock.setsockopt(*_TOS[family], dscp << 2)
                try:
                    sock.connect((str(cluster.spec.dvipa()), port))
                except ConnectionRefusedError:
                    seen["refused"] += 1
                    continue
                sock.sendall(WHO)
                seen[sock.recv(MAX_NAME).decode().strip()] += 1
    return dict(seen)


def client_address(cluster: Cluster, host: str = "client") -> Address:
    return cluster.spec.host(host).address(cluster.spec.family)


def test_client_subnets(cluster: Cluster) -> None:
    """P1: one client goes to its subset, another, that none is for, to any target (P2)."""
    mine = str(client_address(cluster))
    follow(cluster, {"match": {"clients": [mine]}, "targets": {"nodes": ["t1"]}})
    assert who(cluster) == {"t1": SAME}
    assert who(cluster, "client2") == {"t1": 1, "t2": 2, "t3": 3}
    lan = "192.0.2.0/24" if cluster.spec.family == 4 else "2001:db8:2::/64"
    first = {"match": {"clients": [mine]}, "targets": {"nodes": ["t2"]}}
    second = {"match": {"clients": [lan]}, "targets": {"nodes": ["t3"]}}
    follow(cluster, first, second)
    assert (who(cluster), who(cluster, "client2")) == ({"t2": SAME}, {"t3": SAME})
    follow(cluster, second, first)
    assert who(cluster) == {"t3": SAME}, "the first match wins"


def test_ports_and_dvipas(cluster: Cluster) -> None:
    follow(
        cluster,
        {"match": {"port": "1-10"}, "targets": {"nodes": ["t2"]}},
        {"match": {"dvipa": str(cluster.spec.dvipa(1))}, "targets": {"nodes": ["t1"]}},
        {"match": {"dvipa": str(cluster.spec.dvipa())}, "targets": {"nodes": ["t3"]}},
    )
    assert (who(cluster, port=7), who(cluster, port=80)) == ({"t2": SAME}, {"t3": SAME})


def test_dscp(cluster: Cluster) -> None:
    follow(cluster, {"match": {"dscp": ["ef", 10]}, "targets": {"nodes": ["t1"]}})
    assert (who(cluster, dscp=46), who(cluster, dscp=10)) == ({"t1": SAME}, {"t1": SAME})
    assert who(cluster, dscp=0) == {"t1": 1, "t2": 2, "t3": 3}


def test_interface(cluster: Cluster) -> None:
    uplink = cluster.ask("lb1", "config")["node"]["uplinks"][0]
    follow(
        cluster,
        {"match": {"interface": ["elsewhere0"]}, "targets": {"nodes": ["t1"]}},
        {"match": {"interface": [uplink]}, "targets": {"nodes": ["t2"]}},
    )
    assert who(cluster) == {"t2": SAME}


def test_device(cluster: Cluster) -> None:
    """This host is Linux; a SYN as Windows sends it goes elsewhere."""
    follow(
        cluster,
        {"match": {"device": ["windows", "apple"]}, "targets": {"nodes": ["t1"]}},
        {"match": {"device": "linux"}, "targets": {"nodes": ["t3"]}},
    )
    assert who(cluster) == {"t3": SAME}
    family, dvipa = cluster.spec.family, str(cluster.spec.dvipa())
    segment = TCP(sport=5_000, dport=80, flags="S", window=64240, options=WINDOWS)
    layer = IP(dst=dvipa, ttl=128) if family == 4 else IPv6(dst=dvipa, hlim=128)
    layer.src = str(client_address(cluster))
    with (
        inside(cluster.namespace("client")),
        socket.socket(_FAMILY[family], socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
    ):
        raw.sendto(bytes(layer / segment), (dvipa, 0))
    endpoint = {"client": layer.src, "client_port": 5_000, "dvipa": dvipa, "port": 80}

    def answer() -> dict[str, Any] | None:
        with contextlib.suppress(Exception):
            return cluster.ask("lb1", "why", **endpoint)
        return None

    told = cluster.wait_until(answer, 10, "the SYN was decided")
    assert told is not None
    assert (told["target"], told["by"], told["policy"]) == ("t1", "policy", "p0")


def test_hours_and_days(cluster: Cluster) -> None:
    now = datetime.now()
    span = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}"
    other = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=4):%H:%M}"
    follow(
        cluster,
        {"match": {"hours": other}, "targets": {"nodes": ["t1"]}},
        {"match": {"hours": [other, span]}, "targets": {"nodes": ["t2"]}},
    )
    assert who(cluster) == {"t2": SAME}
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    follow(cluster, {"match": {"days": days}, "targets": {"nodes": ["t3"]}})
    assert who(cluster) == {"t3": SAME}


@pytest.mark.parametrize(
    ("targets", "served"),
    [
        ({"nodes": ["t1", "t3"]}, {"t1", "t3"}),
        ({"labels": {"rack": "a"}}, {"t1", "t2"}),
        ({"labels": {"rack": "a", "disk": "fast"}}, {"t2"}),
        ({"where": ["weight >= 2"]}, {"t2", "t3"}),
        ({"where": ["weight >= 2", "weight < 3"]}, {"t2"}),
        ({"nodes": ["t1", "t2"], "where": ["weight > 1"]}, {"t2"}),
    ],
)
def test_subsets(cluster: Cluster, targets: dict[str, Any], served: set[str]) -> None:
    """P1: by name, by property, by a figure."""
    follow(cluster, {"targets": targets})
    assert who(cluster).keys() == served


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ({"threshold": 1}, {"t1"}),
        ({"threshold": 2}, {"t1", "t2", "t3"}),
        ({"threshold": 2, "else": "any"}, {"t1", "t2", "t3"}),
        ({"threshold": 3, "else": "best-outside"}, {"t3"}),
        ({"threshold": 4, "else": "best-outside"}, {"t1"}),
        ({"threshold": 2, "else": "refuse"}, {"refused"}),
        ({"threshold": 1, "use": "restrict"}, {"t1"}),
        ({"threshold": 2, "use": "restrict"}, {"refused"}),
        ({"threshold": 2, "use": "restrict", "else": "any"}, {"t1", "t2", "t3"}),
    ],
)
def test_threshold_use_and_else(cluster: Cluster, policy: dict[str, Any], served: set[str]) -> None:
    """P2, P3."""
    before = counters(cluster, "lb1")
    follow(cluster, {"targets": {"nodes": ["t1"]}, **policy})
    assert who(cluster).keys() == served
    after = counters(cluster, "lb1")
    refused = sum(
        after[where]["refused"] - before[where]["refused"] for where in ("queue", "plane")
    )
    assert refused == (SAME if served == {"refused"} else 0)


def test_a_subset_nobody_listens_in(cluster: Cluster) -> None:
    follow(cluster, {"name": "nobody", "targets": {"nodes": ["nobody"]}, "use": "restrict"})
    assert who(cluster) == {"refused": SAME}
    (row,) = [row for row in cluster.ask("lb1", "policies")["services"] if row["port"] == 80]
    assert (row["targets"], row["ring"], row["refused"]) == (0, [], SAME)
    follow(cluster)
    assert who(cluster) == {"t1": 1, "t2": 2, "t3": 3}


def test_operator_asks_why(cluster: Cluster) -> None:
    """`dvipactl policy list`, `policy test` and `why`, as text."""
    follow(
        cluster,
        {"match": {"clients": ["203.0.113.0/24", "2001:db8:9::/64"]}, "targets": {"nodes": ["t1"]}},
        {"name": "voice", "match": {"port": 80, "dscp": "ef"}, "targets": {"nodes": ["t2"]},
         "use": "restrict"},
    )  # fmt: skip
    dvipa, mine = str(cluster.spec.dvipa()), str(client_address(cluster))
    command = ["dvipactl", "policy", "test", "--client", mine, "--dvipa", dvipa, "--port", "80"]
    said = cluster.run("lb1", [*command, "--dscp", "ef"]).stdout
    assert "no  clients: " in said
    assert said.splitlines()[-2:] == ["voice: ready targets of its subset", "to: t2"]
    assert "no policy is for it: any target" in cluster.run("lb1", command).stdout
    assert who(cluster, dscp=46, count=2) == {"t2": 2}
    said = cluster.run("lb1", ["dvipactl", "policy", "list"]).stdout
    assert "Policy: voice  Use: restrict  Else: refuse" in said
    assert "TotalConn: t2: 2  Refused: 0" in said
    elsewhere = cluster.run("lb2", command, check=False)
    assert elsewhere.returncode == 1
    assert "its distributor is lb1" in elsewhere.stderr
    with LongConnections(cluster, "client", cluster.spec.dvipa(), 80, connections=1):
        (row,) = [
            row
            for row in cluster.ask("lb1", "crt", client=mine)["rows"]
            if row["established"] and not row["closing"]
        ]
        host = f"[{mine}]" if cluster.spec.family == 6 else mine
        goal = f"[{dvipa}]" if cluster.spec.family == 6 else dvipa
        asked = ["dvipactl", "why", f"{host}:{row['client_port']}", f"{goal}:80"]
        said = cluster.run("lb1", asked).stdout
        assert said.endswith("no policy was for it: the turn of this target came\n")


def test_policies_change_under_load(cluster: Cluster) -> None:
    """Ten times while connections come; none fails."""
    variants = (
        ({"targets": {"nodes": ["t1"]}},),
        ({"match": {"clients": [str(client_address(cluster))]}, "targets": {"nodes": ["t2"]}},),
        ({"match": {"dscp": "ef"}, "targets": {"nodes": ["t1"]}}, {"targets": {"nodes": ["t3"]}}),
        (),
    )
    load = NewConnections(cluster, "client", cluster.spec.dvipa(), 80, rate=300)
    for change in range(10):
        follow(cluster, *variants[change % len(variants)])
        load.phase(f"{change}")
        cluster.wait_until(lambda: load.report().answered >= EACH, 10, "connections came")
        assert load.report().failed == {}
    assert load.stop().failed == {}
    follow(cluster)


def test_the_kernels_own_choice(make_cluster: MakeCluster) -> None:
    """Without the worker: by addresses; what it cannot see is passed over, or waits; a RST."""
    family = 6  # of both: tests/e2e/test_plane_policies.py
    plain = LabSpec(family=family)
    profile = (profile_text(plain, plain.host("lb1")) or "").replace(
        "VIPADISTRIBUTE", "VIPADISTRIBUTE OFFLOAD"
    )
    cluster = make_cluster(family=family, clients=2, profiles={"lb1": profile})
    mine = str(client_address(cluster))
    with echo_servers(cluster):
        follow(
            cluster,
            {"match": {"clients": [mine], "port": 80}, "targets": {"nodes": ["t1"]}},
            {"match": {"port": 7, "clients": [mine]}, "targets": {"nodes": ["nobody"]},
             "use": "restrict"},
            {"match": {"port": 7, "dscp": "ef"}, "targets": {"nodes": ["t2"]}},
        )  # fmt: skip
        assert who(cluster) == {"t1": SAME}
        assert who(cluster, port=7) == {"refused": SAME}
        assert who(cluster, "client2", port=7, dscp=46) == {"t1": 2, "t2": 2, "t3": 2}
        assert counters(cluster, "lb1")["plane"]["refused"] == SAME
        restricted = {"match": {"dscp": "ef"}, "targets": {"nodes": ["t2"]}, "use": "restrict"}
        follow(cluster, restricted)
        with inside(cluster.namespace("client")), socket.socket(_FAMILY[family]) as sock:
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.connect((str(cluster.spec.dvipa()), 80))
        assert counters(cluster, "lb1")["plane"]["policy_unseen"] >= 1
        assert counters(cluster, "lb1")["queue"]["packets"] == 0


@pytest.mark.parametrize("family", [4, 6])
def test_a_backup_goes_on_by_them(make_cluster: MakeCluster, tmp_path: Path, family: int) -> None:
    """P6: after a takeover every row holds, by the policies that came with the VIPA list; back at
    its primary, which reads its file, too. A signal has it read again, a crash changes nothing."""
    file = tmp_path / "policies.yaml"
    file.write_text(rules({"targets": {"nodes": ["t1"]}}))
    settings = {**HOSTS, "lb1": {"policies": str(file)}}
    cluster = make_cluster(family=family, clients=2, host_settings=settings)
    dvipa, mine = cluster.spec.dvipa(), str(client_address(cluster))
    served = {(80, 46): {"t3": SAME}, (7, 0): {"refused": SAME}, (80, 0): {"t1": 3, "t2": 3}}

    def holds() -> None:
        for (port, dscp), names in served.items():
            assert who(cluster, port=port, dscp=dscp) == names
        assert who(cluster, "client2") == {"t1": 2, "t2": 2, "t3": 2}

    with echo_servers(cluster):
        assert who(cluster) == {"t1": SAME}
        file.write_text(
            rules(
                {"match": {"clients": mine, "dscp": "ef"}, "targets": {"labels": {"rack": "b"}}},
                {"match": {"clients": mine, "port": 7}, "targets": {"nodes": "nobody"},
                 "use": "restrict"},
                {"match": {"clients": mine}, "targets": {"nodes": ["t1", "t2"]}},
            )
        )  # fmt: skip
        cluster.signal_daemon("lb1", signal.SIGHUP)
        cluster.wait_until(lambda: len(known(cluster, "lb1")) == 3, 5, "lb1 has read its file")
        wait_until_carried_out(cluster, "lb1")
        holds()
        cluster.signal_daemon("lb1", signal.SIGKILL, workers=True)
        cluster.wait_until(lambda: not cluster.daemon_alive("lb1"), 5, "the daemon is dead")
        assert who(cluster) == {"t1": 3, "t2": 3}, "the kernel goes on by them"
        cluster.start_daemon("lb1")
        cluster.wait_ready(["lb1"])
        wait_for_targets(cluster, "lb1", 6)
        wait_until_carried_out(cluster, "lb1")
        holds()
        cluster.fail("lb1")
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_for_targets(cluster, "lb2", 6)
        wait_for_holder(cluster, dvipa, "lb2")
        wait_until_carried_out(cluster, "lb2")
        holds()
        assert {each["from"] for each in known(cluster, "lb2")} == {str(dvipa)}
        file.write_text(rules({"targets": {"nodes": ["t2"]}}))
        cluster.heal("lb1")
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_holder(cluster, dvipa, "lb1")
        wait_for_targets(cluster, "lb1", 6)
        wait_until_carried_out(cluster, "lb1")
        assert who(cluster) == {"t2": SAME}


def known(cluster: Cluster, host: str) -> list[dict[str, Any]]:
    """The policies that a node knows."""
    return list(cluster.ask(host, "policies")["policies"])
