"""systemd as the first process of a root file system, in namespaces of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.1
CGROUPS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
"""Where cgroup v2 is: beside v1, or alone."""
# systemd makes the BPF file system root's alone; in a container it makes none.
_FIRST: Final = """
echo $BASHPID >"$2/cgroup.procs"
exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child -- bash -ec '
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=0755 tmpfs dev
for name in null zero full random urandom tty; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ip link set lo up
ip link add eth0 type veth peer name other
ip link set eth0 up
ip address add 192.0.2.1/24 dev eth0
pivot_root . mnt
umount --lazy /mnt
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
' first "$1"
"""


@dataclass(frozen=True, slots=True)
class Booted:
    """It runs; `first`: its first process, as this machine counts."""

    first: int

    def run(self, command: str, check: bool = True) -> str:
        """What a shell command prints there; raises when it fails and must not."""
        enter = ["nsenter", f"--target={self.first}", "--all", "--root", "--wd", "--"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]
        done = subprocess.run(
            [*enter, *clean, "bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if check and done.returncode != 0:
            log = self.run("journalctl --no-pager --lines=40", check=False)
            raise AssertionError(f"{command}: {done.stdout}\n{log}")
        return done.stdout.strip()

    def eventually(self, command: str, words: str) -> None:
        """Wait until `command` prints `words`."""
        deadline = time.monotonic() + TIMEOUT_S
        while (seen := self.run(command, check=False)) != words:
            assert time.monotonic() < deadline, f"{command}: {seen}"
            time.sleep(POLL_S)


@contextmanager
def booted(root: Path) -> Iterator[Booted]:
    """Boot `root`; at the end no process, mount, network or cgroup of it is left."""
    top = next(each for each in CGROUPS if (each / "cgroup.controllers").exists())
    cgroup = top / f"dvipad-package-{os.getpid()}"
    cgroup.mkdir()
    command = ["bash", "-ec", _FIRST, "first", str(root), str(cgroup)]
    unshare = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        made = Booted(_child(unshare))
        made.eventually("systemctl is-system-running", "running")
        yield made
    finally:
        unshare.kill()
        unshare.wait(TIMEOUT_S)
        _remove(cgroup)


def _child(unshare: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline, "no first process"
        time.sleep(POLL_S)
    return int(found[0])


def _remove(cgroup: Path) -> None:
    (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + TIMEOUT_S
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        assert time.monotonic() < deadline, f"{cgroup} does not end"
        time.sleep(POLL_S)
    for folder, _, _ in os.walk(cgroup, topdown=False):
        Path(folder).rmdir()
