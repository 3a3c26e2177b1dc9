"""The disk of a virtual machine with systemd: Debian 12 by debootstrap, made once and kept."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

from dvipad.vmlab.guest_kernel import GuestKernel, run

PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "python3", "ca-certificates"),
    *("iproute2", "iptables", "nftables", "iputils-ping", "curl", "nginx-light", "passwd"),
    *("libnetfilter-queue1", "libbpf1", "libstdc++6", "openssh-server", "sudo"),
)
"""What a plain server has, and what the .deb depends on: the machines have no way to an archive."""
DISK_SIZE: Final = "2G"

_SHELL_UNIT: Final = """\
[Unit]
Description=A root shell for the lab
After=multi-user.target

[Service]
ExecStart=/bin/bash --norc --noprofile -c "echo lab-shell ready; exec bash --norc --noprofile -s"
WorkingDirectory=/root
Environment=HOME=/root TERM=dumb LANG=C.UTF-8
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc1
ExecStartPre=/bin/stty -F /dev/hvc1 raw -echo
IgnoreSIGPIPE=no

[Install]
WantedBy=multi-user.target
"""


def disk(folder: Path, kernel: GuestKernel) -> Path:
    """An ext4 image in `folder`, made when there is none of these packages and this kernel.

    Raises :class:`dvipad.vmlab.guest_kernel.VmError` when a command fails.
    """
    inputs = "\n".join([*PACKAGES, kernel.version, DISK_SIZE, _SHELL_UNIT])
    image = folder / f"disk-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}.ext4"
    if image.exists():
        return image
    root = folder / "disk-root"
    shutil.rmtree(root, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        print("vmlab: debootstrap, once; some minutes", file=sys.stderr, flush=True)
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        run(["debootstrap", *options, "bookworm", str(root)])
        _configure(root, kernel)
        new = image.with_suffix(".new")
        new.unlink(missing_ok=True)
        run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(new), DISK_SIZE])
        new.rename(image)  # whole or not at all
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return image


def _configure(root: Path, kernel: GuestKernel) -> None:
    shutil.copytree(kernel.modules, root / "lib" / "modules", symlinks=True, dirs_exist_ok=True)
    system = root / "etc" / "systemd" / "system"
    (system / "lab-shell.service").write_text(_SHELL_UNIT)
    wanted = system / "multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "lab-shell.service").symlink_to("/etc/systemd/system/lab-shell.service")
    for name in ("nginx", "ssh"):
        (wanted / f"{name}.service").unlink(missing_ok=True)
    for path in (root / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        path.unlink()
    (root / "etc" / "machine-id").write_text("")
    (root / "etc" / "fstab").write_text("")
