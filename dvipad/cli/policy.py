"""`dvipactl policy` and `dvipactl why`: which targets serve which requests, and why."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from dvipad.address import Address
from dvipad.cli.ask import ask
from dvipad.config.model import Device
from dvipad.config.policies import DAYS, read_dscp
from dvipad.config.values import read_number

PORT_MAX: Final = 65_535

_POLICY: Final = """\
Policies tie connection requests to a subset of the targets. The first that is for a request governs
it; one that no policy is for goes to any target. They stand in the file that `policies:` of the
node file names; a backup that has none for a DVIPA goes by those of its former distributor."""
_LIST: Final = """\
All policies that this node knows, in their order, with those of their targets that meet the
criterion now, what they chose and what they refused. Only the distributor of a DVIPA uses them."""
_TEST: Final = """\
Says step by step what would become of a connection request now: which policy would govern it, and
which targets may get it. Nothing is sent, nothing is counted. To be asked on the distributor."""
_WHY: Final = """\
Says to which target a connection in the CRT goes, and which policy or whose turn chose it. Of a
connection that was learnt in a takeover, nobody knows here."""


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``policy`` and ``why`` to the commands; `finish` adds what all commands have."""
    policy = commands.add_parser(
        "policy", help="which targets serve which requests", description=_POLICY
    )
    verbs = policy.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = verbs.add_parser("list", help="policies, and what they did", description=_LIST)
    listed.set_defaults(run=_list)
    finish(listed)
    test = verbs.add_parser("test", help="explain a decision step by step", description=_TEST)
    test.add_argument("--client", type=_address, required=True, metavar="ADDRESS")
    test.add_argument("--dvipa", type=_address, required=True, metavar="ADDRESS")
    test.add_argument("--port", type=_port, required=True, help="of the DVIPA")
    test.add_argument("--dscp", type=_dscp, default=0, help="0 to 63, or ef, af41, cs3 … (0)")
    test.add_argument("--interface", default="", help="on which the request arrives")
    test.add_argument(
        "--device",
        choices=[device.value for device in Device],
        default=Device.OTHER.value,
        help="what the client is (other)",
    )
    test.add_argument("--time", type=_minute, metavar="'mon 08:30'", help="local time (now)")
    test.set_defaults(run=_test)
    finish(test)
    why = commands.add_parser("why", help="why a connection goes to its target", description=_WHY)
    why.add_argument("client", type=_endpoint, metavar="CLIENT:PORT", help="[v6]:port for IPv6")
    why.add_argument("dvipa", type=_endpoint, metavar="DVIPA:PORT")
    why.set_defaults(run=_why)
    finish(why)


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from error


def _port(text: str) -> int:
    port = read_number(text, 1, PORT_MAX)
    if port is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return port


def _dscp(text: str) -> int:
    value = read_dscp(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no DSCP: say 0 to 63, or ef, af41, cs3 …")
    return value


def _minute(text: str) -> int:
    """The minute of the week of ``mon 08:30``."""
    day, _, clock = text.strip().lower().partition(" ")
    hour, _, minute = clock.strip().partition(":")
    at = (read_number(hour, 0, 23), read_number(minute, 0, 59))
    if day not in DAYS or at[0] is None or at[1] is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: say 'mon 08:30'")
    return (DAYS.index(day) * 24 + at[0]) * 60 + at[1]


def _endpoint(text: str) -> tuple[Address, int]:
    """``192.0.2.7:1024`` or ``[2001:db8::7]:1024``."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(f"{text!r} has no port: 192.0.2.7:1024, [2001:db8::7]:80")
    return _address(host[1:-1] if bracketed else host), _port(port)


def _list(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    answer = ask(arguments.socket, {"command": "policies"})
    value = {key: answer[key] for key in ("policies", "services")}
    lines: list[str] = []
    for policy in value["policies"]:
        uses = [row for row in value["services"] if row["policy"] == policy["name"]]
        lines += _policy_lines(policy, uses)
    return value, [*lines, f"{len(value['policies'])} policies"]


def _policy_lines(policy: Mapping[str, Any], uses: Iterable[Mapping[str, Any]]) -> list[str]:
    whose = "" if policy["from"] == "own" else f", came with {policy['from']}"
    closed = "" if policy["open"] else ", not at this time"
    lines = [
        f"Policy: {policy['name']}  Use: {policy['use']}  Else: {policy['otherwise']}"
        f"{whose}{closed}",
        f"  Match:   {_match(policy) or 'every request'}",
        f"  Targets: {_subset(policy)}",
    ]
    for use in uses:
        counts = "  ".join(f"{name}: {count}" for name, count in use["chosen"].items())
        gets = ", ".join(use["ring"]) or "nobody: refused"
        lines += [
            f"  {use['dvipa']}..{use['port']}  Meeting: {use['targets']}  Now to: {gets}",
            f"    TotalConn: {counts or '0'}  Refused: {use['refused']}",
        ]
    return lines


def _match(policy: Mapping[str, Any]) -> str:
    match = policy["match"]
    parts = [("dvipa", match["dvipas"]), ("port", [_span(span) for span in match["ports"]])]
    subnets = [f"{prefix['network']}/{prefix['length']}" for prefix in match["clients"]]
    parts += [("clients", subnets), ("dscp", match["dscps"])]
    parts += [("interface", match["interfaces"]), ("device", match["devices"])]
    parts += [("time", [policy["times"]] if policy["times"] else [])]
    return "  ".join(f"{key}: {', '.join(map(str, values))}" for key, values in parts if values)


def _span(span: Mapping[str, int]) -> str:
    first, last = span["first"], span["last"]
    return str(first) if first == last else f"{first}-{last}"


def _subset(policy: Mapping[str, Any]) -> str:
    subset = policy["subset"]
    parts = [
        ", ".join(subset["nodes"]),
        ", ".join(f"{label['key']}: {label['value']}" for label in subset["labels"]),
        ", ".join(f"{c['figure']} {c['comparison']} {c['value']}" for c in subset["conditions"]),
    ]
    if policy["threshold"] is not None:
        parts.append(f"threshold: {policy['threshold']}")
    return "  ".join(part for part in parts if part)


def _test(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    request: dict[str, Any] = {
        "command": "policy",
        "client": str(arguments.client),
        "dvipa": str(arguments.dvipa),
        "port": arguments.port,
        "dscp": arguments.dscp,
        "interface": arguments.interface,
        "device": arguments.device,
    }
    if arguments.time is not None:
        request["minute"] = arguments.time
    found = ask(arguments.socket, request)["explanation"]
    lines = []
    for step in found["steps"]:
        lines.append(f"policy {step['policy']}: {'it is' if step['matches'] else 'no'}")
        for check in step["checks"]:
            fits = "yes" if check["fits"] else "no "
            lines.append(f"  {fits} {check['key']}: {check['given']}, wanted {check['wanted']}")
    lines.append(f"{found['policy'] or 'no policy'}: {found['reason']}")
    lines.append(f"to: {', '.join(found['targets']) or 'nobody'}")
    return found, lines


def _why(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    (client, client_port), (dvipa, port) = arguments.client, arguments.dvipa
    request = {
        "command": "why",
        "client": str(client),
        "client_port": client_port,
        "dvipa": str(dvipa),
        "port": port,
    }
    answer = ask(arguments.socket, request)
    value = {key: answer[key] for key in ("connection", "target", "by", "policy", "reason")}
    return value, [f"to {value['target'] or 'a target that is gone'}: {value['reason']}"]
