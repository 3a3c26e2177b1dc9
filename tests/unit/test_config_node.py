"""The node file: every value is checked, unknown keys are errors, files are checked together."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from dvipad.config.check import Configuration, load, load_files
from dvipad.config.errors import ConfigError, Problem, Severity
from dvipad.config.health import HealthConfig
from dvipad.config.model import Profile
from dvipad.config.node import MeshConfig, NodeConfig, Peer, TimersConfig, parse_node
from dvipad.config.quality import QualityConfig
from dvipad.config.web import WebConfig
from dvipad.config.words import Direct, Tunnel, Xdp
from dvipad.config.workload import WorkloadConfig
from dvipad.versions import NEWEST

LEAST = "node: t1\nxcf: 192.0.2.11\nuplinks: [eth0]\n"


def problems(text: str) -> tuple[Problem, ...]:
    return parse_node(text, "n.yaml", Path("/etc")).problems


def test_the_least_node_file_has_the_defaults() -> None:
    parsed = parse_node(LEAST, "n.yaml", Path("/etc"))
    assert not parsed.problems
    assert parsed.node == NodeConfig("t1", ip_address("192.0.2.11"), ("eth0",))
    assert parsed.node.timers == TimersConfig(100, 300, 4000, 500, 1000, 3000, 50, 2000, 200)
    assert parsed.node.cluster == "dvipad"
    assert parsed.node.health == HealthConfig(True, True, 1000, 300, 3000)


def test_everything_can_be_said() -> None:
    text = LEAST + (
        "cluster: lab\npeers: [192.0.2.1, '192.0.2.2:99', 2001:db8::3, '[2001:db8::4]:98',"
        " '[2001:db8::5]']\nmesh: {port: 77, newest_version: 1}\ntunnel: gre\nprofile: p/x\n"
        "paths: {run: /run/x, bpffs: /sys/fs/bpf/x}\ntimers: {dead_ms: 900}\n"
        "health: {enabled: True, rejoin: false, clear_ms: 5}\nxdp: Native\ndirect: off\n"
        "web: {port: 80, listen: ['::', 192.0.2.11]}\n"
        "workload: {interval_ms: 1000, cgroup: /a.slice/b, cpu_percent: 40, weight: 0}\n"
        "quality: {interval_ms: 1000, loss_cut_percent: 0, connections: 500}\n"
    )
    parsed = parse_node(text, "n.yaml", Path("/etc"))
    assert not parsed.problems
    node = parsed.node
    assert node is not None
    assert node.peers == (
        Peer(ip_address("192.0.2.1"), 77),
        Peer(ip_address("192.0.2.2"), 99),
        Peer(ip_address("2001:db8::3"), 77),
        Peer(ip_address("2001:db8::4"), 98),
        Peer(ip_address("2001:db8::5"), 77),
    )
    assert node.mesh == MeshConfig(77, 1)
    assert node.health == HealthConfig(rejoin=False, clear_ms=5)
    assert node.web == WebConfig(80, (ip_address("::"), ip_address("192.0.2.11")))
    assert node.workload == WorkloadConfig(1000, "/a.slice/b", 40, 0)
    assert node.quality == QualityConfig(1000, loss_cut_percent=0, connections=500)
    assert (node.xdp, node.direct) == (Xdp.NATIVE, Direct.OFF)
    assert (node.tunnel, node.profile, node.timers.dead_ms) == (Tunnel.GRE, Path("/etc/p/x"), 900)


def test_one_seed_peer_needs_no_list() -> None:
    parsed = parse_node(LEAST + "peers: 192.0.2.1", "n", Path("/"))
    assert parsed.node is not None
    assert parsed.node.peers == (Peer(ip_address("192.0.2.1")),)


@pytest.mark.parametrize(
    ("line", "column", "fragment"),
    [
        ("tunel: gre", 1, "unknown key"),
        ("tunnel: geneve", 9, "tunnel is not valid"),
        ("vxlan: {port: 0}", 15, "port is not such a number"),
        ("vxlan: {id: 7}", 9, "unknown key"),
        ("xdp: yes", 6, "xdp is not valid"),
        ("direct: yes", 9, "direct is not valid"),
        ("node: other", 1, "given before"),
        ("cluster: 'a b'", 10, "cluster is not valid"),
        ("peers: [192.0.2.1, web.example.org]", 20, "peers is not valid"),
        ("peers: [192.0.2.1, 192.0.2.1]", 20, "listed before"),
        ("peers: 192.0.2.11", 8, "itself"),
        ("peers: '2001:db8::1:99999'", 8, "peers is not valid"),
        ("peers: 192.0.2.1:0", 8, "peers is not valid"),
        ("peers:", 7, "peers is not valid"),
        ("profile: ~", 10, "profile is not valid"),
        ("profile: [x]", 10, "not a plain value"),
        ("mesh: {port: 65536}", 14, "port is not such a number"),
        ("mesh: 4780", 7, "not a mapping"),
        ("mesh: {newest_version: 0}", 24, "newest_version is not such a number"),
        (f"mesh: {{newest_version: {NEWEST + 1}}}", 24, "newest_version is not such a number"),
        ("health: {enabled: 1}", 19, "enabled is not"),
        ("health: {persist_ms: -1}", 22, "persist_ms is not"),
        ("health: {rejoins: true}", 10, "unknown key"),
        ("web: {listen: [192.0.2.1, 192.0.2.1]}", 27, "listed before"),
        ("workload: {interval_ms: 999}", 25, "interval_ms is not"),
        ("workload: {cgroup: a}", 20, "cgroup is not valid"),
        ("workload: {cgroup: /a/../b}", 20, "cgroup is not valid"),
        ("workload: {cpu_percent: 0}", 25, "cpu_percent is not"),
        ("workload: {weight: 65}", 20, "weight is not"),
        ("quality: {interval_ms: 999}", 24, "interval_ms is not"),
        ("quality: {loss_per_mille: 0}", 27, "loss_per_mille is not"),
        ("quality: {loss_most_percent: NaN}", 30, "loss_most_percent is not"),
        ("web: {listen: everywhere}", 15, "listen is not valid"),
        ("web: {port: 0}", 13, "port is not such a number"),
        ("timers: {heartbeat: 5}", 10, "unknown key"),
        ("timers: {heartbeat_ms: 1}", 24, "heartbeat_ms is not"),
        ("timers: {heartbeat_ms: 0x64}", 24, "heartbeat_ms is not"),
        ("timers: {heartbeat_ms: 200, dead_ms: 399}", 9, "less than two heartbeats"),
        ("timers: {redial_min_ms: 60, redial_max_ms: 50}", 9, "less than redial_min_ms"),
        ("queue: {stale_ms: 100}", 8, "less than hung_ms"),
        ("queue: {window: 0}", 17, "window is not"),
        ("tables: {established: yes}", 23, "established is not"),
        ("paths: {run: here}", 14, "run is not valid"),
        ("peers: [", 9, "not YAML"),
        ("peers: \x00", 8, "not YAML"),
        ("? [a]\n: b", 3, "unknown key"),
        ("<<: {x: y}", 1, "unknown key"),
    ],
)
def test_one_defect_is_one_error(line: str, column: int, fragment: str) -> None:
    (problem,) = problems(LEAST + line)
    assert (problem.position.file, problem.position.line) == ("n.yaml", 4)
    assert problem.position.column == column
    assert fragment in problem.message
    assert problem.remedy


def test_missing_keys_are_all_named() -> None:
    messages = [problem.message for problem in problems("cluster: x")]
    assert sorted(messages) == ["node is missing", "uplinks is missing", "xcf is missing"]
    assert "Did you mean xcf?" in problems("node: a\nuplinks: a\nxfc: 192.0.2.1")[-1].remedy


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "[" * 5000, "- a", "text", '"\\UFFFFFFFF"', "a: &x [*x]", "x" * 70_000],
)
def test_what_is_no_node_file_at_all(text: str) -> None:
    assert problems(text)


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _pair(folder: Path, statements: str, extra: str = "") -> Path:
    _write(folder, "p", f"VIPADYNAMIC\n{statements}\nENDVIPADYNAMIC\n")
    return _write(folder, "n.yaml", LEAST + "profile: p\n" + extra)


def test_a_node_file_brings_its_profile(tmp_path: Path) -> None:
    path = _pair(tmp_path, "VIPABACKUP 1 192.0.2.10")
    configuration = load(path)
    assert isinstance(configuration, Configuration)
    assert configuration.profile.backups[0].dvipa == ip_address("192.0.2.10")
    assert [warning.severity for warning in configuration.warnings] == [Severity.WARNING]
    target = _write(tmp_path, "t.yaml", LEAST)
    assert load(target).profile == Profile()


@pytest.mark.parametrize(
    ("statements", "extra", "fragment"),
    [
        ("VIPADEF 255.255.255.0 192.0.2.11", "", "own XCF address"),
        ("VIPADEF 255.255.255.0 192.0.2.12", "peers: 192.0.2.12", "listed as a peer"),
        (
            "VIPADEF 255.255.255.0 192.0.2.10 VIPADIST 192.0.2.10 DESTIP 2001:db8::1",
            "",
            "XCF address is IPv4",
        ),
        ("VIPAROUTE 2001:db8::1 2001:db8::2", "", "XCF address is IPv4"),
        ("VIPADEFINE", "", "missing"),
    ],
)
def test_a_profile_has_to_fit_its_node(
    tmp_path: Path, statements: str, extra: str, fragment: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(_pair(tmp_path, statements, extra))
    (problem,) = caught.value.problems
    assert problem.position.file == str(tmp_path / "p")
    assert problem.position.line == 2
    assert fragment in problem.message


def test_a_profile_that_cannot_be_read_is_a_problem_of_the_node_file(tmp_path: Path) -> None:
    path = _write(tmp_path, "n.yaml", LEAST + "profile: nowhere\n")
    (problem,) = load_files([path]).problems
    assert (problem.position.file, problem.position.line) == (str(path), 4)
    assert problem.position.column == 10


def test_nodes_of_one_cluster_are_compared(tmp_path: Path) -> None:
    text = "node: {}\nxcf: {}\nuplinks: eth0\nprofile: {}\ntunnel: {}\n"
    define, backup = (
        _write(tmp_path, name, f"VIPADYNAMIC {statement} 255.255.255.0 192.0.2.9 ENDVIPADYNAMIC")
        for name, statement in (("d", "VIPADEF"), ("b", "VIPABACKUP 7 MOVE IMMED"))
    )
    one = _write(tmp_path, "1.yaml", text.format("a", "192.0.2.1", define, "ipip"))
    two = _write(tmp_path, "2.yaml", text.format("a", "192.0.2.1", backup, "gre"))
    messages = [problem.message for problem in load_files([one, two]).problems]
    assert len(messages) == 3
    two.write_text(text.format("b", "192.0.2.2", define, "ipip"))
    (problem,) = load_files([one, two]).problems
    assert "VIPADEFINE" in problem.message
    one.write_text(text.format("a", "192.0.2.1", backup, "ipip"))
    two.write_text(text.format("b", "192.0.2.2", backup, "ipip"))
    report = load_files([one, two])
    assert [problem.severity for problem in report.problems] == [Severity.WARNING]
    assert report.accepted
    assert load_files([one, one]).accepted
    one.write_text(one.read_text() + "vxlan: {port: 8472}\n")
    error = next(each for each in load_files([one, two]).problems if each.message.startswith("vx"))
    assert (error.message, error.severity) == ("vxlan.port is 8472 on a", Severity.ERROR)
