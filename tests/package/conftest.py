"""A fresh Debian as a folder, with the package installed in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
BASE: Final = REPOSITORY / "build" / "package-test" / "base"
"""Debian 12 with what the package depends on; made once."""
MIRROR: Final = "http://deb.debian.org/debian"
_DEPENDS: Final = "systemd,python3,iproute2,iptables,nftables,libbpf1,libnetfilter-queue1"


@dataclass(frozen=True, slots=True)
class Root:
    """A root file system."""

    path: Path

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        command = ["chroot", str(self.path), *argv]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=check, timeout=300
        )

    def files(self) -> set[str]:
        """Every file and folder but those of the package manager, and of the logs."""
        found = set()
        for folder, folders, names in os.walk(self.path):
            for name in (*folders, *names):
                found.add(str((Path(folder) / name).relative_to(self.path)))
        ours = ("var/lib/dpkg/", "var/log/", "var/cache/", "proc/", "etc/passwd-", "etc/group-")
        return {
            name for name in found if not name.startswith((*ours, "etc/shadow-", "etc/gshadow-"))
        }

    def text(self, name: str) -> str:
        """Content of a file."""
        return (self.path / name).read_text()


def install(root: Root, package: Path) -> None:
    """What `apt install ./dvipad.deb` does once all dependencies are there."""
    shutil.copy(package, root.path / "dvipad.deb")
    root.run("dpkg", "--install", "/dvipad.deb")
    (root.path / "dvipad.deb").unlink()


@pytest.fixture(scope="session")
def package() -> Path:
    """The package, built from this tree, or the one that `DVIPAD_DEB` names."""
    if given := os.environ.get("DVIPAD_DEB"):
        return Path(given)
    command = ["make", "--silent", "-C", str(REPOSITORY), "deb"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return REPOSITORY / built.split()[-1]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """A copy of a fresh Debian."""
    if not BASE.is_dir():
        making = BASE.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        making.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={_DEPENDS}", "bookworm"]
        subprocess.run([*command, str(making), MIRROR], check=True, stdout=subprocess.DEVNULL)
        making.rename(BASE)
    path = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(BASE), str(path)], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", str(path / "proc")], check=True)
    try:
        yield Root(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path / "proc")], check=True)
        shutil.rmtree(path)
