"""The disk of a virtual machine with systemd: Debian 12 by debootstrap, made once and kept."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

from dvipad.vmlab.guest_kernel import GuestKernel, run

SYSTEM: Final = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "iputils-ping"),
    *("curl", "ca-certificates", "openssh-server", "sudo", "passwd", "python3", "nftables"),
)
"""A plain server: what Debian's installer brings, too."""
ARCHIVE: Final = (
    *(
        "iptables",
        "bpftool",
        "nginx-light",
        "prometheus",
        "libbpf1",
        "libatomic1",
        "libnetfilter-queue1",
    ),
)
"""What apt can install there, with what it depends on: machines have no way to Debian's archive."""
SIZE: Final = "3G"
VAGRANT: Final = "vagrant"
_KEY: Final = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzI"
    "w+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTB"
    "ckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPX"
    "Q2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hruc"
    "XzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key\n"
)
"""Everybody has the private one: Vagrant expects it in a box."""
_NETWORK: Final = "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\n\n[DHCPv4]\nClientIdentifier=mac\n"
SHELL_PORT: Final = "lab-shell"

# A port, and no console: systemd, bash and the kernel all have ideas about terminals.
_SHELL_UNIT: Final = f"""\
[Unit]
Description=A root shell for the lab
After=multi-user.target
ConditionPathExists=/dev/virtio-ports/{SHELL_PORT}

[Service]
ExecStart=/bin/bash --norc --noprofile -c "echo lab-shell ready; exec bash --norc --noprofile -s"
WorkingDirectory=/root
Environment=HOME=/root TERM=dumb LANG=C.UTF-8
StandardInput=file:/dev/virtio-ports/{SHELL_PORT}
StandardOutput=file:/dev/virtio-ports/{SHELL_PORT}
StandardError=inherit
IgnoreSIGPIPE=no

[Install]
WantedBy=multi-user.target
"""


def disk(folder: Path, kernel: GuestKernel) -> Path:
    """An ext4 image in `folder`, made when there is none of these packages and this kernel.

    Raises :class:`dvipad.vmlab.guest_kernel.VmError` when a command fails.
    """
    inputs = Path(__file__).read_text() + kernel.version
    image = folder / f"disk-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}.ext4"
    if image.exists():
        return image
    root = folder / "disk-root"
    shutil.rmtree(root, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        print("vmlab: debootstrap, once; some minutes", file=sys.stderr, flush=True)
        options = ["--variant=minbase", f"--include={','.join(SYSTEM)}"]
        run(["debootstrap", *options, "bookworm", str(root)])
        inside = ["chroot", str(root)]
        run([*inside, "apt-get", "clean"])
        run([*inside, "apt-get", "update"])
        run([*inside, "apt-get", "install", "--download-only", "--yes", *ARCHIVE])
        run([*inside, "useradd", "--create-home", "--shell", "/bin/bash", VAGRANT])
        _configure(root, kernel)
        new = image.with_suffix(".new")
        new.unlink(missing_ok=True)
        run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(new), SIZE])
        for old in folder.glob("disk-*.ext4"):
            old.unlink()
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
    key = root / "home" / VAGRANT / ".ssh" / "authorized_keys"
    key.parent.mkdir()
    key.write_text(_KEY)
    (root / "etc" / "sudoers.d" / VAGRANT).write_text(f"{VAGRANT} ALL=(ALL) NOPASSWD: ALL\n")
    (root / "etc" / "systemd" / "network" / "eth0.network").write_text(_NETWORK)
    (root / "etc" / "hostname").write_text("debian\n")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc" / "resolv.conf").write_text("")  # nobody to ask: say so at once
    (root / "etc" / "machine-id").write_text("")  # a copied one gives all the same address by DHCP
    (root / "etc" / "fstab").write_text("")
