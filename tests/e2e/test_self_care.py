"""A node in trouble gives up what it owns, and nobody takes a stranger's address."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvipad.adapters.announce import Announcer
from dvipad.lab import faults
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LAN
from dvipad.lab.traffic import LongConnections, NewConnections
from tests.e2e.cluster_tools import (
    counters,
    echo_servers,
    state,
    wait_for_holder,
    wait_for_state,
    wait_for_targets,
)
from tests.e2e.conftest import MakeCluster
from tests.e2e.dvs_network import inside, run
from tests.e2e.test_health import fill, small_disk
from tests.e2e.test_takeover import wait_until_data_flows

pytestmark = pytest.mark.e2e

WAIT_S = 20.0
CONNECTIONS = 100
OTHER = "198.51.100"
"""A second network of the nodes; on lb1 it has a cable of its own."""

PROFILE = (
    "VIPADYNAMIC\n {} 192.0.2.100\n"
    " VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.100 PORT 80 7 DESTIP ALL\nENDVIPADYNAMIC\n"
)


def troubles(cluster: Cluster, name: str) -> list[str]:
    return list(cluster.view(name)["troubles"])


def test_a_full_disk_moves_the_address_and_loses_nothing(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "state") as disk:
        cluster = make_cluster(host_settings={"lb1": {"paths": {"state": str(disk)}}})
        with echo_servers(cluster):
            dvipa = cluster.spec.dvipa()
            wait_for_state(cluster, "lb1", "ACTIVE")
            long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
            new = NewConnections(cluster, "client", dvipa, 80, rate=50)
            fill(disk)
            wait_for_state(cluster, "lb2", "ACTIVE")
            assert troubles(cluster, "lb1") == ["storage full"]
            wait_until_data_flows(cluster, long)
            wait_for_holder(cluster, dvipa, "lb2")
            (disk / "big").unlink()
            wait_for_state(cluster, "lb1", "ACTIVE")
            wait_for_state(cluster, "lb2", "BACKUP")
            assert troubles(cluster, "lb1") == []
            wait_until_data_flows(cluster, long)
            result, report = long.stop(), new.stop()
        assert counters(cluster, "lb1")["care"]["trouble_storage"] == 1
        log = cluster.paths.log("lb1").read_text()
        assert log.count('trouble="storage full"') == log.count('trouble over="storage full"') == 1
    assert result.lost() == 0
    assert report.failed == {}


def test_a_node_that_is_alone_keeps_its_addresses(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "state") as disk:
        fill(disk)
        cluster = make_cluster(
            lbs=1, targets=1, host_settings={"lb1": {"paths": {"state": str(disk)}}}
        )
        with echo_servers(cluster):
            wait_for_state(cluster, "lb1", "ACTIVE")
            assert troubles(cluster, "lb1") == ["storage full"]


def test_a_firewall_around_the_mesh_is_told_and_moves_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(lbs=1, targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    faults.lose_mesh(cluster, 100.0)
    cluster.wait_until(lambda: troubles(cluster, "lb1") == ["mesh broken"], WAIT_S, "it is told")
    assert state(cluster, "lb1") == "ACTIVE"
    faults.mend(cluster)
    cluster.wait_until(lambda: troubles(cluster, "lb1") == [], WAIT_S, "the mesh is back")
    log = cluster.paths.log("lb1").read_text()
    assert f'detail="{cluster.spec.xcf(cluster.spec.host("t1"))} there' in log


@pytest.mark.parametrize("family", [4, 6])
def test_an_owner_that_the_mesh_does_not_reach_yields_to_whom_it_sees(
    make_cluster: MakeCluster, family: int
) -> None:
    """And it is there again when nobody else is."""
    cluster = make_cluster(family=family, targets=2)
    with echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        port = cluster.spec.ports[0]
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), port, connections=20)
        faults.lose_mesh(cluster, 100.0, hosts=("lb1",))
        wait_for_state(cluster, "lb2", "ACTIVE")
        wait_for_state(cluster, "lb1", "BACKUP")
        assert counters(cluster, "lb1")["care"]["seen_elsewhere"] == 1
        cluster.fail("lb2")
        wait_for_state(cluster, "lb1", "ACTIVE")
        cluster.heal("lb2")
        wait_for_state(cluster, "lb2", "BACKUP")
        faults.mend(cluster)
        wait_for_targets(cluster, "lb1", 2 * len(cluster.spec.ports))
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_for_state(cluster, "lb2", "BACKUP")
        wait_until_data_flows(cluster, long)  # clients wait longer from one try to the next
        result = long.stop()
    log = cluster.paths.log("lb1").read_text()
    assert f"lb2 has {cluster.spec.dvipa()}, and the mesh does not reach it" in log
    assert result.lost() == 0


def with_two_cables(make_cluster: MakeCluster) -> Cluster:
    """Mesh and tunnels use the other network, so that lb1's uplink to clients can fail alone."""
    names = ("lb1", "lb2", "t1", "t2")
    numbers = dict(zip(names, (1, 2, 11, 12), strict=True))
    cluster = make_cluster(
        daemons=False,
        targets=2,
        profiles={
            "lb1": PROFILE.format("VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0"),
            "lb2": PROFILE.format("VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0"),
        },
        host_settings={
            name: {
                "xcf": f"{OTHER}.{number}",
                "peers": [f"{OTHER}.{other}" for other in numbers.values() if other != number],
            }
            for name, number in numbers.items()
        },
    )
    lb1, lan = cluster.namespace("lb1"), cluster.namespace("lb1").removesuffix("lb1") + LAN
    run(*f"ip -n {lan} link add second type veth peer name eth1 netns {lb1}".split())
    run(*f"ip -n {lan} link set second master br0 up".split())
    # Whoever is asked for on a cable answers for that cable only.
    for interface in ("eth0", "eth1"):
        setting = f"net.ipv4.conf.{interface}.arp_ignore=1"
        run("ip", "netns", "exec", lb1, "sysctl", "-qw", setting)
    for name, number in numbers.items():
        cable = "eth1" if name == "lb1" else "eth0"
        place = cluster.namespace(name)
        run(*f"ip -n {place} address add {OTHER}.{number}/24 dev {cable}".split())
        run(*f"ip -n {place} link set {cable} up".split())
    for name in names:
        cluster.start_daemon(name)
    cluster.wait_ready()
    return cluster


def test_an_owner_whose_uplink_fails_hands_over_by_the_mesh(make_cluster: MakeCluster) -> None:
    cluster = with_two_cables(make_cluster)
    uplink = cluster.spec.host("lb1").name
    lan = cluster.namespace("lb1").removesuffix("lb1") + LAN
    with echo_servers(cluster):
        dvipa = cluster.spec.dvipa()
        wait_for_state(cluster, "lb1", "ACTIVE")
        long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
        run("ip", "-n", lan, "link", "set", uplink, "down")
        wait_for_state(cluster, "lb2", "ACTIVE")
        assert troubles(cluster, "lb1") == ["no uplink"]
        wait_until_data_flows(cluster, long)
        run("ip", "-n", lan, "link", "set", uplink, "up")
        wait_for_state(cluster, "lb1", "ACTIVE")
        wait_until_data_flows(cluster, long)
        result = long.stop()
    assert result.lost() == 0


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_that_a_stranger_has_is_left_alone(
    make_cluster: MakeCluster, family: int
) -> None:
    cluster = make_cluster(daemons=False, targets=1, family=family)
    dvipa, stranger = cluster.spec.dvipa(), cluster.namespace("client")
    own = f"{dvipa}/{dvipa.max_prefixlen} dev eth0"
    flags = ("nodad",) if family == 6 else ()
    run(*f"ip -n {stranger} address add {own}".split(), *flags)
    for host in cluster.spec.nodes():
        cluster.start_daemon(host.name)

    def refused(name: str) -> bool:
        return f"{dvipa} is in use by {mac} on eth0" in cluster.paths.log(name).read_text()

    mac = cluster.spec.host("client").mac
    cluster.wait_until(lambda: refused("lb1"), WAIT_S, "lb1 says who has the address")
    assert state(cluster, "lb1") == "BACKUP"
    assert counters(cluster, "lb1")["care"]["in_use"] >= 1
    run(*f"ip -n {stranger} address delete {own}".split())
    wait_for_state(cluster, "lb1", "ACTIVE")


def test_a_stranger_that_claims_an_owned_address_is_told(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    wait_for_state(cluster, "lb1", "ACTIVE")
    dvipa, stranger = cluster.spec.dvipa(), cluster.namespace("client")
    run(*f"ip -n {stranger} address add {dvipa}/32 dev eth0".split())
    mac = cluster.spec.host("client").mac

    def told() -> bool:
        with inside(stranger):
            announcer = Announcer(["eth0"])
        announcer.announce([dvipa])
        announcer.close()
        log = cluster.paths.log("lb1").read_text()
        return f"{dvipa} is ours, but {mac} on eth0 says it has it" in log

    cluster.wait_until(told, WAIT_S, "lb1 tells who claims the address")
    assert counters(cluster, "lb1")["care"]["claimed_elsewhere"] >= 1
