"""The XDP program on uplinks, by a pinned link: it goes on while no daemon runs, and never takes
the place of somebody else's program."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from dvipad.adapters.bpf.device import Device, joins_segments
from dvipad.adapters.bpf.libbpf import BpfError, check, library

PROGRAM: Final = "dvipad_xdp"
IDLE: Final = "xdp: it forwards with 'tunnel: ipip' between IPv4 XCF addresses only; say 'xdp: off'"
_BPF_XDP: Final = 37  # enum bpf_attach_type


class XdpMode(Enum):
    """Where the program runs: `native` in the device's driver, `generic` behind it."""

    OFF = "off"
    GENERIC = "generic"
    NATIVE = "native"


_FLAGS: Final = {XdpMode.GENERIC: 1 << 1, XdpMode.NATIVE: 1 << 2}  # XDP_FLAGS_*_MODE
_REMEDY: Final = {
    errno.EOPNOTSUPP: "its driver cannot do that; say 'xdp: generic', or 'xdp: off'",
    errno.EBUSY: "another XDP program is there; take it away, or say 'xdp: off'",
}


class _LinkOptions(ctypes.Structure):
    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("pad", ctypes.c_uint32))


def attach(pin_dir: Path, program_fd: int, devices: Iterable[Device], mode: XdpMode) -> None:
    """Puts the program on the devices, or the newer one in its place; takes it off others.

    Raises :class:`BpfError` for the first device where it cannot be; it is on the others then.
    """
    wanted = {_pin(pin_dir, each, mode): each for each in devices}
    for path in set(pin_dir.glob("xdp_*")) - set(wanted):
        path.unlink()
    failed: BpfError | None = None
    for path, device in wanted.items():
        try:
            if not _replace(path, program_fd):
                _create(path, program_fd, device, mode)
        except BpfError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def detach(pin_dir: Path) -> None:
    """Takes the program off all devices."""
    for path in pin_dir.glob("xdp_*"):
        path.unlink()


def _pin(pin_dir: Path, device: Device, mode: XdpMode) -> Path:
    return pin_dir / f"xdp_{mode.value}_{device.ifindex}"


def _replace(path: Path, program_fd: int) -> bool:
    """Puts the program in place of the one whose link is pinned; False: there is none."""
    link = library().bpf_obj_get(os.fsencode(path))
    if link < 0:
        return False
    try:
        if library().bpf_link_update(link, program_fd, None) == 0:
            return True
    finally:
        os.close(link)
    path.unlink()  # its device is gone
    return False


def _create(path: Path, program_fd: int, device: Device, mode: XdpMode) -> None:
    what = f"xdp: {mode.value} on {device.name}"
    if mode is XdpMode.GENERIC and joins_segments(device.name):
        text = "GRO joins segments before the program sees them; switch it off (ethtool -K"
        raise BpfError(f"{what}: {text} {device.name} gro off), or say 'xdp: off'")
    options = _LinkOptions(sz=ctypes.sizeof(_LinkOptions), flags=_FLAGS[mode])
    link = library().bpf_link_create(program_fd, device.ifindex, _BPF_XDP, ctypes.byref(options))
    if link < 0:
        text = _REMEDY.get(-link, os.strerror(-link))
        raise BpfError(-link, f"{what}: {text}")
    try:
        check(library().bpf_obj_pin(link, os.fsencode(path)), f"pin {path}")
    finally:
        os.close(link)
