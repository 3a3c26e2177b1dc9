"""`haproxy.cfg`: frontends, backends and listen sections in TCP mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dvipad.config.model import DistMethod
from dvipad.convert.found import Found, Real, Service, read_endpoint, read_weight
from dvipad.convert.ipvs import OTHER_PORT, WEIGHT
from dvipad.convert.keepalived import CHECKS

SECTIONS: Final = ("global", "defaults", "frontend", "backend", "listen")
_BALANCE: Final = {
    "roundrobin": DistMethod.ROUNDROBIN,
    "static-rr": DistMethod.ROUNDROBIN,
    "leastconn": DistMethod.WEIGHTEDACTIVE,
}
_LAYER_7: Final = "it reads requests: keep HAProxy for it, on each target, behind the DVIPA"
_DIRECT: Final = "packets are forwarded, nothing ends here: timeouts and limits are the targets'"
_NOT_NEEDED: Final = {
    "timeout": _DIRECT, "maxconn": _DIRECT, "retries": _DIRECT, "fullconn": _DIRECT,
    "log": "decisions and counters: dvipactl events, metrics", "option": _DIRECT,
    "stats": "metrics, and the page on port 4781", "description": "a comment",
    "default-server": CHECKS, "tcp-check": CHECKS, "hash-type": _DIRECT,
}  # fmt: skip
_TLS: Final = "TLS ends at the targets: let their servers have the certificates"
_BIND: Final = "only the address and the port are taken"
_CLIENT: Final = "servers see the clients' own addresses: take it from both sides"


@dataclass(slots=True)
class _Section:
    """One section of the file: its kind and name, and its lines with their numbers."""

    kind: str
    name: str
    line: int
    lines: list[tuple[int, list[str]]] = field(default_factory=list)

    def last(self, name: str) -> str | None:
        """The word behind the last `name`."""
        found = [words[1] for _, words in self.lines if words[0] == name and len(words) > 1]
        return found[-1] if found else None


def read(text: str, file: str) -> Found:
    """What a ``haproxy.cfg`` says."""
    found = Found(file)
    sections = list(_sections(found, text))
    default_mode = next((s.last("mode") for s in sections if s.kind == "defaults"), None) or "tcp"
    backends = {s.name: s for s in sections if s.kind in ("backend", "listen")}
    used = set()
    for section in sections:
        if section.kind in ("global", "defaults"):
            found.not_needed(section.line, section.kind, "they are about HAProxy itself")
        if section.kind not in ("frontend", "listen"):
            continue
        mode = section.last("mode") or default_mode
        if mode != "tcp":
            found.left(section.line, f"{section.kind} {section.name}", f"mode {mode}: {_LAYER_7}")
            continue
        name = section.name if section.kind == "listen" else section.last("default_backend")
        backend = backends.get(name or "")
        if backend is None:
            found.left(section.line, f"{section.kind} {section.name}", "it leads to no backend")
            continue
        used.add(backend.name)
        _convert(found, section, backend)
    for section in backends.values():
        if section.name not in used:
            found.left(section.line, f"backend {section.name}", "no frontend leads to it alone")
    return found


def _sections(found: Found, text: str) -> Iterator[_Section]:
    section: _Section | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] in SECTIONS:
            if section is not None:
                yield section
            section = _Section(words[0], " ".join(words[1:2]), number)
        elif section is None:
            found.left(number, line.strip(), "it belongs to no section that is known")
        else:
            section.lines.append((number, words))
    if section is not None:
        yield section


def _convert(found: Found, front: _Section, back: _Section) -> None:
    method, affinity_s = DistMethod.ROUNDROBIN, 0
    parts = [front] if front is back else [front, back]
    servers: list[tuple[int, list[str]]] = []
    binds: list[tuple[int, list[str]]] = []
    for number, words in [line for part in parts for line in part.lines]:
        text = " ".join(words)
        match words[0]:
            case "mode" | "default_backend":
                pass
            case "bind":
                binds.append((number, words))
            case "server":
                servers.append((number, words))
            case "balance":
                method = _BALANCE.get(words[-1], DistMethod.ROUNDROBIN)
                if words[1:2] == ["source"]:
                    affinity_s = 3600
                    found.left(number, text, "TIMEDAFFINITY 3600 is taken: say for how long")
                elif words[-1] not in _BALANCE:
                    found.left(number, text, "ROUNDROBIN is taken")
            case name if name in _NOT_NEEDED:
                found.not_needed(number, text, _NOT_NEEDED[name])
            case _:
                found.left(number, text, _LAYER_7)
    for number, words in binds:
        for place in words[1].split(",") if len(words) > 1 else ():
            there = read_endpoint(place)
            if there is None:
                found.left(number, " ".join(words), "a bind is an address and a port")
                continue
            reals = tuple(_servers(found, servers, there[1]))
            found.services.append(Service(*there, method, reals, affinity_s))
        if len(words) > 2:
            found.left(number, " ".join(words), _TLS if "ssl" in words else _BIND)


def _servers(found: Found, lines: list[tuple[int, list[str]]], port: int) -> Iterator[Real]:
    for number, words in lines:
        text = " ".join(words)
        there = read_endpoint(words[2]) if len(words) > 2 else None
        weight: str = words[words.index("weight") + 1] if "weight" in words[:-1] else "1"
        if there is None or there[0] is None:
            found.left(number, text, "not an address and a port")
        elif there[1] != port:
            found.left(number, text, OTHER_PORT)
        elif "backup" in words:
            found.left(number, text, "make it a target of rank BACKUP: DISTMETHOD HOTSTANDBY")
        elif "disabled" in words:
            found.left(number, text, "dvipactl vary sysplex quiesce target on that target")
        elif read_weight(weight) is None:
            found.left(number, text, WEIGHT)
        else:
            if {"send-proxy", "send-proxy-v2"} & set(words):
                found.left(number, text, _CLIENT)
            yield Real(there[0], read_weight(weight))
