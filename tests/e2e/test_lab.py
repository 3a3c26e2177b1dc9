"""The lab itself: hosts, faults, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dvipad.lab.cluster import Cluster, destroy
from dvipad.lab.spec import LabError, LabSpec
from dvipad.lab.system import alive, processes

pytestmark = pytest.mark.e2e

MakeCluster = Callable[..., Cluster]


def host_state() -> dict[str, str]:
    """What the lab must leave as it was: the machine's own links, addresses, rules and mounts."""
    commands = {
        "links": ["ip", "-brief", "link"],
        "addresses": ["ip", "-brief", "address"],
        "nftables": ["nft", "list", "ruleset"],
    }
    state = {name: subprocess.check_output(argv, text=True) for name, argv in commands.items()}
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {**state, "bpffs": "\n".join(line for line in mounts if "/dvipad-lab/" in line)}


def reaches(cluster: Cluster, source: str, address: object) -> bool:
    argv = ["ping", "-c", "1", "-W", "1", str(address)]
    return cluster.run(source, argv, check=False).returncode == 0


def reaches_soon(cluster: Cluster, source: str, address: object) -> bool:
    """As `reaches`, with time for a neighbour entry that has failed to be asked for again."""
    return cluster.wait_until(lambda: reaches(cluster, source, address), 10, "a ping")


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dvipad.lab.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_hosts_reach_each_other_and_the_machine_has_no_part_in_it(
    make_cluster: MakeCluster,
) -> None:
    before = host_state()
    cluster = make_cluster(daemons=False)
    during = host_state()
    for name in ("lb1", "t3"):
        host = cluster.spec.host(name)
        assert reaches(cluster, "client", host.address(4))
        assert reaches(cluster, "client", host.address(6))
    assert {**during, "bpffs": before["bpffs"]} == before


def test_a_power_cut_takes_everything_and_healing_brings_the_host_back(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(daemons=False)
    t1 = cluster.spec.host("t1")
    pin = cluster.paths.pins("t1")
    pin.mkdir()
    sleeper = cluster.popen("t1", ["sleep", "1000"])
    cluster.fail("t1")
    assert not alive(sleeper.pid)
    assert not cluster.powered("t1")
    assert not pin.exists()
    assert not reaches(cluster, "client", t1.address(4))
    with pytest.raises(LabError, match="no power"):
        cluster.fail("t1")
    cluster.heal("t1")
    assert reaches_soon(cluster, "client", t1.address(4))
    assert cluster.holder(t1.address(4)) == "t1"
    with pytest.raises(LabError, match="has power"):
        cluster.heal("t1")


def test_cut_and_join_both_ways_and_one_way(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False)
    t1, t2 = (cluster.spec.host(name).address(4) for name in ("t1", "t2"))
    cluster.cut("client", "t1")
    assert not reaches(cluster, "client", t1)
    assert reaches(cluster, "client", t2)
    cluster.join("client", "t1")
    assert reaches_soon(cluster, "client", t1)
    cluster.cut("t1", "client", one_way=True)
    assert cluster.cuts == {("t1", "client")}
    assert not reaches(cluster, "client", t1)
    cluster.join("client", "t1")
    assert reaches_soon(cluster, "client", t1)


def test_loss_is_as_much_as_asked_for(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(daemons=False)
    t1 = cluster.spec.host("t1").address(4)
    assert reaches(cluster, "client", t1)
    cluster.loss("t1", 100)
    assert not reaches(cluster, "client", t1)
    cluster.loss("t1", 0)
    assert reaches(cluster, "client", t1)
    with pytest.raises(LabError, match="percentage"):
        cluster.loss("t1", 101)
    assert cluster.losses == {}


def test_down_after_a_crash_leaves_nothing(make_cluster: MakeCluster) -> None:
    before = host_state()
    prefix = f"crash{os.getpid()}"
    cluster = Cluster(LabSpec(prefix=prefix), daemons=False)
    try:
        cluster.up()
        sleeper = cluster.popen("t2", ["sleep", "1000"])
        cluster.fail("lb2")  # and then whoever made the lab is gone
        namespaces = [cluster.namespace(host.name) for host in cluster.spec.hosts()]
        assert cli("--prefix", prefix, "down").returncode == 0
        assert processes(namespaces) == []
        assert not alive(sleeper.pid)
    finally:
        destroy(prefix)
        destroy(prefix)  # once more: nothing there is fine
    assert host_state() == before
    assert not cluster.paths.top.exists()


def test_down_leaves_other_labs_alone(make_cluster: MakeCluster) -> None:
    prefix = f"e{os.getpid()}-a"
    one = make_cluster(daemons=False, prefix=prefix, targets=1)
    other = make_cluster(daemons=False, prefix=f"{prefix}-t", targets=1)
    one.down()
    assert reaches(other, "client", other.spec.host("t1").address(4))


def test_commands(make_cluster: MakeCluster) -> None:
    prefix = make_cluster(daemons=False).spec.prefix
    assert cli("--prefix", prefix, "exec", "t1", "--", "sh", "-c", "exit 7").returncode == 7
    assert "eth0" in cli("--prefix", prefix, "exec", "t1", "--", "ip", "-br", "link").stdout
    assert cli("--prefix", prefix, "fail", "t3").returncode == 0
    assert cli("--prefix", prefix, "cut", "lb1", "t1").returncode == 0
    assert cli("--prefix", prefix, "loss", "lb2", "2.5").returncode == 0
    shown = json.loads(cli("--prefix", prefix, "status", "--json").stdout)
    rows = {row["host"]: row for row in shown["hosts"]}
    assert shown["cuts"] == [["lb1", "t1"], ["t1", "lb1"]]
    assert (rows["t3"]["power"], rows["t2"]["power"]) == (False, True)
    assert rows["lb2"]["loss_percent"] == 2.5
    for words, complaint in (
        (["up", "--no-daemons"], "exists"),
        (["fail", "t9"], "no host 't9'"),
        (["exec", "t3", "--", "true"], "no power"),
        (["cut", "t1", "t1"], "no path to itself"),
    ):
        done = cli("--prefix", prefix, *words)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
