"""`dvipactl vipa`: addresses of a VIPARANGE by command, as by MODDVIPA of z/OS (D10)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, NoReturn

from dvipad.cli.ask import ask

WRONG: Final = 2
"""Exit status of a wrong usage, of most commands."""
BAD_PARAMETERS: Final = 12
"""The same of `dvipactl vipa`."""
_RESULTS: Final = {"activate": "is active here", "delete": "is deleted here"}
_VERBS: Final = {
    "activate": (
        "activate ADDRESS on this node, as a bind() of an application would",
        """\
ADDRESS must lie in a VIPARANGE of this node's profile. If another node has it, it moves here:
connections that it has live on there, and are relayed by this node, unless the range is
DISRUPTIVE. It stays active until `dvipactl vipa delete`, or until another node's command moves it;
a restart of the daemon does not end it, a restart of the host does.""",
        """\
exit status: 0 it is active here now
             4 it was active here already; it can be used as it is
             8 it is not allowed, or lies in no VIPARANGE of this node, or something failed
            12 bad parameters
             1 the daemon does not answer""",
    ),
    "delete": (
        "make ADDRESS inactive on this node",
        """\
Ends what `dvipactl vipa activate` began, and also what a bind() did: then only a new bind()
activates the address again. Connections to it break. An address that VIPADEFINE or VIPABACKUP
names, or that is distributed, is not deleted: change the profile, or `dvipactl vary sysplex
deactivate`.""",
        """\
exit status: 0 it is deleted
             8 it is not deleted
            12 bad parameters
             1 the daemon does not answer""",
    ),
}


class Parser(argparse.ArgumentParser):
    """A parser whose exit status for a wrong usage is `wrong`."""

    wrong: int = WRONG

    def error(self, message: str) -> NoReturn:
        """Usage and `message`, and the end of the process."""
        self.print_usage(sys.stderr)
        self.exit(self.wrong, f"{self.prog}: error: {message}\n")


def add_parser(commands: Any, finish: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds ``vipa`` to the commands of a :class:`Parser`; `finish` adds what all commands have."""
    vipa = commands.add_parser("vipa", help="addresses of a VIPARANGE: activate, delete")
    vipa.wrong = BAD_PARAMETERS
    vipa.set_defaults(wrong=BAD_PARAMETERS)
    verbs = vipa.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, (text, description, epilog) in _VERBS.items():
        parser = verbs.add_parser(
            verb,
            help=text,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.wrong = BAD_PARAMETERS
        parser.add_argument(
            "address", type=_address, metavar="ADDRESS", help="of a VIPARANGE, IPv4 or IPv6"
        )
        parser.set_defaults(run=_run, status=_status)
        finish(parser)


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from error


def _run(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    request = {"command": "vipa", "verb": arguments.verb, "dvipa": arguments.address}
    answer = ask(arguments.socket, request)
    value = {key: answer[key] for key in ("dvipa", "code", "reason")}
    done = value["code"] == 0
    return value, [f"{value['dvipa']} {_RESULTS[arguments.verb]}"] if done else []


def _status(value: Mapping[str, Any]) -> int:
    """The exit status; the reason of one that is not 0 goes to standard error."""
    if value["code"]:
        print(f"dvipactl: {value['dvipa']}: {value['reason']}", file=sys.stderr)
    return int(value["code"])
