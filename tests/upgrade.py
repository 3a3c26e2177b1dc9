"""`python -m tests.upgrade COMMIT`: a cluster of an older version under load gets this one, node by
node, as a package does it: a clean stop, and a start. Nothing may be lost, and nothing may fail."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import LabSpec
from dvipad.lab.traffic import LongConnections, NewConnections
from dvipad.versions import NEWEST
from tests.e2e.cluster_tools import echo_servers, ready_targets, wait_for_state

ROOT: Final = Path(__file__).parents[1]
OLD: Final = ROOT / "build" / "upgrade"
LIBRARIES: Final = "build/libraries"
BACK_S: Final = 30.0
"""A node is a healthy member again within this time."""
LONG: Final = 1_000
RATE: Final = 500.0
INTERVAL_MS: Final = 100.0


def old_tree(commit: str) -> Path:
    """The files of an older version, with its eBPF programs, and in `LIBRARIES` what it needs."""
    folder = OLD / commit
    if not (folder / LIBRARIES).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit], check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
        subprocess.run(["make", "--silent", "-C", str(folder / "bpf")], check=True)
        needs = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
        subprocess.run([*pip, str(folder / LIBRARIES), *needs], check=True)
    return folder


def say(words: str) -> None:
    """Progress."""
    print(f"upgrade: {words}", file=sys.stderr, flush=True)


def upgrade(cluster: Cluster, name: str) -> None:
    """One node, until all is as it was."""
    cluster.stop_daemon(name)
    cluster.wrapper = ()
    cluster.start_daemon(name)
    cluster.wait_ready([name])
    wait_for_state(cluster, "lb1", "ACTIVE")
    wait_for_state(cluster, "lb2", "BACKUP")
    cluster.wait_until(
        lambda: ready_targets(cluster, "lb1") == 3 * len(cluster.spec.ports),
        BACK_S,
        f"all targets serve after the upgrade of {name}",
    )
    say(f"{name} is upgraded")


def all_speak_the_newest(cluster: Cluster) -> bool:
    """Whether every session is of the newest mesh version."""
    rows = [row for host in cluster.spec.nodes() for row in cluster.view(host.name)["members"]]
    return all(row["mesh_version"] == NEWEST for row in rows)


def run(commit: str, family: int) -> int:
    """One cluster; returns how many connections were lost or failed."""
    old = old_tree(commit)
    cluster = Cluster(LabSpec(prefix=f"up{os.getpid()}", family=family))
    cluster.wrapper = ("env", f"PYTHONPATH={old}:{old / LIBRARIES}")
    dvipa, port = cluster.spec.dvipa(), cluster.spec.ports[0]
    with cluster, echo_servers(cluster):
        wait_for_state(cluster, "lb1", "ACTIVE")
        long = LongConnections(
            cluster, "client", dvipa, port, connections=LONG, interval_ms=INTERVAL_MS
        )
        new = NewConnections(cluster, "client", dvipa, port, rate=RATE)
        for name in ("t1", "t2", "t3", "lb2", "lb1"):
            upgrade(cluster, name)
        started, kept = new.stop(), long.stop()
        newest = f"mesh version {NEWEST} everywhere"
        cluster.wait_until(lambda: all_speak_the_newest(cluster), BACK_S, newest)
        say(newest)
    failed = sum(started.failed.values())
    print(
        f"upgrade: IPv{family} from {commit}: lost={kept.lost()} of {LONG} failed={failed} of"
        f" {started.started} slowed={started.slowed} {dict(started.failed) or ''}"
    )
    return kept.lost() + failed


def main() -> int:
    """The command; status 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="the older version")
    parser.add_argument("--family", type=int, choices=(4, 6), action="append")
    arguments = parser.parse_args()
    return min(1, sum([run(arguments.commit, each) for each in arguments.family or (4, 6)]))


if __name__ == "__main__":
    sys.exit(main())
