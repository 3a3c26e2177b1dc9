"""`vagrant up` of all machines of vagrant/Vagrantfile, what they are for, `vagrant destroy`.

    python -m dvipad.vmlab.vagrant

As a user does it, but for the box, which is made here, and KVM, which there may not be. libvirt
runs in namespaces of its own (network, mounts, processes): its bridges, rules, files and machines
are nobody else's, and end when the first process there does, which ends with this one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from dvipad.lab.spec import stretched
from dvipad.vmlab.disk import disk
from dvipad.vmlab.guest_kernel import GuestKernel, VmError, fetch, first_files, run
from dvipad.vmlab.job import FOLDER, ROOT
from dvipad.vmlab.machine import DIE_WITH_PARENT, process
from dvipad.vmlab.segment import BOOT, BOOT_MODULES, PATIENT

WORK: Final = FOLDER / "vagrant"
BOX: Final = "debian/bookworm64"
"""What the Vagrantfile asks for."""
PAGE: Final = "http://10.77.0.100/"
PROMETHEUS: Final = "http://localhost:9090/api/v1/query?query=up"
UP_TIMEOUT_S: Final = 7200.0
TIMEOUT_S: Final = 900.0
POLL_S: Final = 0.5
SLOW: Final = 20.0
"""So much longer are the nodes' timers: seven emulated machines share this one's processors."""
KERNEL_LINE: Final = (
    "quiet mitigations=off tsc=reliable no_timer_check audit=0 apparmor=0 rdinit=/init "
    f"clocksource=hpet net.ifnames=0 systemd.wants=systemd-networkd.service {PATIENT}"
)
PRIVATE: Final = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
"""Folders that libvirt sees empty and its own; besides, all of /run."""
_QEMU_CONF: Final = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
_BOX_FILE: Final = """\
Vagrant.configure("2") do |config|
  config.ssh.insert_key = false
  config.vm.boot_timeout = 1200
  config.vm.provider :libvirt do |machine|
    machine.driver = "qemu"
    machine.cpu_mode = "custom"
    machine.cpu_model = "Nehalem"
    machine.machine_type = "q35"
    machine.graphics_type = "none"
    machine.disk_driver :cache => "unsafe"
    machine.kernel = {kernel}
    machine.initrd = {initrd}
    machine.cmd_line = {line}
  end
end
"""


def say(words: str) -> None:
    """Progress: this takes minutes."""
    print(f"vagrant: {words}", file=sys.stderr, flush=True)


def box(kernel: GuestKernel, folder: Path) -> Path:
    """A box in `folder`: the disk, and how to boot it without a boot loader and without KVM."""
    image = folder / "box.img"
    run(["qemu-img", "convert", "-O", "qcow2", str(disk(FOLDER, kernel)), str(image)])
    size_gb = json.loads(run(["qemu-img", "info", "--output=json", str(image)]))["virtual-size"]
    facts = {"provider": "libvirt", "format": "qcow2", "virtual_size": size_gb >> 30}
    (folder / "metadata.json").write_text(json.dumps(facts))
    initrd = first_files(kernel, folder, BOOT, BOOT_MODULES)
    words = {"kernel": str(kernel.image), "initrd": str(initrd), "line": KERNEL_LINE}
    quoted = {name: json.dumps(word) for name, word in words.items()}
    (folder / "Vagrantfile").write_text(_BOX_FILE.format(**quoted))
    made = folder / "dvipad.box"
    with tarfile.open(made, "w") as archive:
        for name in ("metadata.json", "Vagrantfile", "box.img"):
            archive.add(folder / name, name)
    image.unlink()
    return made


class Vagrant:
    """Vagrant, and a libvirt of its own. `holder`: the first process of its namespaces."""

    def __init__(self, holder: int, folder: Path) -> None:
        self._enter = ["nsenter", f"--target={holder}", "--net", "--mount", "--pid", "--"]
        self._keys = folder / "ssh-config"
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "VAGRANT_HOME": str(folder / "home"),
            "VAGRANT_CWD": str(ROOT / "vagrant"),
            "VAGRANT_DOTFILE_PATH": str(folder / "dot"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "SETTINGS": yaml.safe_dump(stretched(SLOW)),
        }

    def tell(self, *words: str, timeout_s: float = TIMEOUT_S) -> None:
        """Run ``vagrant WORDS``; what it says is progress. :class:`VmError` when it fails."""
        say(shlex.join(words))
        command = [*self._enter, "vagrant", "--no-tty", *words]
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise VmError(str(error)) from None
        if done.returncode != 0:
            raise VmError(f"vagrant {shlex.join(words)}: exit status {done.returncode}")

    def ask(self, *argv: str) -> str:
        """What a command prints beside libvirt; nothing when it fails."""
        command = [*self._enter, *argv]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False
        )
        return done.stdout if done.returncode == 0 else ""

    def learn_keys(self) -> None:
        """From here on, :meth:`on` works."""
        self._keys.write_text(self.ask("vagrant", "ssh-config"))

    def on(self, name: str, command: str) -> str:
        """What `command` prints on the machine `name`; nothing when it fails."""
        return self.ask("ssh", "-F", str(self._keys), name, command)


@contextmanager
def vagrant(folder: Path) -> Iterator[Vagrant]:
    """Vagrant with its files in `folder`; at the end no machine, network or process is left."""
    mounts = ["mount -t sysfs sysfs /sys", "mount -t tmpfs tmpfs /run", "mkdir /run/lock"]
    for place in PRIVATE:
        mine = folder / place[1:]
        mine.mkdir(parents=True)
        mounts.append(f"mkdir -p {place}; mount -o bind {shlex.quote(str(mine))} {place}")
    (folder / "etc" / "libvirt" / "qemu.conf").write_text(_QEMU_CONF)
    script = "\n".join([*mounts, "ip link set lo up", "libvirtd &", "wait"])
    spaces = ["unshare", "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    with (folder / "libvirtd.log").open("wb") as log:
        command = [*DIE_WITH_PARENT, *spaces, "--", "sh", "-ec", script]
        with process(command, log.fileno()) as unshare:
            made = Vagrant(_first_process(unshare), folder)
            _eventually("libvirtd", lambda: "library" in made.ask("virsh", "version"))
            yield made


def _first_process(unshare: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    _eventually("namespaces", lambda: bool(children.read_text().split()))
    return int(children.read_text().split()[0])


def _eventually(what: str, holds: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> float:
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > timeout_s:
            raise VmError(f"not after {timeout_s:g} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - began


def check(made: Vagrant) -> None:
    """The cluster does what it is for; raises :class:`VmError` when it does not."""
    names = made.ask("virsh", "list", "--name").split()
    targets = sorted(name.rpartition("_")[2] for name in names if name.rpartition("_")[2][0] == "t")
    curl = f"curl --silent --fail --max-time 20 {PAGE}"
    ask_all = "; ".join([curl] * len(targets))
    seen: set[str] = set()

    def all_answer() -> bool:
        seen.update(made.on("client", ask_all).split())
        return seen == set(targets)

    took_s = _eventually(f"an answer of each of {targets}", all_answer)
    say(f"client: answers of {', '.join(targets)} after {took_s:.0f} s")
    nodes = len(targets) + 2
    _eventually("Prometheus hears of all nodes", lambda: _heard(made) == nodes)
    say(f"prometheus: {nodes} nodes")
    _owned_by(made, "lb1")
    made.tell("halt", "--force", "lb1")
    took_s = _eventually("an answer without lb1", lambda: bool(made.on("client", curl)))
    _owned_by(made, "lb2")
    say(f"client: an answer {took_s:.1f} s after the power cut of lb1")


def _owned_by(made: Vagrant, name: str) -> None:
    seen = made.on("lb2", "sudo dvipactl netstat vipadyn")
    if f"Owner: {name} " not in seen:
        raise VmError(f"{name} does not own the DVIPA: {seen}")


def _heard(made: Vagrant) -> int:
    answer = json.loads(made.on("prometheus", f"curl --silent {shlex.quote(PROMETHEUS)}") or "{}")
    found = answer.get("data", {}).get("result", [])
    return sum("cluster" in each["metric"] and each["value"][1] == "1" for each in found)


def main() -> int:
    """Exit status 0 when the cluster was there, did its work, and was destroyed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    try:
        if os.geteuid() != 0:
            raise VmError("namespaces of its own: run it as root")
        say("the box")
        made = box(fetch(FOLDER), WORK)
        with vagrant(WORK) as lab:
            lab.tell("box", "add", "--name", BOX, str(made), timeout_s=UP_TIMEOUT_S)
            made.unlink()
            lab.tell("up", timeout_s=UP_TIMEOUT_S)
            say(f"up after {time.monotonic() - began:.0f} s")
            lab.learn_keys()
            check(lab)
            lab.tell("destroy", "--force")
            if left := lab.ask("virsh", "list", "--all", "--name").split():
                raise VmError(f"not destroyed: {left}")
    except VmError as error:
        print(f"vagrant: FAILED {error}")
        return 1
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    print(f"vagrant: OK seconds={time.monotonic() - began:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
