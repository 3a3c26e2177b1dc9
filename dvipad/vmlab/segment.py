"""Machines with systemd on one LAN: a bridge in a private network namespace, and root shells."""

from __future__ import annotations

import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from dvipad.vmlab.disk import SHELL_PORT
from dvipad.vmlab.guest_kernel import GuestKernel, VmError, first_files
from dvipad.vmlab.job import FOLDER
from dvipad.vmlab.machine import DIE_WITH_PARENT, KERNEL_LINE, process

BOOT: Final = Path(__file__).with_name("boot.sh")
BOOT_MODULES: Final = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "ext4"),
)
MEMORY_MB: Final = 512
PATIENT: Final = "systemd.default_timeout_start_sec=1800 systemd.service_watchdogs=0"
"""For the kernel's command line: a machine that is emulated among others is not held to time."""
LOGS: Final = FOLDER / "logs"
BOOT_TIMEOUT_S: Final = 600.0
COMMAND_TIMEOUT_S: Final = 1800.0
POLL_S: Final = 0.1
READ_BYTES: Final = 65536


class Shell:
    """A root shell in a machine, at a port of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._count = 0

    def connect(self, timeout_s: float) -> None:
        """The machine starts when somebody is at its port; :class:`VmError` if it has none."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._socket.connect(str(self._path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise VmError(f"{self._path.name}: no shell") from None
                time.sleep(POLL_S)

    def booted(self, timeout_s: float) -> None:
        """Wait until the machine has booted; raises :class:`VmError` when it does not."""
        self._await(b"lab-shell ready", time.monotonic() + timeout_s)

    def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> tuple[int, str]:
        """Exit status of `script` and what it printed, both outputs together."""
        self._count += 1
        mark = f"lab-end-{self._count}"
        command = f"bash -c {shlex.quote(script)} </dev/null 2>&1"
        self._socket.sendall(f"{command}; status=$?; echo; echo {mark} $status\n".encode())
        data = self._await(mark.encode() + b" ", time.monotonic() + timeout_s)
        text, _, status = data.decode(errors="replace").rpartition(mark)
        return int(status), text.removesuffix("\n").strip("\n")

    def close(self) -> None:
        """The port is free; the machine goes on."""
        self._socket.close()

    def _await(self, words: bytes, deadline: float) -> bytes:
        data = b""
        while not (words in data and data.rpartition(words)[2].endswith(b"\n")):
            self._socket.settimeout(max(deadline - time.monotonic(), POLL_S))
            try:
                more = self._socket.recv(READ_BYTES)
            except TimeoutError:
                tail = data[-500:].decode(errors="replace")
                raise VmError(f"{self._path.name}: the time is up after: {tail}") from None
            if not more:
                raise VmError(f"{self._path.name}: the machine ended")
            data += more
        return data


class Segment:
    """The LAN. `machines`: the shells of those that run, by name."""

    def __init__(self, holder: int, emulators: dict[str, subprocess.Popen[bytes]]) -> None:
        self._holder = holder
        self._emulators = emulators
        self.machines: dict[str, Shell] = {}

    def client(self, argv: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run `argv` on this machine, but with the LAN for its network."""
        enter = ["nsenter", f"--net=/proc/{self._holder}/ns/net", "--", *argv]
        return subprocess.run(enter, capture_output=True, text=True, timeout=timeout_s, check=False)

    def power_off(self, name: str) -> None:
        """Pull the plug."""
        self._emulators[name].kill()
        self._emulators[name].wait()
        self.machines.pop(name).close()


@contextmanager
def segment(
    kernel: GuestKernel, disk: Path, names: Sequence[str], client: str, files: Sequence[Path]
) -> Iterator[Segment]:
    """Machines called `names` with the interface eth0, and a client with the address `client`
    (with its prefix length). `files` are in the home folder of root. At the end nothing is left
    but `LOGS`: what each said on its consoles.

    Raises :class:`VmError` when one does not boot.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dvipad-vms-")))
        LOGS.mkdir(exist_ok=True)
        archive = first_files(kernel, folder, BOOT, BOOT_MODULES)
        brought = folder / "files.tar"
        pairs = [word for path in files for word in ("-C", str(path.parent), path.name)]
        subprocess.run(["tar", "--create", f"--file={brought}", *pairs], check=True)
        taps = [f"tap{number}" for number, _ in enumerate(names)]
        holder = stack.enter_context(process(_lan_command(taps, client, folder / "up"), None))
        _await_file(folder / "up", holder)
        emulators = {}
        for number, name in enumerate(names):
            command = _qemu(kernel, archive, disk, brought, folder / name, number)
            enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--", *command]
            log = stack.enter_context((LOGS / f"{name}.console").open("wb"))
            emulators[name] = stack.enter_context(process([*DIE_WITH_PARENT, *enter], log.fileno()))
        lan = Segment(holder.pid, emulators)
        for name in names:
            lan.machines[name] = shell = Shell(folder / name)
            stack.callback(shell.close)
            shell.connect(COMMAND_TIMEOUT_S)
        for name, shell in lan.machines.items():
            shell.booted(BOOT_TIMEOUT_S)
            shell.run(f"hostname {name}; tar -x -f /dev/vdb -C /root")
        yield lan


def _lan_command(taps: Sequence[str], client: str, up: Path) -> list[str]:
    lines = ["ip link set lo up", "ip link add lan type bridge", "ip link set lan up"]
    for tap in taps:
        lines += [f"ip tuntap add {tap} mode tap", f"ip link set {tap} master lan up"]
    lines += [f"ip address add {client} dev lan", f"touch {shlex.quote(str(up))}"]
    script = "\n".join([*lines, "exec sleep infinity"])
    return [*DIE_WITH_PARENT, "unshare", "--net", "--", "sh", "-ec", script]


def _qemu(
    kernel: GuestKernel, archive: Path, disk: Path, brought: Path, port: Path, number: int
) -> list[str]:
    mac = f"52:54:00:00:00:{number + 1:02x}"
    log = LOGS / f"{port.name}.shell"
    return [
        *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi"),
        *("-cpu", "max,la57=off,pmu=off", "-smp", "1", "-m", str(MEMORY_MB)),
        *("-drive", f"file={disk},format=raw,if=virtio,snapshot=on"),
        *("-drive", f"file={brought},format=raw,if=virtio,readonly=on"),
        *("-netdev", f"tap,id=lan,ifname=tap{number},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=lan,mac={mac}"),
        *("-chardev", "stdio,id=console,signal=off"),
        *("-chardev", f"socket,id=shell,path={port},server=on,wait=on,logfile={log}"),
        *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"),
        *("-device", f"virtserialport,chardev=shell,name={SHELL_PORT}"),
        *("-device", "virtio-rng-pci"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(kernel.image), "-initrd", str(archive), "-append"),
        f"{KERNEL_LINE} {PATIENT} clocksource=hpet net.ifnames=0 systemd.show_status=0",
    ]


def _await_file(path: Path, holder: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while not path.exists():
        if holder.poll() is not None or time.monotonic() > deadline:
            output = holder.stdout.read().decode() if holder.stdout else ""
            raise VmError(f"no LAN: {output.strip()}")
        time.sleep(POLL_S)
