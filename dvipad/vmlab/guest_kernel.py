"""The virtual machine's kernel: Debian's own package, unpacked and not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BUSYBOX: Final = Path("/bin/busybox")
INIT: Final = Path(__file__).with_name("init.sh")
COMMAND_TIMEOUT_S: Final = 1800.0

_PACKAGE: Final = re.compile(r"linux-image-(6\.1\.0-([0-9]+)-cloud-amd64)")
_EARLY_MODULES: Final = ("virtio_pci", "virtiofs", "virtio_console", "virtio_rng", "overlay")
"""What there must be before the shared files are, from which everything else is loaded."""


class VmError(Exception):
    """The virtual machine cannot be made, or did not do what it was made for."""


@dataclass(frozen=True, slots=True)
class GuestKernel:
    """An unpacked kernel. `modules`: what the machine shall have as ``/lib/modules``."""

    version: str
    image: Path
    modules: Path


def run(argv: Sequence[str], *, cwd: Path | None = None, data: bytes | None = None) -> bytes:
    """What a command printed; raises :class:`VmError` with its own words when it fails."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, input=data, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VmError(f"{argv[0]}: {error}") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise VmError(f"{' '.join(argv)}: exit status {done.returncode}: {words}")
    return done.stdout


def newest(packages: Iterable[str]) -> str | None:
    """The name of the newest stock kernel among `packages`, None when there is none."""
    found = [match for match in map(_PACKAGE.fullmatch, packages) if match]
    return max(found, key=lambda match: int(match[2]))[0] if found else None


def fetch(folder: Path) -> GuestKernel:
    """The kernel that is in `folder`, or the newest of Debian 12, then unpacked there.

    Raises :class:`VmError` when there is none to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    package = newest(path.name for path in folder.iterdir()) or _download(folder)
    version = package.removeprefix("linux-image-")
    top = (folder / package).resolve()  # links lead elsewhere from the initramfs
    return GuestKernel(version, top / "boot" / f"vmlinuz-{version}", top / "lib" / "modules")


def _download(folder: Path) -> str:
    package = newest(_known_packages())
    if package is None:
        run(["apt-get", "update", "-qq"])
        package = newest(_known_packages())
    if package is None:
        raise VmError("apt knows no linux-image-6.1.0-*-cloud-amd64; add Debian 12 to its sources")
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], cwd=new)
    (archive,) = new.glob("*.deb")
    run(["dpkg", "-x", str(archive), str(new)])
    archive.unlink()
    run(["depmod", "-b", str(new), package.removeprefix("linux-image-")])
    new.rename(folder / package)  # whole or not at all
    return package


def _known_packages() -> list[str]:
    return run(["apt-cache", "pkgnames", "linux-image-6.1."]).decode().split()


def initramfs(kernel: GuestKernel, folder: Path, settings: str, job: str) -> Path:
    """Writes the first file system into `folder`: busybox, the early modules, `init.sh`.

    `settings`: shell variables for `init.sh`; `job`: the bash script to run when all is mounted.
    """
    (folder / "settings").write_text(settings)
    (folder / "job").write_text(job)
    return first_files(kernel, folder, INIT, _EARLY_MODULES, [folder / "settings", folder / "job"])


def first_files(
    kernel: GuestKernel,
    folder: Path,
    init: Path,
    modules: Sequence[str],
    files: Sequence[Path] = (),
) -> Path:
    """Writes an initramfs into `folder`: busybox, `modules` with theirs, `init`, and `files`."""
    root = folder / "initramfs"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    shutil.copy(init, root / "init")
    (root / "init").chmod(0o755)
    for file in files:
        shutil.copy(file, root)
    order = _early_modules(kernel, modules)
    for module in order:
        shutil.copy(module, root / "modules")
    (root / "modules" / "order").write_text("".join(f"{module.name}\n" for module in order))
    names = b"".join(f"{path.relative_to(root)}\n".encode() for path in sorted(root.rglob("*")))
    archive = folder / "initramfs.cpio"
    archive.write_bytes(run(["cpio", "--create", "--format=newc", "--quiet"], cwd=root, data=names))
    return archive


def _early_modules(kernel: GuestKernel, names: Sequence[str]) -> list[Path]:
    top = str(kernel.modules.parent.parent)
    options = ["--dirname", top, "--set-version", kernel.version, "--show-depends", "--all"]
    lines = run(["modprobe", *options, *names]).decode().splitlines()
    return list(dict.fromkeys(Path(line.split()[1]) for line in lines if line.startswith("insmod")))
