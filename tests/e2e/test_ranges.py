"""VIPARANGE on a cluster: addresses come where applications bind them, and where commands say."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import lan_address
from dvipad.lab.traffic import EchoServer, LongConnections, NewConnections
from tests.e2e.cluster_tools import WAIT_S
from tests.e2e.conftest import MakeCluster
from tests.e2e.dvs_network import SLOW, eventually, inside

pytestmark = pytest.mark.e2e

NODES = ("lb1", "lb2", "lb3")
PORTS = (80, 7)
CONNECTIONS = 20
GAP_MS = 1000
"""Old connections are relayed all the time, also while their node still gives the address up."""
SEEN_MS = 1000
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def dvipa_of(family: int) -> Address:
    """An address of the range that :func:`ranged` has."""
    return lan_address(225, family)


def ranged(family: int, moveable: str = "NONDISRUPTIVE", more: str = "") -> str:
    """A profile with a VIPARANGE."""
    subnet = "255.255.255.240 192.0.2.224" if family == 4 else "APPS 2001:db8:2::220/124"
    return f"VIPADYNAMIC\n  VIPARANGE DEFINE MOVEABLE {moveable} {subnet}\n{more}ENDVIPADYNAMIC\n"


def make(make_cluster: MakeCluster, family: int = 4, moveable: str = "NONDISRUPTIVE") -> Cluster:
    """Three nodes that have the range, a client."""
    profiles = dict.fromkeys(NODES, ranged(family, moveable))
    return make_cluster(family=family, lbs=3, targets=0, ports=PORTS, profiles=profiles)


def rows(cluster: Cluster, host: str, dvipa: Address) -> list[dict[str, Any]]:
    """What `host` says of the DVIPA: one row, or none."""
    return [row for row in cluster.view(host)["dvipas"] if row["dvipa"] == str(dvipa)]


def status(cluster: Cluster, host: str, dvipa: Address) -> str:
    """Status of the DVIPA on `host`, in the words of NETSTAT VIPADYN."""
    return "".join(row["status"] for row in rows(cluster, host, dvipa))


def origin(cluster: Cluster, host: str, dvipa: Address) -> str:
    """How `host` came to the DVIPA."""
    return "".join(row["origin"] for row in rows(cluster, host, dvipa))


def wait_active(cluster: Cluster, host: str, dvipa: Address) -> None:
    """Wait until `host`, and no other node, has it, and its neighbours know."""

    def there() -> bool:
        active = [each for each in NODES if _whole(cluster, each, dvipa)]
        return active == [host] and cluster.holder(dvipa) in (host, None)

    cluster.wait_until(there, WAIT_S, f"{dvipa} is ACTIVE on {host} alone")


def _whole(cluster: Cluster, host: str, dvipa: Address) -> bool:
    return any(row["state"] == "ACTIVE" for row in rows(cluster, host, dvipa))


def wait_gone(cluster: Cluster, dvipa: Address) -> None:
    """Wait until no node has it."""
    cluster.wait_until(
        lambda: not any(status(cluster, host, dvipa) == "ACTIVE" for host in NODES),
        WAIT_S,
        f"{dvipa} is nowhere",
    )


def serve(cluster: Cluster, host: str, dvipa: Address) -> EchoServer:
    """An application on `host` that binds the DVIPA; it is ACTIVE there when this returns."""
    server = EchoServer(cluster, host, PORTS, [dvipa])
    wait_active(cluster, host, dvipa)
    return server


def answering(cluster: Cluster, dvipa: Address) -> list[str]:
    """Who answers new connections; none fails."""
    report = NewConnections(cluster, "client", dvipa, 80, rate=100, count=20).finish()
    assert report.failed == {}
    return list(report.servers)


def vipa(cluster: Cluster, host: str, verb: str, address: object) -> tuple[int, str]:
    """Exit status of `dvipactl vipa` on `host`, and its reason."""
    path = str(cluster.paths.control(host))
    command = [sys.executable, "-m", "dvipad.cli.dvipactl", "--socket", path]
    command += ["vipa", verb, str(address)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def restart(cluster: Cluster, host: str) -> None:
    """Kill the daemon of `host`, and start it again."""
    cluster.signal_daemon(host, signal.SIGKILL, workers=True)
    cluster.wait_until(lambda: not cluster.daemon_alive(host), 5.0, "the daemon is dead")
    cluster.start_daemon(host)
    cluster.wait_ready([host])


def log_of(cluster: Cluster, host: str) -> str:
    """What the daemon of `host` said."""
    return cluster.paths.log(host).read_text()


def setting(cluster: Cluster, host: str, version: int) -> str:
    """ip_nonlocal_bind in the namespace of `host`."""
    path = f"/proc/sys/net/ipv{version}/ip_nonlocal_bind"
    return cluster.run(host, ["cat", path]).stdout.strip()


@FAMILIES
def test_a_bind_activates_and_moves_over_three_nodes(
    make_cluster: MakeCluster, family: int
) -> None:
    """Old connections live on where they are, relayed by whoever has the address; new ones are
    the new owner's."""
    cluster = make(make_cluster, family)
    dvipa = dvipa_of(family)
    servers, longs = [], []
    for host in NODES:
        servers.append(serve(cluster, host, dvipa))
        assert origin(cluster, host, dvipa) == "VIPARANGE BIND"
        assert answering(cluster, dvipa) == [host]
        longs.append(LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS))
        assert list(longs[-1].opened.servers) == [host]
    assert status(cluster, "lb1", dvipa) in ("MOVING", "BACKUP", "QUIESCING")
    results = [long.stop() for long in longs]
    assert [result.lost() for result in results] == [0, 0, 0]
    gaps_ms = [result.max_gap_ms() for result in results]
    print(f"longest gaps of old connections: {gaps_ms} ms")
    assert max(gaps_ms) < GAP_MS * SLOW
    assert [list(result.servers) for result in results] == [[host] for host in NODES]
    for server in servers:
        server.stop()
    wait_gone(cluster, dvipa)


def test_traffic_flows_while_it_moves(make_cluster: MakeCluster) -> None:
    """No connection fails while the address goes to and fro between two applications."""
    cluster = make(make_cluster)
    dvipa = dvipa_of(4)
    servers = [serve(cluster, "lb1", dvipa)]
    long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
    new = NewConnections(cluster, "client", dvipa, 80, rate=100)
    servers.append(serve(cluster, "lb2", dvipa))
    servers.append(serve(cluster, "lb3", dvipa))
    report = new.stop()
    result = long.stop()
    print(f"longest gap of old connections: {result.max_gap_ms()} ms")
    assert result.max_gap_ms() < GAP_MS * SLOW
    assert result.lost() == 0
    assert not report.failed
    assert {"lb1", "lb3"} <= set(report.servers)
    for server in servers:
        server.stop()


def test_it_goes_with_its_application(make_cluster: MakeCluster) -> None:
    cluster = make(make_cluster)
    dvipa = dvipa_of(4)
    server = serve(cluster, "lb1", dvipa)
    assert answering(cluster, dvipa) == ["lb1"]
    server.kill()
    wait_gone(cluster, dvipa)
    serve(cluster, "lb2", dvipa).stop()


def test_a_disruptive_range_refuses_a_second_bind(make_cluster: MakeCluster) -> None:
    """The second application binds, but the address stays where it is; a command moves it."""
    cluster = make(make_cluster, moveable="DISRUPTIVE")
    dvipa = dvipa_of(4)
    with serve(cluster, "lb1", dvipa), EchoServer(cluster, "lb2", PORTS, [dvipa]):
        cluster.wait_until(lambda: "refused=" in log_of(cluster, "lb2"), WAIT_S, "the refusal")
        assert answering(cluster, dvipa) == ["lb1"]
        assert vipa(cluster, "lb2", "activate", dvipa)[0] == 0
        wait_active(cluster, "lb2", dvipa)
        assert answering(cluster, dvipa) == ["lb2"]


def test_a_move_of_a_disruptive_range_breaks_connections(make_cluster: MakeCluster) -> None:
    cluster = make(make_cluster, moveable="DISRUPTIVE")
    dvipa = dvipa_of(4)
    with serve(cluster, "lb1", dvipa):
        long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
        assert vipa(cluster, "lb2", "activate", dvipa)[0] == 0
        cluster.wait_until(
            lambda: long.report().lost() == CONNECTIONS, WAIT_S, "the old connections break"
        )
        long.kill()


@FAMILIES
def test_commands_and_their_exit_codes(make_cluster: MakeCluster, family: int) -> None:
    """Those of MODDVIPA."""
    cluster = make(make_cluster, family)
    dvipa, other = dvipa_of(family), lan_address(226, family)
    outside = lan_address(99, family)
    code, said = vipa(cluster, "lb1", "activate", outside)
    assert (code, "VIPARANGE" in said) == (8, True)
    assert vipa(cluster, "lb1", "activate", "nowhere")[0] == 12
    assert vipa(cluster, "lb1", "delete", dvipa)[0] == 8
    assert vipa(cluster, "lb1", "activate", dvipa) == (0, "")
    assert origin(cluster, "lb1", dvipa) == "VIPARANGE IOCTL"
    assert vipa(cluster, "lb1", "activate", dvipa)[0] == 4
    assert vipa(cluster, "lb2", "delete", dvipa)[0] == 8
    with EchoServer(cluster, "lb1", PORTS, [dvipa]):
        wait_active(cluster, "lb1", dvipa)
        assert answering(cluster, dvipa) == ["lb1"]
        with EchoServer(cluster, "lb2", PORTS, [dvipa]):
            cluster.wait_until(lambda: "refused=" in log_of(cluster, "lb2"), WAIT_S, "refusal")
            assert answering(cluster, dvipa) == ["lb1"]
            assert vipa(cluster, "lb2", "activate", dvipa) == (0, "")
            wait_active(cluster, "lb2", dvipa)
            assert answering(cluster, dvipa) == ["lb2"]
            assert vipa(cluster, "lb2", "delete", dvipa) == (0, "")
            wait_active(cluster, "lb1", dvipa)  # where it is still wanted
            assert answering(cluster, dvipa) == ["lb1"]
            assert vipa(cluster, "lb1", "delete", dvipa) == (0, "")
    wait_gone(cluster, dvipa)
    server = serve(cluster, "lb3", other)
    assert vipa(cluster, "lb3", "activate", other)[0] == 4
    assert vipa(cluster, "lb3", "delete", other) == (0, "")
    wait_gone(cluster, other)
    server.stop()


def test_an_address_that_a_stranger_has_is_not_activated(make_cluster: MakeCluster) -> None:
    """The command says so soon, and nothing is tried again behind its back."""
    cluster = make(make_cluster)
    dvipa = dvipa_of(4)
    cluster.run("client", ["ip", "addr", "add", f"{dvipa}/32", "dev", "eth0"])
    began_s = time.monotonic()
    code, said = vipa(cluster, "lb1", "activate", dvipa)
    assert code == 8
    assert str(dvipa) in said
    assert time.monotonic() - began_s < WAIT_S / 3 * SLOW
    cluster.wait_until(lambda: not rows(cluster, "lb1", dvipa), WAIT_S, "it is forgotten")
    cluster.run("client", ["ip", "addr", "del", f"{dvipa}/32", "dev", "eth0"])
    assert vipa(cluster, "lb1", "activate", dvipa) == (0, "")
    assert vipa(cluster, "lb1", "delete", dvipa) == (0, "")


def test_what_a_profile_names_is_no_ones_to_command(make_cluster: MakeCluster) -> None:
    """VIPADEFINE and VIPABACKUP win over a range that has their address."""
    define = "  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.225\n"
    backup = "  VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.225\n"
    profiles = {"lb1": ranged(4, more=define), "lb2": ranged(4, more=backup), "lb3": ranged(4)}
    cluster = make_cluster(lbs=3, targets=0, ports=PORTS, profiles=profiles)
    dvipa = dvipa_of(4)
    wait_active(cluster, "lb1", dvipa)
    for host in NODES:
        assert vipa(cluster, host, "activate", dvipa)[0] == 8, host
        assert vipa(cluster, host, "delete", dvipa)[0] == 8, host
    with EchoServer(cluster, "lb3", PORTS, [dvipa]):
        cluster.wait_until(lambda: "refused=" in log_of(cluster, "lb3"), WAIT_S, "the refusal")
        assert status(cluster, "lb1", dvipa) == "ACTIVE"


def test_a_daemon_that_is_killed_keeps_them(make_cluster: MakeCluster) -> None:
    """Bound and commanded ones; what was bound meanwhile is seen; what moved away stays away."""
    cluster = make(make_cluster)
    bound, commanded, new, moved = (lan_address(n, 4) for n in (225, 226, 227, 228))
    server, stays = serve(cluster, "lb1", bound), EchoServer(cluster, "lb1", PORTS, [moved])
    wait_active(cluster, "lb1", moved)
    assert vipa(cluster, "lb1", "activate", commanded)[0] == 0
    with stays, serve(cluster, "lb2", moved):
        long = LongConnections(cluster, "client", bound, 7, connections=CONNECTIONS)
        cluster.signal_daemon("lb1", signal.SIGKILL, workers=True)
        cluster.wait_until(lambda: not cluster.daemon_alive("lb1"), 5.0, "the daemon is dead")
        late = EchoServer(cluster, "lb1", PORTS, [new])
        cluster.start_daemon("lb1")
        cluster.wait_ready(["lb1"])
        for dvipa in (bound, commanded, new):
            wait_active(cluster, "lb1", dvipa)
        assert origin(cluster, "lb1", bound) == "VIPARANGE BIND"
        assert origin(cluster, "lb1", commanded) == "VIPARANGE IOCTL"
        wait_active(cluster, "lb2", moved)
        assert answering(cluster, moved) == ["lb2"]
        assert long.stop().lost() == 0
        late.stop()
        server.stop()
    for dvipa in (bound, new, moved):
        wait_gone(cluster, dvipa)
    assert status(cluster, "lb1", commanded) == "ACTIVE"
    assert vipa(cluster, "lb1", "delete", commanded)[0] == 0


def test_nothing_is_left_behind(make_cluster: MakeCluster) -> None:
    """The setting is there while there are ranges, also over a SIGKILL; cleanup takes all."""
    cluster = make(make_cluster)
    assert (setting(cluster, "lb1", 4), setting(cluster, "lb1", 6)) == ("1", "0")
    pins = Path(cluster.paths.pins("lb1")) / "binds"
    assert sorted(each.name for each in pins.iterdir())
    restart(cluster, "lb1")
    profile = cluster.paths.profile("lb1")
    profile.write_text("VIPADYNAMIC\nENDVIPADYNAMIC\n")
    cluster.signal_daemon("lb1", signal.SIGHUP)
    cluster.wait_until(lambda: setting(cluster, "lb1", 4) == "0", WAIT_S, "the setting is back")
    cluster.wait_until(lambda: not pins.exists(), WAIT_S, "the programs are gone")
    profile.write_text(ranged(4))
    cluster.signal_daemon("lb1", signal.SIGHUP)
    cluster.wait_until(lambda: setting(cluster, "lb1", 4) == "1", WAIT_S, "the setting is made")
    cluster.signal_daemon("lb1", signal.SIGKILL, workers=True)
    cluster.wait_until(lambda: not cluster.daemon_alive("lb1"), 5.0, "the daemon is dead")
    assert setting(cluster, "lb1", 4) == "1"
    file = str(cluster.paths.node_file("lb1"))
    cluster.run("lb1", [sys.executable, "-m", "dvipad.cli.dvipad", "cleanup", file])
    assert setting(cluster, "lb1", 4) == "0"
    assert not pins.exists()


def test_a_daemon_sees_a_bind_at_once(make_cluster: MakeCluster) -> None:
    """Measured from the return of bind() to the view of the node; and the counters count."""
    cluster = make(make_cluster)
    found_ms = []
    with ExitStack() as sockets:
        for number in range(225, 235):
            dvipa = lan_address(number, 4)
            with inside(cluster.namespace("lb1")):
                made = sockets.enter_context(socket.socket())
                made.bind((str(dvipa), 0))
            bound_s = time.monotonic()
            eventually(partial(rows, cluster, "lb1", dvipa))
            found_ms.append((time.monotonic() - bound_s) * 1000)
        counters = cluster.ask("lb1", "counters")["ranges"]
        assert counters == {"binds": 10, "releases": 0, "lost_binds": 0}
        print(f"bind to view: {min(found_ms):.1f} to {max(found_ms):.1f} ms")
        assert max(found_ms) < SEEN_MS * SLOW
    for number in range(225, 235):
        wait_gone(cluster, lan_address(number, 4))
