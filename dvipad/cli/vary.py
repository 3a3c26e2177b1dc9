"""`dvipactl vary`: the operator's orders, in the words of VARY TCPIP of z/OS."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from dvipad.cli.ask import Refused, ask
from dvipad.cli.progress import Progress
from dvipad.wire.messages import MAX_WEIGHT

WAIT_S: Final = 3600.0
POLL_S: Final = 0.2
_DVIPA_VERBS: Final = {
    "deactivate": "give the DVIPA to its best backup, and do not take it back",
    "reactivate": "be again what the profile says for the DVIPA",
}
_TARGET_VERBS: Final = {
    "quiesce": "no new connections to this node (or one port of it); those that exist go on",
    "resume": "undo quiesce",
    "pause": "quiesce that also outlives a restart of the host",
    "unpause": "undo pause",
}
_ANNOUNCE: Final = "the weight of this node for DISTMETHOD TARGCONTROLLED"
_GROUP_VERBS: Final = {
    "leavegroup": "give all DVIPAs up, and take no new connections; the configuration stays",
    "joingroup": "undo leavegroup",
}


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``vary`` to the commands; `finish` adds what all commands have."""
    vary = commands.add_parser("vary", help="orders: move DVIPAs, drain targets, change profiles")
    kinds = vary.add_subparsers(dest="kind", required=True, metavar="KIND")
    sysplex = kinds.add_parser("sysplex", help="this node's part in the cluster")
    verbs = sysplex.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (_DVIPA_VERBS | _TARGET_VERBS | _GROUP_VERBS).items():
        parser = verbs.add_parser(verb, help=text, description=text)
        if verb in _DVIPA_VERBS:
            parser.add_argument("dvipa", type=ip_address)
        if verb in _TARGET_VERBS:
            parser.add_argument(
                "what", type=_what, help="`target`, or `port=NUMBER`", metavar="target|port=N"
            )
        if verb in ("deactivate", "quiesce", "pause", "leavegroup"):
            parser.add_argument("--wait", action="store_true", help="return when it is drained")
            parser.add_argument("--timeout", type=float, default=WAIT_S, help="of --wait, seconds")
        parser.set_defaults(run=_order)
        finish(parser)
    announce = verbs.add_parser("announce", help=_ANNOUNCE, description=_ANNOUNCE)
    announce.add_argument("weight", type=_weight, help="0 to 64, or `none`: as in the node file")
    announce.set_defaults(run=_announce)
    finish(announce)
    for kind, text in (
        (
            "obeyfile",
            "follow the profile in FILE from now on, or the policies or status file in FILE.yaml; "
            "what does not change goes on",
        ),
        ("syntaxcheck", "say what obeyfile would say, and change nothing"),
    ):
        parser = kinds.add_parser(kind, help=text, description=text)
        parser.add_argument("file", type=Path)
        parser.set_defaults(run=_obeyfile)
        finish(parser)


def _what(text: str) -> int:
    """A port, or 0 for the whole target."""
    if text == "target":
        return 0
    name, _, number = text.partition("=")
    if name != "port" or not number.isdecimal() or not 1 <= int(number) <= 65_535:
        raise argparse.ArgumentTypeError("say `target`, or `port=` and a number from 1 to 65535")
    return int(number)


def _weight(text: str) -> int | None:
    """A weight, or none."""
    if text == "none":
        return None
    if not text.isdecimal() or int(text) > MAX_WEIGHT:
        raise argparse.ArgumentTypeError(f"say a number from 0 to {MAX_WEIGHT}, or `none`")
    return int(text)


def _announce(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    orders = ask(arguments.socket, {"command": "announce", "weight": arguments.weight})["orders"]
    return orders, [_described(orders)]


def _order(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    request: dict[str, Any] = {"command": "vary", "verb": arguments.verb}
    dvipa = getattr(arguments, "dvipa", None)
    if dvipa is not None:
        request["dvipa"] = str(dvipa)
    if getattr(arguments, "what", 0):
        request["port"] = arguments.what
    orders = ask(arguments.socket, request)["orders"]
    if getattr(arguments, "wait", False):
        _wait(arguments, dvipa)
    return orders, [_described(orders)]


def _wait(arguments: argparse.Namespace, dvipa: object) -> None:
    """Until no DVIPA (or not that one) is owned here, and no connection of one ends here."""
    deadline = time.monotonic() + arguments.timeout
    with Progress() as progress:
        while left := _left(arguments, dvipa):
            if time.monotonic() > deadline:
                raise Refused(f"ordered, but not drained within {arguments.timeout:g} s: {left}")
            progress.say(f"waiting: {left}")
            time.sleep(POLL_S)


def _left(arguments: argparse.Namespace, dvipa: object) -> str:
    """What is still waited for; empty when all is done."""
    if arguments.verb in ("deactivate", "leavegroup"):
        rows = ask(arguments.socket, {"command": "view"})["view"]["dvipas"]
        concerned = [row for row in rows if dvipa is None or row["dvipa"] == str(dvipa)]
        kept = [row["dvipa"] for row in concerned if row["state"] not in ("BACKUP", "TARGET")]
        if arguments.verb == "deactivate" or kept:
            return f"{', '.join(kept)} not given up yet" if kept else ""
    answer = ask(arguments.socket, {"command": "drained"})
    if answer["drained"]:
        return ""
    return f"{answer['connections']} connections are left"


def _described(orders: dict[str, Any]) -> str:
    parts = [f"deactivated {dvipa}" for dvipa in orders["deactivated"]]
    for word in ("quiesced", "paused"):
        parts += [f"{word} {f'port {port}' if port else 'target'}" for port in orders[word]]
    parts += [f"activated {dvipa}" for dvipa, _number in orders.get("activated", ())]
    if orders.get("weight") is not None:
        parts.append(f"announced weight {orders['weight']}")
    if orders["outside"]:
        parts.append("left the group")
    return "orders: " + (", ".join(parts) or "none")


def _obeyfile(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    path = str(arguments.file.resolve())
    dry = arguments.kind == "syntaxcheck"
    answer = ask(arguments.socket, {"command": "obeyfile", "path": path, "dry": dry})
    problems = [str(problem) for problem in answer["problems"]]
    if not answer["accepted"]:
        raise Refused("\n".join([*problems, "nothing was changed"]))
    return answer, [*problems, "no errors" if dry else f"{arguments.file.name} is in force"]
