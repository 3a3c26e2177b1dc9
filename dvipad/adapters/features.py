"""What this kernel and host have, and what of dvipad needs what is missing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netfilterqueue import NetfilterQueue

from dvipad.adapters.bpf.atomic import fetch_add
from dvipad.adapters.bpf.libbpf import BpfError, library
from dvipad.adapters.commands import ELSEWHERE, Run, capabilities, run_command
from dvipad.adapters.guard import probe_guard
from dvipad.adapters.inet_diag import InetDiag
from dvipad.adapters.rules import Backend, probe
from dvipad.adapters.xtables import Xtables

TRACEPOINT_BTF: Final = "btf_trace_inet_sock_set_state"
_BTF_KIND_TYPEDEF: Final = 8
_PROGRAM_TC: Final = 3
_MAP_LRU_HASH: Final = 9
_CAPABILITIES: Final = {
    12: "CAP_NET_ADMIN",
    13: "CAP_NET_RAW",
    38: "CAP_PERFMON",
    39: "CAP_BPF",
}


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is not there. `needed_by`: what of dvipad needs it. `fatal`: no node can
    run without; otherwise `instead` happens. `remedy`: how to get it."""

    what: str
    needed_by: str
    remedy: str
    fatal: bool
    instead: str = ""

    def text(self) -> str:
        """One line for the log."""
        line = f"{self.what} is missing; needed by {self.needed_by}; {self.remedy}"
        return line if self.fatal else f"{line}; until then {self.instead}"


@dataclass(frozen=True, slots=True)
class Features:
    """What was found. `queue`: how the rule for SYNs gets in, None when there is no NFQUEUE
    (or a fatal lack kept from trying). `guard`: the same for the guard's rules. `tracepoint`:
    socket events come from the kernel, otherwise sockets are polled."""

    queue: Backend | None
    guard: Xtables | None
    tracepoint: bool
    missing: tuple[Missing, ...]

    def fatal(self) -> tuple[Missing, ...]:
        """What keeps a node from running."""
        return tuple(each for each in self.missing if each.fatal)


_CAPABLE: Final = Missing(
    "the privilege ({})", "everything that touches the kernel", "run dvipad as root", True
)
_LIBBPF: Final = Missing("libbpf", "the data plane", "install the package libbpf1", True)
_LIBATOMIC: Final = Missing("libatomic", "the data plane", "install the package libatomic1", True)
_BPF: Final = Missing(
    "BPF for TC programs",
    "the data plane",
    "use a kernel with CONFIG_BPF_SYSCALL, 6.1 or newer",
    True,
)
_TRIAL: Final = Missing(
    "the right to make a network namespace",
    "trials of what the kernel has",
    "allow user namespaces (user.max_user_namespaces; a chroot has none) or add CAP_SYS_ADMIN",
    True,
)
_CLSACT: Final = Missing(
    "the clsact qdisc",
    "the data plane, to attach to uplinks",
    "use a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF, and install iproute2",
    True,
)
_BPFFS: Final = Missing(
    "the BPF file system",
    "the data plane, to go on while the daemon is away",
    "use a kernel with CONFIG_BPF_SYSCALL",
    True,
)
_INET_DIAG: Final = Missing(
    "inet_diag",
    "targets, to see listeners and connections",
    "use a kernel with CONFIG_INET_DIAG",
    True,
)
_TRACEPOINT: Final = Missing(
    "BTF for the tracepoint inet_sock_set_state",
    "targets, to see listeners and connections at once",
    "use a kernel with CONFIG_DEBUG_INFO_BTF",
    False,
    "the sockets are listed every 50 ms",
)
_QUEUE: Final = Missing(
    "NFQUEUE",
    "the queue worker, to decide the first packet of a connection",
    "use a kernel with CONFIG_NETFILTER_NETLINK_QUEUE, and nft `queue` or iptables NFQUEUE",
    False,
    "the eBPF program chooses every target by itself",
)
_GUARD: Final = Missing(
    "iptables with the match `bpf`",
    "the guard, to survive that somebody takes our programs off an uplink",
    "install the package iptables, and use a kernel with CONFIG_NETFILTER_XT_MATCH_BPF",
    False,
    "connections are reset when that happens",
)


def detect(run: Run = run_command) -> Features:
    """Tries everything out, on throw-away objects or in a network namespace of its own."""
    missing = [
        *_missing_capabilities(Path("/proc/self/status").read_text()),
        *([] if _works(library) else [_LIBBPF]),
        *([] if _works(fetch_add) else [_LIBATOMIC]),
    ]
    if not missing:
        may_try = run([*ELSEWHERE, "true"], "").code == 0
        checks: tuple[tuple[Missing, Callable[[], bool]], ...] = (
            (_BPF, _has_bpf),
            (_TRIAL if not may_try else _CLSACT, lambda: may_try and _has_clsact(run)),
            (_BPFFS, lambda: has_bpffs(Path("/proc/filesystems").read_text())),
            (_INET_DIAG, _has_inet_diag),
            (_TRACEPOINT, _has_tracepoint),
        )
        missing += [each for each, present in checks if not present()]
    if any(each.fatal for each in missing):
        return Features(None, None, _TRACEPOINT not in missing, tuple(missing))
    backend = probe(run) if _has_nfnetlink_queue() else None
    if backend is None:
        missing.append(_QUEUE)
    guard = probe_guard(run)
    if guard is None:
        missing.append(_GUARD)
    return Features(backend, guard, _TRACEPOINT not in missing, tuple(missing))


def _missing_capabilities(status: str) -> list[Missing]:
    """What the process lacks, by its ``/proc/self/status``."""
    effective = capabilities(status)
    lacks = [name for bit, name in sorted(_CAPABILITIES.items()) if not effective >> bit & 1]
    if not lacks:
        return []
    what = _CAPABLE.what.format(", ".join(lacks))
    return [Missing(what, _CAPABLE.needed_by, _CAPABLE.remedy, _CAPABLE.fatal)]


def has_bpffs(filesystems: str) -> bool:
    """Whether ``/proc/filesystems`` lists the BPF file system."""
    return any(line.split()[-1:] == ["bpf"] for line in filesystems.splitlines())


def _works(opening: Callable[[], object]) -> bool:
    try:
        opening()
    except BpfError:
        return False
    return True


def _has_bpf() -> bool:
    lib = library()
    programs = lib.libbpf_probe_bpf_prog_type(_PROGRAM_TC, None)
    maps = lib.libbpf_probe_bpf_map_type(_MAP_LRU_HASH, None)
    return bool(programs == 1 and maps == 1)


def _has_clsact(run: Run) -> bool:
    return run([*ELSEWHERE, "tc", "qdisc", "add", "dev", "lo", "clsact"], "").code == 0


def _has_inet_diag() -> bool:
    try:
        diag = InetDiag()
    except OSError:
        return False
    try:
        diag.listeners()
    except OSError:
        return False
    finally:
        diag.close()
    return True


def _has_tracepoint() -> bool:
    lib = library()
    lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
    lib.btf__free.argtypes = (ctypes.c_void_p,)
    lib.btf__find_by_name_kind.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
    types = lib.btf__load_vmlinux_btf()
    if not types:
        return False
    try:
        name = TRACEPOINT_BTF.encode()
        return bool(lib.btf__find_by_name_kind(types, name, _BTF_KIND_TYPEDEF) > 0)
    finally:
        lib.btf__free(types)


def _has_nfnetlink_queue() -> bool:
    try:
        NetfilterQueue()
    except OSError:
        return False
    return True
