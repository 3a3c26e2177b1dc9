"""The clsact qdisc of a device, which TC programs need; and test runs of programs."""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref, c_int, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from typing import Final

from dvipad.adapters.bpf.libbpf import check, library

_GONE: Final = frozenset({-errno.ENOENT, -errno.ENODEV, -errno.EINVAL})
_INGRESS: Final = 1  # enum bpf_tc_attach_point
_EGRESS: Final = 2
_PACKET_MAX: Final = 1 << 16


class _Hook(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
    )


class _TestRun(ctypes.Structure):
    retval: int
    data_size_out: int
    duration: int
    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


def _hook(ifindex: int, point: int) -> _Hook:
    return _Hook(sz=ctypes.sizeof(_Hook), ifindex=ifindex, attach_point=point)


def create_clsact(ifindex: int) -> bool:
    """Gives the device a clsact qdisc; False when it has one already."""
    hook = _hook(ifindex, _INGRESS)
    result = library().bpf_tc_hook_create(byref(hook))
    if result == -errno.EEXIST:
        return False
    check(result, f"add a clsact qdisc to device {ifindex}")
    return True


def destroy_clsact(ifindex: int) -> None:
    """Removes the device's clsact qdisc, with every filter on it."""
    hook = _hook(ifindex, _INGRESS | _EGRESS)
    result = library().bpf_tc_hook_destroy(byref(hook))
    if result not in _GONE:
        check(result, f"remove the clsact qdisc of device {ifindex}")


def run_syscall(program_fd: int) -> None:
    """Runs a program of type syscall once, without an argument."""
    options = _TestRun(sz=ctypes.sizeof(_TestRun))
    check(library().bpf_prog_test_run_opts(program_fd, byref(options)), "run of a program")


@dataclass(frozen=True, slots=True)
class TestRun:
    """What a program did to a packet: its verdict, the packet and ``struct __sk_buff`` after."""

    __test__ = False  # for pytest: not a test

    verdict: int
    packet: bytes
    context: bytes
    duration_ns: int


_CONTEXT_SIZE: Final = 192  # struct __sk_buff


def test_run(program_fd: int, packet: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
    """Runs a TC program on an Ethernet frame (BPF_PROG_TEST_RUN), as if it came from loopback.

    `context`: the first bytes of ``struct __sk_buff``. `repeat`: how often the program runs, all
    on the one packet; `duration_ns` is the mean.
    """
    output = ctypes.create_string_buffer(_PACKET_MAX)
    context_out = ctypes.create_string_buffer(_CONTEXT_SIZE)
    options = _TestRun(
        sz=ctypes.sizeof(_TestRun),
        data_in=ctypes.cast(ctypes.c_char_p(packet), c_void_p),
        data_out=ctypes.cast(output, c_void_p),
        data_size_in=len(packet),
        data_size_out=_PACKET_MAX,
        ctx_in=ctypes.cast(ctypes.c_char_p(context), c_void_p) if context else None,
        ctx_out=ctypes.cast(context_out, c_void_p),
        ctx_size_in=len(context),
        ctx_size_out=_CONTEXT_SIZE,
        repeat=repeat,
    )
    check(library().bpf_prog_test_run_opts(program_fd, byref(options)), "test run")
    return TestRun(
        options.retval, output.raw[: options.data_size_out], context_out.raw, options.duration
    )


test_run.__test__ = False  # type: ignore[attr-defined]
