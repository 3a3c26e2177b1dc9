"""One virtual machine: its processes, what it prints, and its end.

Everything dies with the process that started it, even when that is killed: each child asks the
kernel for it, and the one mount is in a mount namespace that only the file server has.
"""

from __future__ import annotations

import os
import resource
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dvipad.vmlab.guest_kernel import GuestKernel, VmError, initramfs, run

VIRTIOFSD: Final = Path("/usr/lib/qemu/virtiofsd")
MEMORY_MB: Final = 2048
WRITABLE: Final = "768m"
CPUS: Final = 2
SOCKET_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.02
READ_BYTES: Final = 65536
STOP_TIMEOUT_S: Final = 10.0
EXIT_LINE: Final = b"vmlab: exit status "
"""The last line of every job; without it the machine did not get to its end."""

# While others keep this machine busy, the guest mistakes the frequency of its TSC by a factor: its
# HPET is the clock that goes right.
KERNEL_LINE: Final = (
    "console=hvc0 quiet loglevel=3 panic=-1 oops=panic mitigations=off nokaslr "
    "tsc=reliable no_timer_check audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests "
    "rcupdate.rcu_expedited=1 rdinit=/init"
)
DIE_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True, slots=True)
class Job:
    """What to run in the machine: a command, where (both as on this machine), with `variables`
    set, for `timeout_s` at most, booting included. `copied`: folders that it has in its memory,
    except what is called like `without`; all others are shared. `counted`: one processor, whose
    nanoseconds are instructions, whatever else this machine does."""

    argv: Sequence[str]
    folder: Path
    variables: dict[str, str]
    timeout_s: float
    copied: Sequence[Path] = ()
    without: Sequence[str] = ()
    counted: bool = False


def job_script(job: Job) -> str:
    """The bash script of the machine's first process, which ends the machine when it ends.

    The command's output is a pipe: to a console it would also draw.
    """
    settings = [f"export {name}={shlex.quote(value)}" for name, value in job.variables.items()]
    lines = [
        *settings,
        f"cd {shlex.quote(str(job.folder))}",
        "set -o pipefail",
        f"{shlex.join(job.argv)} 2>&1 | cat",
        f'echo "{EXIT_LINE.decode()}$?"',
        "echo b >/proc/sysrq-trigger",
        "sleep 60",
    ]
    return "\n".join(lines) + "\n"


def qemu_command(kernel: GuestKernel, archive: Path, files: Path, counted: bool) -> list[str]:
    """The emulator's command line; `files`: the socket of the file server; `counted`: see `Job`."""
    threads, cpus, clock = "multi", CPUS, "hpet"
    counting: list[str] = []
    if counted:
        threads, cpus, clock = "single", 1, "tsc"
        counting = ["-icount", "shift=0,sleep=on"]
    devices = [
        *("-chardev", f"socket,id=files,path={files}"),
        *("-device", "vhost-user-fs-pci,chardev=files,tag=rootfs,queue-size=1024"),
        *("-chardev", "stdio,id=console,signal=off"),
        *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"),
        *("-device", "virtio-rng-pci"),
    ]
    return [
        *("qemu-system-x86_64", "-M", "q35", "-accel", f"tcg,thread={threads}", *counting),
        *("-cpu", "max,la57=off,pmu=off", "-smp", str(cpus), "-m", str(MEMORY_MB)),
        *("-object", f"memory-backend-memfd,id=memory,size={MEMORY_MB}M,share=on"),
        *("-numa", "node,memdev=memory"),
        *devices,
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(kernel.image), "-initrd", str(archive), "-append"),
        f"{KERNEL_LINE} clocksource={clock}",
    ]


def file_server_command(files: Path, mount: Path, places: Sequence[Path]) -> list[str]:
    """Serves this machine's root, read-only, at the socket `files`.

    It is bound at `mount`, in a mount namespace of its own; `places` on other file systems are
    bound into it.
    """
    binds = [
        f"mount -o bind,ro {shlex.quote(str(place))} {shlex.quote(f'{mount}{place}')}"
        for place in places
    ]
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    options = ["source=" + str(mount), "cache=always", "no_readdirplus", "sandbox=chroot"]
    words = [str(VIRTIOFSD), f"--socket-path={files}", f"--rlimit-nofile={limit}"]
    words += [word for option in options for word in ("-o", option)]
    script = [f"mount -o bind,ro / {shlex.quote(str(mount))}", *binds, f"exec {shlex.join(words)}"]
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    return [*DIE_WITH_PARENT, *unshare, "sh", "-ec", "\n".join(script)]


def elsewhere(places: Sequence[Path]) -> list[Path]:
    """Those of `places` that are not on the root's file system, outer ones first."""
    root = Path("/").stat().st_dev
    return sorted({place for place in places if place.stat().st_dev != root})


def pack(archive: Path, places: Sequence[Path], without: Sequence[str]) -> None:
    """Writes a tar archive of `places`, but for files and folders called like `without`.

    Python opens hundreds of files when it starts. Each that is shared costs a turn of the file
    server, which has to wait for this machine's CPUs; from memory it costs nothing.
    """
    excluded = [f"--exclude={name}" for name in without]
    names = [str(place).lstrip("/") for place in places]
    run(["tar", "--create", f"--file={archive}", "--directory=/", *excluded, "--", *names])


class Machine:
    """A machine that runs. `lines` yields what it prints until it ends."""

    def __init__(self, emulator: subprocess.Popen[bytes], deadline: float) -> None:
        self._emulator = emulator
        self._deadline = deadline
        self.status: int | None = None

    def lines(self) -> Iterator[bytes]:
        """Each line as it comes, the newline included; sets `status` at the job's end.

        Raises :class:`VmError` when the machine is not done in time.
        """
        stdout = self._emulator.stdout
        if stdout is None:
            raise VmError("the emulator has no output")
        buffer = b""
        while data := self._read(stdout.fileno()):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.startswith(EXIT_LINE):
                    self.status = int(line.removeprefix(EXIT_LINE))
                else:
                    yield line + b"\n"
        yield buffer

    def _read(self, fd: int) -> bytes:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            raise VmError("the time is up")
        return os.read(fd, READ_BYTES)


@contextmanager
def started(kernel: GuestKernel, job: Job, places: Sequence[Path]) -> Iterator[Machine]:
    """A machine that runs `job`; `places`: folders of this machine that it must see.

    At the end nothing is left of it. Raises :class:`VmError` when it does not start.
    """
    deadline = time.monotonic() + job.timeout_s
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dvipad-vm-")))
        (folder / "root").mkdir()
        files = folder / "files"
        copies = folder / "copies.tar"
        pack(copies, job.copied, job.without)
        values = {"MODULES": str(kernel.modules), "COPIES": str(copies), "MEMORY": WRITABLE}
        settings = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        archive = initramfs(kernel, folder, settings, job_script(job))
        log = stack.enter_context((folder / "files.log").open("wb"))
        command = file_server_command(files, folder / "root", elsewhere(places))
        server = stack.enter_context(process(command, log.fileno()))
        _await_socket(files, server, folder / "files.log")
        emulate = [*DIE_WITH_PARENT, *qemu_command(kernel, archive, files, job.counted)]
        yield Machine(stack.enter_context(process(emulate, None)), deadline)


@contextmanager
def process(argv: Sequence[str], output: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own (a terminal's Ctrl-C is for us), killed at the end."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()


def _await_socket(path: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SOCKET_TIMEOUT_S
    while not path.exists():
        if server.poll() is not None or time.monotonic() >= deadline:
            raise VmError(f"{VIRTIOFSD} does not serve: {log.read_text(errors='replace').strip()}")
        time.sleep(POLL_S)
