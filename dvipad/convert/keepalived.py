"""`keepalived.conf`: virtual addresses by VRRP, and services by IPVS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dvipad.config.model import DistMethod
from dvipad.convert.found import (
    Floating,
    Found,
    Real,
    Service,
    read_address,
    read_port,
    read_weight,
)
from dvipad.convert.ipvs import METHODS, NAT, OTHER_PORT, SCHEDULER, UDP, WEIGHT

RANK_MAX: Final = 254
CHECKS: Final = "a target says by itself which of its servers listen"
_TIMERS: Final = "a death is found after timers.dead_ms, 300 by default"
_CARE: Final = "self-care looks after uplinks and routes: health in the node file"
_NOT_NEEDED: Final = {
    "virtual_router_id": "nodes know each other by their names",
    "advert_int": _TIMERS,
    "garp_master_delay": "announcements are repeated",
    "track_interface": _CARE,
    "delay_loop": CHECKS,
    "TCP_CHECK": CHECKS,
    "connect_timeout": CHECKS,
    "lvs_sync_daemon": "a new owner learns the connections from the targets",
    "lvs_sched_persist": CHECKS,
    "vrrp_sync_group": "each address moves by itself, with its connections",
}
_LEFT: Final = {
    "nopreempt": "say MOVEABLE WHENIDLE on the primary, or deactivate it there",
    "authentication": "the mesh has none: keep strangers from its port",
    "track_script": "no scripts: stop the daemon, or dvipactl vary sysplex leavegroup",
    "vrrp_script": "no scripts: stop the daemon, or dvipactl vary sysplex leavegroup",
    "notify": "follow dvipactl events --follow --json, or an alert",
    "HTTP_GET": "a target counts while its server listens; whether a page is right nobody asks",
    "SSL_GET": "a target counts while its server listens; whether a page is right nobody asks",
    "MISC_CHECK": "a target counts while its server listens; no scripts",
    "sorry_server": "make it a target of rank BACKUP: DISTMETHOD HOTSTANDBY",
}
_TOKEN: Final = re.compile(r'"[^"\n]*"?|[{}\n]|[#!][^\n]*|[^\s{}"]+')


@dataclass(slots=True)
class Statement:
    """A line, and the block behind it."""

    words: list[str]
    line: int
    block: list[Statement] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The line again."""
        return " ".join(self.words)

    def first(self, name: str) -> list[str]:
        """The words behind `name` in the block; empty when it is not there."""
        return next((each.words[1:] for each in self.block if each.words[0] == name), [])


def parse(text: str) -> list[Statement]:
    """The statements of a file; braces that do not fit are taken as they come."""
    top: list[Statement] = []
    open_blocks = [top]
    words: list[str] = []
    last: Statement | None = None
    line = 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "{}\n" and words:
            last = Statement(words, line)
            open_blocks[-1].append(last)
            words = []
        if token == "{":
            open_blocks.append(last.block if last is not None else [])
        elif token == "}" and len(open_blocks) > 1:
            open_blocks.pop()
        elif token == "\n":
            line += 1
        elif token not in "{}" and token[0] not in "#!":
            words.append(token.strip('"'))
    if words:
        open_blocks[-1].append(Statement(words, line))
    return top


def read(text: str, file: str) -> Found:
    """What a ``keepalived.conf`` says."""
    found = Found(file)
    for statement in parse(text):
        match statement.words[0]:
            case "global_defs":
                found.name = next(iter(statement.first("router_id")), None)
            case "vrrp_instance":
                _instance(found, statement)
            case "virtual_server":
                _virtual_server(found, statement)
            case _:
                _note(found, statement)
    return found


def _note(found: Found, statement: Statement) -> None:
    """A statement that is not converted, and those in its block that matter."""
    name = statement.words[0]
    if name in _NOT_NEEDED:
        found.not_needed(statement.line, statement.text, _NOT_NEEDED[name])
        return
    known = next((key for key in _LEFT if name == key or name.startswith(f"{key}_")), None)
    reason = _LEFT[known] if known else "dvipad has no counterpart"
    found.left(statement.line, statement.text, reason)


def _instance(found: Found, instance: Statement) -> None:
    primary = instance.first("state")[:1] == ["MASTER"]
    rank = None if primary else _rank(found, instance)
    for each in instance.block:
        match each.words[0]:
            case "state" | "priority":
                pass
            case "interface":
                found.interfaces += each.words[1:2]
            case "unicast_src_ip":
                found.xcf = read_address(each.words[-1])
            case "unicast_peer":
                found.peers += [
                    peer for row in each.block if (peer := read_address(row.words[0])) is not None
                ]
            case "virtual_ipaddress" | "virtual_ipaddress_excluded":
                _addresses(found, each, rank)
            case _:
                _note(found, each)


def _rank(found: Found, instance: Statement) -> int:
    words = instance.first("priority") or ["100"]
    rank = int(words[0]) if words[0].isdecimal() else 0
    if 1 <= rank <= RANK_MAX:
        return rank
    found.left(instance.line, f"priority {words[0]}", f"a rank is 1 to {RANK_MAX}; 100 is taken")
    return 100


def _addresses(found: Found, block: Statement, rank: int | None) -> None:
    for row in block.block:
        base, _, length = row.words[0].partition("/")
        address = read_address(base)
        longest = 32 if address is None or address.version == 4 else 128
        given = length or str(longest)
        if address is None or not given.isdecimal() or not 1 <= int(given[:4]) <= longest:
            found.left(row.line, row.text, "not an address with the length of its prefix")
            continue
        found.floating.append(Floating(address, int(given), rank))
        rest = [word for word in row.words[1:] if word != "dev" and word not in found.interfaces]
        if rest:
            found.left(row.line, row.text, "only the address and its prefix are taken")


def _virtual_server(found: Found, server: Statement) -> None:
    words = server.words[1:]
    address = read_address(words[0]) if words else None
    port = read_port(words[1]) if len(words) > 1 else None
    if address is None or port is None:
        found.left(server.line, server.text, "a service is an address and a port")
        return
    if server.first("protocol")[:1] == ["UDP"]:
        found.left(server.line, server.text, UDP)
        return
    method, affinity_s = DistMethod.ROUNDROBIN, 0
    servers: list[Real] = []
    for each in server.block:
        value = each.words[1] if len(each.words) > 1 else ""
        match each.words[0]:
            case "protocol":
                pass
            case "lvs_sched" | "lb_algo":
                method = METHODS.get(value, DistMethod.ROUNDROBIN)
                if value not in METHODS:
                    found.left(each.line, each.text, SCHEDULER)
            case "lvs_method" | "lb_kind":
                if value == "NAT":
                    found.not_needed(each.line, each.text, NAT)
            case "persistence_timeout":
                affinity_s = int(value) if value.isdecimal() and len(value) <= 5 else 360
            case "real_server":
                servers += _real_server(found, each, port)
            case _:
                _note(found, each)
    found.services.append(Service(address, port, method, tuple(servers), affinity_s))


def _real_server(found: Found, server: Statement, port: int) -> Iterator[Real]:
    words = server.words[1:]
    address = read_address(words[0]) if words else None
    weights = server.first("weight") or ["1"]
    weight = read_weight(weights[0])
    for each in server.block:
        if each.words[0] != "weight":
            _note(found, each)
    if address is None:
        found.left(server.line, server.text, "not an address")
    elif len(words) > 1 and read_port(words[1]) != port:
        found.left(server.line, server.text, OTHER_PORT)
    elif weight is None:
        found.left(server.line, server.text, WEIGHT)
    else:
        yield Real(address, weight)
