"""What a wanted state of a node means: which orders are missing, and what is still to wait for.

Pure: from the daemon's reports, as JSON, to requests and sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

WHOLE_TARGET = 0
"""In place of a port, as in the daemon's orders."""

DRAINING = ("drained", "paused", "left")
"""States that are reached when DVIPAs are given up and connections are over."""
STATES = (*DRAINING, "resumed", "unpaused", "joined")
PORT_STATES = ("drained", "resumed", "paused", "unpaused")
DVIPA_STATES = ("drained", "resumed")

_SETS = {"drained": "quiesced", "resumed": "quiesced", "paused": "paused", "unpaused": "paused"}
_VERBS = {"drained": "quiesce", "resumed": "resume", "paused": "pause", "unpaused": "unpause"}
_NAMED = ("VIPADEFINE", "VIPABACKUP")
_GIVEN_UP = ("BACKUP", "TARGET")


class WrongWish(Exception):
    """What is wanted makes no sense; the text says why."""


@dataclass(frozen=True)
class Wish:
    """`state` of the node. `ports`: of these only; none: of the whole target. `dvipas`: those that
    are given up or taken back; None: what fits the state, see `resolve`."""

    state: str
    ports: tuple[int, ...] = ()
    dvipas: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Seen:
    """The daemon's reports: its view, the orders in force, the connections that end there, and
    who would take each DVIPA that it owns, None if nobody."""

    view: dict[str, Any]
    orders: dict[str, Any]
    ending: list[dict[str, Any]]
    backups: dict[str, str | None]

    def connections(self, ports: tuple[int, ...] = ()) -> int:
        """Connections that end on the node, to `ports` only if there are any."""
        return sum(row["connections"] for row in self.ending if not ports or row["port"] in ports)


def resolve(wish: Wish, seen: Seen) -> Wish:
    """`wish` with its DVIPAs named, and every parameter known to fit; raises `WrongWish`.

    Without ports a node that is drained gives up all that its profile names, and one that is
    resumed is again all that it was.
    """
    if wish.ports and wish.state not in PORT_STATES:
        raise WrongWish(f"ports: a node is {wish.state} as a whole")
    if any(not 1 <= port <= 65_535 for port in wish.ports):
        raise WrongWish("ports: a port is a number from 1 to 65535")
    if wish.dvipas and wish.state not in DVIPA_STATES:
        raise WrongWish(f"dvipas: only {' and '.join(DVIPA_STATES)} take them")
    named = wish.dvipas
    if named is None:
        named = () if wish.ports else _all_dvipas(wish.state, seen)
    try:
        dvipas = tuple(str(ip_address(text)) for text in named)
    except ValueError as error:
        raise WrongWish(f"dvipas: {error}") from error
    here = {row["dvipa"] for row in seen.view["dvipas"] if row["state"] != "TARGET"}
    unknown = [text for text in dvipas if text not in here]
    if unknown:
        raise WrongWish(f"dvipas: {', '.join(unknown)}: neither defined nor backed up here")
    whole = WHOLE_TARGET in seen.orders[_SETS[wish.state]] if wish.ports else False
    if whole and wish.state in ("resumed", "unpaused"):
        raise WrongWish(f"ports: the whole target is {_SETS[wish.state]}; leave `ports` out")
    return Wish(wish.state, wish.ports, dvipas)


def _all_dvipas(state: str, seen: Seen) -> tuple[str, ...]:
    if state == "drained":
        rows = seen.view["dvipas"]
        return tuple(row["dvipa"] for row in rows if row["origin"] in _NAMED)
    if state == "resumed":
        return tuple(sorted(seen.orders["deactivated"]))
    return ()


def lost(wish: Wish, seen: Seen) -> list[str]:
    """DVIPAs that no node would have any more if `wish`, which is resolved, came true now."""
    if wish.state not in ("drained", "left"):
        return []
    rows = seen.view["dvipas"]
    given = wish.dvipas if wish.state == "drained" else [row["dvipa"] for row in rows]
    return [dvipa for dvipa in given or () if seen.backups.get(dvipa, "") is None]


def requests(wish: Wish, seen: Seen) -> list[dict[str, Any]]:
    """The orders that are missing, for the daemon's ``vary``; `wish` is resolved."""
    if wish.state in ("left", "joined"):
        wanted = wish.state == "left"
        verb = "leavegroup" if wanted else "joingroup"
        return [] if seen.orders["outside"] == wanted else [{"verb": verb}]
    now = set(seen.orders[_SETS[wish.state]])
    verb = _VERBS[wish.state]
    if wish.state in DRAINING:
        missing = [] if WHOLE_TARGET in now else [p for p in _ports(wish) if p not in now]
    elif wish.ports:
        missing = [port for port in wish.ports if port in now]
    else:
        missing = [WHOLE_TARGET] if now else []
    orders = [{"verb": verb, **({"port": port} if port else {})} for port in missing]
    return orders + _moves(wish, seen)


def _ports(wish: Wish) -> tuple[int, ...]:
    return wish.ports or (WHOLE_TARGET,)


def _moves(wish: Wish, seen: Seen) -> list[dict[str, Any]]:
    away = wish.state == "drained"
    verb = "deactivate" if away else "reactivate"
    deactivated = set(seen.orders["deactivated"])
    dvipas = wish.dvipas or ()
    return [{"verb": verb, "dvipa": d} for d in dvipas if (d in deactivated) != away]


def words(request: dict[str, Any]) -> str:
    """`request` as the operator would type it."""
    dvipa, port = request.get("dvipa"), request.get("port")
    verb = f"dvipactl vary sysplex {request['verb']}"
    if request["verb"] in ("leavegroup", "joingroup"):
        return verb
    return f"{verb} {dvipa or (f'port={port}' if port else 'target')}"


def after(orders: dict[str, Any], missing: list[dict[str, Any]]) -> dict[str, Any]:
    """`orders` once the `missing` ones are given: what check mode foretells."""
    result = {
        "deactivated": set(orders["deactivated"]),
        "quiesced": set(orders["quiesced"]),
        "paused": set(orders["paused"]),
    }
    outside = orders["outside"]
    for request in missing:
        verb, port = request["verb"], request.get("port", WHOLE_TARGET)
        if verb in ("leavegroup", "joingroup"):
            outside = verb == "leavegroup"
        elif verb == "deactivate":
            result["deactivated"].add(request["dvipa"])
        elif verb == "reactivate":
            result["deactivated"].discard(request["dvipa"])
        elif verb in ("quiesce", "pause"):
            result["quiesced" if verb == "quiesce" else "paused"].add(port)
        else:
            ports = result["quiesced" if verb == "resume" else "paused"]
            ports -= {port} if port else set(ports)
    return {**orders, **{name: sorted(some) for name, some in result.items()}, "outside": outside}


def listed(orders: dict[str, Any]) -> str:
    """`orders`, one a line, for ``--diff``."""
    lines = [f"deactivated {dvipa}" for dvipa in sorted(orders["deactivated"])]
    for word in ("quiesced", "paused"):
        lines += [f"{word} {f'port {p}' if p else 'target'}" for p in sorted(orders[word])]
    if orders["outside"]:
        lines.append("left the group")
    return "".join(f"{line}\n" for line in lines)


def hindrances(wish: Wish, seen: Seen) -> list[str]:
    """What is still to wait for until the node is as wished; `wish` is resolved."""
    if wish.state in DRAINING:
        return _undrained(wish, seen)
    return unready(seen)


def _undrained(wish: Wish, seen: Seen) -> list[str]:
    found = []
    for row in seen.view["dvipas"]:
        concerned = wish.state == "left" or row["dvipa"] in (wish.dvipas or ())
        if concerned and row["state"] not in _GIVEN_UP:
            found.append(f"{row['dvipa']} is {row['status']} here")
    for row in seen.ending:
        if row["connections"] and (not wish.ports or row["port"] in wish.ports):
            count = row["connections"]
            noun = "connection" if count == 1 else "connections"
            found.append(f"{count} {noun} of {row['dvipa']} port {row['port']} left")
    return found


def unready(seen: Seen) -> list[str]:
    """Why the node is not yet what its profile says; nothing: it is a healthy member, and has taken
    back what is its own."""
    found = [] if seen.view["joined"] else ["the node has not joined the cluster yet"]
    found += [f"trouble: {trouble}" for trouble in seen.view["troubles"]]
    if seen.orders["outside"]:
        return [*found, "the node left the group (`state: joined` brings it back)"]
    for row in seen.view["dvipas"]:
        own = row["origin"] == "VIPADEFINE" and row["moveable"] == "IMMEDIATE"
        barred = row["dvipa"] in seen.orders["deactivated"]
        if own and not barred and row["state"] != "ACTIVE":
            found.append(f"{row['dvipa']} is {row['status']} here, and not yet taken back")
    return found
