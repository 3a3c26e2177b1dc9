"""The lab's faults do what they say, and end: on hosts without daemons, seen by ping."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dvipad.lab import faults
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabError, LabSpec

WAIT_S = 5.0


@pytest.fixture(scope="module", params=[4, 6])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Hosts and links, no daemons."""
    spec = LabSpec(prefix=f"cf{os.getpid()}", family=request.param, targets=2)
    with Cluster(spec, daemons=False) as made:
        yield made


def reaches(cluster: Cluster, one: str, other: str) -> bool:
    """Whether a ping from `one` to `other` is answered."""
    address = str(cluster.spec.host(other).address(cluster.spec.family))
    argv = ["ping", "-c", "1", "-W", "1", "-n", address]
    return cluster.run(one, argv, check=False).returncode == 0


def wait_until_reached(cluster: Cluster, one: str, other: str) -> None:
    """Wait for a ping that is answered; the first ones may meet a link that is coming up."""
    cluster.wait_until(lambda: reaches(cluster, one, other), WAIT_S, f"{one} reaches {other}")


def test_the_table_names_what_is_cut_and_lost() -> None:
    text = faults.faults_text({("lb1", "t1")}, 20.0)
    assert 'iifname "lb1" oifname "t1" drop' in text
    assert text.count("numgen random mod 10000 < 2000 drop") == 4
    assert text.count("udp th dport 4780 ") == 1
    assert "drop" not in faults.faults_text((), 0.0)


@pytest.mark.e2e
def test_a_partition_cuts_groups_and_nothing_else(cluster: Cluster) -> None:
    faults.partition(cluster, ["lb1", "t1"], ["lb2", "t2", "client"])
    wait_until_reached(cluster, "lb1", "t1")
    wait_until_reached(cluster, "client", "lb2")
    assert not reaches(cluster, "lb1", "lb2")
    assert not reaches(cluster, "client", "t1")
    faults.mend(cluster)
    wait_until_reached(cluster, "lb1", "lb2")


@pytest.mark.e2e
def test_a_lossy_mesh_leaves_everything_else_alone(cluster: Cluster) -> None:
    faults.lose_mesh(cluster, 100.0)
    target = str(cluster.spec.host("lb2").address(cluster.spec.family))
    script = (
        "import errno, socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)\n"
        "except OSError as error: print(type(error).__name__)\n"
    )

    def outcome(port: int) -> str:
        return cluster.run("lb1", ["python3", "-c", script, target, str(port)]).stdout.strip()

    assert outcome(faults.MESH_PORT) == "TimeoutError"
    assert outcome(80) == "ConnectionRefusedError"
    faults.mend(cluster)
    assert outcome(faults.MESH_PORT) == "ConnectionRefusedError"


@pytest.mark.e2e
def test_a_pulled_cable_takes_the_carrier_away(cluster: Cluster) -> None:
    faults.set_link(cluster, "lb1", up=False)
    assert "NO-CARRIER" in cluster.run("lb1", ["ip", "link", "show", "dev", "eth0"]).stdout
    faults.set_link(cluster, "lb1", up=True)
    wait_until_reached(cluster, "client", "lb1")


@pytest.mark.e2e
def test_an_address_is_deleted_wherever_it_is(cluster: Cluster) -> None:
    dvipa = cluster.spec.dvipa()
    argv = ["ip", "address", "add", f"{dvipa}/{dvipa.max_prefixlen}", "dev", "lo"]
    cluster.run("t1", argv)
    assert faults.devices_of(cluster, "t1", dvipa) == ("lo",)
    faults.remove_address(cluster, "t1", dvipa)
    assert faults.devices_of(cluster, "t1", dvipa) == ()
    with pytest.raises(LabError, match="does not have"):
        faults.remove_address(cluster, "t1", dvipa)


@pytest.mark.e2e
def test_filters_are_deleted(cluster: Cluster) -> None:
    cluster.run("t2", ["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    argv = ["tc", "filter", "add", "dev", "eth0", "ingress", "matchall", "action", "pass"]
    if cluster.run("t2", argv, check=False).returncode:
        pytest.skip("this kernel has no matchall classifier")
    assert faults.filters(cluster, "t2")[0] > 0
    faults.remove_filters(cluster, "t2")
    assert faults.filters(cluster, "t2") == (0, 0)


@pytest.mark.e2e
def test_flushed_rules_are_gone(cluster: Cluster) -> None:
    rule = 'table inet mine { chain c { meta mark 1 drop comment "queue"; }; }'
    cluster.run("lb2", ["nft", rule])
    assert len(faults.queue_rules(cluster, "lb2")) == 1
    faults.flush_rules(cluster, "lb2")
    assert faults.queue_rules(cluster, "lb2") == ()
