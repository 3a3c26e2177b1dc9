"""Kinds of status objects that are built in: which options each takes, and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TIMEOUT_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """`needed`, `known`: options; `figures`: names of what it reads."""

    needed: tuple[str, ...]
    known: tuple[str, ...]
    figures: tuple[str, ...]
    port: bool = False
    """Whether it reads what listens on the object's port, unless an option says otherwise."""


KINDS: Final[Mapping[str, Kind]] = {
    "http": Kind(("url",), ("expect",), ("time_ms", "status")),
    "tcp": Kind((), ("host", "port"), ("time_ms",), port=True),
    "process": Kind((), ("name", "pid_file"), ("cpu_percent", "memory_mb", "threads")),
    "cgroup": Kind(("path",), (), ("cpu_percent", "cpu_wait_percent", "memory_left_percent")),
    "redis": Kind(("url",), (), ("clients", "blocked", "requests_per_s", "time_ms")),
    "postgresql": Kind(("dsn",), (), ("clients", "active", "waiting", "time_ms")),
    "prometheus": Kind(("url", "metric"), ("rate",), ("value",)),
    "hops": Kind(("host",), ("port",), ("hops",)),
    "exec": Kind(("command",), (), ()),
}
"""By name. What `exec` reads is what its program prints."""


def why_no_options(
    kind: str, options: Mapping[str, str], port: int | None
) -> tuple[str, str] | None:
    """What is wrong with the `options` of a status object, and what helps; None: nothing, or it is
    of a kind that is not built in."""
    known = KINDS.get(kind)
    if known is None:
        return None
    takes = f"{kind} takes {', '.join((*known.needed, *known.known))}."
    for name in options:
        if name not in (*known.needed, *known.known):
            return f"{kind} has no option {name}", takes
    for name in known.needed:
        if name not in options:
            return f"option {name} is missing", takes
    if kind == "process" and len(options) != 1:
        return "process needs one of name and pid_file", "Write 'options: {pid_file: /run/x.pid}'."
    if known.port and port is None and "port" not in options:
        return "no port to connect to", "Write 'port: 80', of the instance, or the option port."
    return None
