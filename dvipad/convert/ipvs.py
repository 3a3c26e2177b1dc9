"""`ipvsadm-save -n`: services and their real servers."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Final

from dvipad.address import Address
from dvipad.config.model import DistMethod
from dvipad.convert.found import Found, Real, Service, read_endpoint, read_weight

METHODS: Final = {
    "rr": DistMethod.ROUNDROBIN,
    "wrr": DistMethod.ROUNDROBIN,
    "lc": DistMethod.WEIGHTEDACTIVE,
    "wlc": DistMethod.WEIGHTEDACTIVE,
}
"""Schedulers that have a counterpart."""
SCHEDULER: Final = f"ROUNDROBIN is taken; schedulers with a counterpart: {', '.join(METHODS)}"
UDP: Final = "only TCP is distributed"
OTHER_PORT: Final = "a target serves the port of the DVIPA itself: let it listen there"
WEIGHT: Final = "a weight is 1 to 99; a server that gets nothing: quiesce the target"
NAT: Final = "targets answer clients directly: the way back by this host goes"
_METHOD: Final = "-s"
_VALUED: Final = ("-t", "-u", "-f", "-r", "-s", "-w", "-p", "-x", "-y", "--pe", "-b", "-o")


def read(text: str, file: str) -> Found:
    """What the output of ``ipvsadm-save -n`` says."""
    found = Found(file)
    services: dict[tuple[Address, int], Service] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line)
        if not words or words[0].startswith("#"):
            continue
        options = _options(words[1:])
        if words[0] not in ("-A", "-a"):
            found.left(number, line, "not a line of ipvsadm-save")
            continue
        place = read_endpoint(options.get("-t", ""))
        if place is None or place[0] is None:
            reason = UDP if "-u" in options else "not an address and a port: ipvsadm-save -n"
            found.left(number, line, reason)
        elif words[0] == "-A":
            services[place[0], place[1]] = _service(found, number, line, place, options)
        elif (place[0], place[1]) not in services:
            found.left(number, line, "a server of a service that is not there")
        else:
            real = _real(found, number, line, place[1], options)
            before = services[place[0], place[1]]
            services[place[0], place[1]] = replace(before, servers=(*before.servers, *real))
    found.services += services.values()
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        found[word] = next(rest, "") if word in _VALUED else ""
    return found


def _service(
    found: Found,
    number: int,
    line: str,
    place: tuple[Address | None, int],
    options: dict[str, str],
) -> Service:
    method = METHODS.get(options.get(_METHOD, "wlc"))
    if method is None:
        found.left(number, line, SCHEDULER)
    seconds = options.get("-p", "0")
    affinity_s = int(seconds) if seconds.isdecimal() and len(seconds) <= 5 else 0
    return Service(*place, method or DistMethod.ROUNDROBIN, (), affinity_s)


def _real(
    found: Found, number: int, line: str, port: int, options: dict[str, str]
) -> tuple[Real, ...]:
    there = read_endpoint(options.get("-r", ""))
    if there is None or there[0] is None:
        found.left(number, line, "not an address and a port: ipvsadm-save -n")
        return ()
    if there[1] != port:
        found.left(number, line, OTHER_PORT)
        return ()
    weight = read_weight(options.get("-w", "1"))
    if weight is None:
        found.left(number, line, WEIGHT)
        return ()
    if "-m" in options:
        found.not_needed(number, line, NAT)
    return (Real(there[0], weight),)
