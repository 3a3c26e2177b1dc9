"""What the package installs, run as its own user with the capabilities of its unit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dvipad.cli.ask import Refused, ask
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabError, LabSpec
from tests.e2e.test_unit import capabilities
from tests.package.conftest import Root, install

PROFILES = {
    "lb1": "VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 {dvipa}\n"
    "VIPADISTRIBUTE DISTMETHOD ROUNDROBIN {dvipa} PORT 80 DESTIP ALL",
    "lb2": "VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 {dvipa}",
    "t1": "",
}
NODE = """\
node: {name}
xcf: {xcf}
uplinks: [eth0]
peers: [{peers}]
profile: {name}.profile
paths: {{run: /run/{name}, bpffs: /sys/fs/bpf/{name}, state: /var/lib/{name}}}
"""
WAIT_S = 30.0
INTO = """\
mount --rbind "$0" "$0"
cd "$0"
name=$1
shift
mount --bind "sys/fs/bpf/$name" mnt
mount -t tmpfs -o mode=0755 tmpfs sys/fs/bpf
mkdir "sys/fs/bpf/$name"
mount --move mnt "sys/fs/bpf/$name"
pivot_root . .
umount --lazy .
exec "$@"
"""
"""Into a root as a service of systemd: of the BPF file system, its own folder only. A chroot would
forbid user namespaces."""


@contextmanager
def mounted(kind: str, path: Path, options: str = "rw") -> Iterator[None]:
    """A file system for as long as the context lasts."""
    subprocess.run(["mount", "-t", kind, "-o", options, kind, str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def configure(root: Root, cluster: Cluster, name: str) -> None:
    """Node file and profile of a node, and the folders that systemd and the unit make for it."""
    spec = cluster.spec
    hosts = {host.name: host.address(4) for host in spec.nodes()}
    peers = ", ".join(str(xcf) for peer, xcf in hosts.items() if peer != name)
    statements = PROFILES[name].format(dvipa=spec.dvipa())
    folder = root.path / "etc/dvipad"
    (folder / f"{name}.profile").write_text(f"VIPADYNAMIC\n{statements}\nENDVIPADYNAMIC\n")
    text = NODE.format(name=name, xcf=hosts[name], peers=peers)
    (folder / f"{name}.yaml").write_text(text)
    for path in (f"/run/{name}", f"/var/lib/{name}", f"/sys/fs/bpf/{name}"):
        root.run("install", "-d", "-o", "dvipad", "-g", "dvipad", path)


def start(root: Root, cluster: Cluster, name: str) -> subprocess.Popen[str]:
    """The daemon of a node, as systemd starts it."""
    wanted = capabilities()
    user = ["setpriv", "--reuid=dvipad", "--regid=dvipad", "--init-groups"]
    limits = [f"--{kind}={wanted}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    lock = f"XTABLES_LOCKFILE=/run/{name}/xtables.lock"
    run = ["env", lock, "/usr/bin/dvipad", "run", f"/etc/dvipad/{name}.yaml"]
    with (root.path / f"{name}.log").open("w") as log:
        inside = ["sh", "-euc", INTO, str(root.path), name, *user, *limits, *run]
        argv = ["unshare", "--mount", *inside]
        return cluster.popen(name, argv, stdout=log, stderr=log)


def test_the_daemon_is_not_root(root: Root, package: Path) -> None:
    install(root, package)
    cluster = Cluster(LabSpec(prefix=f"u{os.getpid()}", targets=1, ports=(80,)), daemons=False)
    with ExitStack() as stack:
        stack.enter_context(mounted("sysfs", root.path / "sys"))
        stack.enter_context(mounted("bpf", root.path / "sys/fs/bpf", "mode=0700"))
        stack.enter_context(cluster)
        for name in PROFILES:
            configure(root, cluster, name)
        daemons = {name: start(root, cluster, name) for name in PROFILES}
        serve = [sys.executable, "-m", "http.server", "80", "--directory", str(root.path / "etc")]
        cluster.popen("t1", serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def state(name: str) -> str:
            if daemons[name].poll() is not None:
                raise LabError(f"{name} has ended: {root.text(f'{name}.log')}")
            try:
                view = ask(root.path / f"run/{name}/view.sock", {"command": "view"})["view"]
            except Refused:
                return ""
            return str(view["dvipas"][0]["state"]) if view["dvipas"] else ""

        def answers() -> bool:
            curl = ["curl", "-sf", "-m", "5", "-o", "/dev/null", f"http://{cluster.spec.dvipa()}/"]
            return cluster.run("client", curl, check=False).returncode == 0

        cluster.wait_until(lambda: state("lb1") == "ACTIVE", WAIT_S, "lb1 owns the DVIPA")
        cluster.wait_until(answers, WAIT_S, "the target answers")
        owner = (root.path / "run/lb1/view.sock").stat().st_uid
        assert owner == int(root.run("id", "-u", "dvipad").stdout)
        assert owner != 0
        daemons["lb1"].send_signal(signal.SIGTERM)
        assert daemons["lb1"].wait(20) == 0
        cluster.wait_until(lambda: state("lb2") == "ACTIVE", WAIT_S, "lb2 owns the DVIPA")
        cluster.wait_until(answers, WAIT_S, "the target answers by lb2")
        for name in PROFILES:
            log = root.text(f"{name}.log")
            assert not [line for line in log.splitlines() if "ERROR" in line or "missing" in line]
