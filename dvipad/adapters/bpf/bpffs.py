"""The filesystem that keeps maps while no process holds them."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.libbpf import BpfError

_BPF_FS_MAGIC: Final = 0xCAFE4A11
_SYSTEM: Final = Path("/sys/fs/bpf")
_SOURCE: Final = "dvipad"
"""Source of the mounts that we make, by which we know them again."""

_OF_THE_KERNEL: Final = frozenset({"maps.debug", "progs.debug"})
"""Files in the root of each bpffs (CONFIG_BPF_PRELOAD)."""

_UNMOUNT_DETACH: Final = 2
_STAYS: Final = (errno.ENOTEMPTY, errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)
"""The folder is in use, or not ours to remove."""


def is_bpffs(path: Path) -> bool:
    """Whether the existing `path` lies on a bpffs."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs; f_type comes first
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), buffer):
        return False
    return int.from_bytes(buffer.raw[:4], "little") == _BPF_FS_MAGIC


def _mount(path: Path, source: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(path), b"bpf", 0, b"mode=0700"):
        number = ctypes.get_errno()
        raise BpfError(number, f"mount bpffs on {path}: {os.strerror(number)}")


def prepare(pin_dir: Path) -> None:
    """Makes `pin_dir` a folder on a bpffs, mounting one if there is none.

    Below /sys/fs/bpf that is the system's own, mounted where systemd would; anywhere else a mount
    on `pin_dir` itself, which :func:`clear` takes away again. Nothing is mounted where somebody, as
    a service manager, has made the folder.
    """
    if pin_dir.is_dir() and is_bpffs(pin_dir):
        return
    if _SYSTEM in pin_dir.parents and not is_bpffs(_SYSTEM):
        _mount(_SYSTEM, "bpf")
    try:
        pin_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BpfError(error.errno, f"pin folder {pin_dir}: {error.strerror}") from None
    if not is_bpffs(pin_dir):
        _mount(pin_dir, _SOURCE)


def _mounted_by_us(path: Path) -> bool:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(path.resolve()) and after.split()[:2] == ["bpf", _SOURCE]:
            return True
    return False


def clear(pin_dir: Path, names: Iterable[str]) -> None:
    """Removes the pins called `names`, and when nothing else is there our mount and the folder."""
    if not pin_dir.is_dir():
        return
    for name in names:
        (pin_dir / name).unlink(missing_ok=True)
    if {each.name for each in pin_dir.iterdir()} - _OF_THE_KERNEL:
        return
    if _mounted_by_us(pin_dir):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(pin_dir), _UNMOUNT_DETACH):
            number = ctypes.get_errno()
            raise BpfError(number, f"unmount {pin_dir}: {os.strerror(number)}")
    try:
        pin_dir.rmdir()
    except OSError as error:
        if error.errno not in _STAYS:
            raise BpfError(error.errno, f"remove {pin_dir}: {error.strerror}") from None
