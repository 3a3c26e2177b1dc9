"""`dvipactl`: the operator's command, in the words of z/OS."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from dvipad import __version__
from dvipad.cli import bundle, events, policy, reports, status, top, vary, vipa
from dvipad.cli.ask import Refused, ask

DEFAULT_SOCKET: Final = Path("/run/dvipad/control.sock")
SOCKET_VARIABLE: Final = "DVIPAD_SOCKET"
INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as of shells."""

_EPILOG = """\
examples:
  dvipactl netstat vipadyn              DVIPAs of this node: who owns them, what they are here
  dvipactl netstat vdpt                 which targets serve which port, and how often
  dvipactl netstat vcrt --dvipa 192.0.2.100 --max 20
  dvipactl netstat vipadcfg --json      the configuration, for scripts
  dvipactl sysplex                      nodes: alive, release, mesh version, troubles
  dvipactl counters                     decisions and drops by reason
  dvipactl events --follow              what happened, and what happens
  dvipactl top                          all of it at a glance, live
  dvipactl support-bundle               everything for a bug report, in one file
  dvipactl vary sysplex deactivate 192.0.2.100 --wait    before work on this host
  dvipactl vary sysplex quiesce target --wait            the same for its servers
  dvipactl vary obeyfile /etc/dvipad/profile.new         another profile, without a restart
  dvipactl vipa activate 192.0.2.200                     an address of a VIPARANGE, here, now
  dvipactl policy test --client 203.0.113.7 --dvipa 192.0.2.100 --port 80    step by step
  dvipactl status                        status objects, figures, preferred servers
  dvipactl why 203.0.113.7:40312 192.0.2.100:80          why it went to its target

exit status: 0 done, 1 the daemon does not answer or refuses, 2 wrong usage, 130 interrupted;
             of `vipa`: see dvipactl vipa activate --help
"""


_STATUS: Final = "exit status: 0 done, 1 the daemon does not answer or refuses, 2 wrong usage"
_NETSTAT: Final = """\
The reports of NETSTAT of z/OS. vipadcfg: the profile that is in force. vipadyn: DVIPAs of this
node, status, owner, epoch, and what was decided last. vdpt: targets of each port; only the
distributor has them. vcrt: connections and where they go."""
_SYSPLEX: Final = """\
Nodes of the cluster, as this one sees them: whether there is a session (up), the release that
each runs, the version of the mesh protocol that is spoken with it, and its troubles. A peer that
speaks version 1 does not tell its release and troubles. Refused: who cannot take part, and why."""
_COUNTERS: Final = """\
Counters since the eBPF programs were loaded (plane, ranges) or the daemon was started (the others).
plane: decisions and drops of the kernel; queue: the queue worker; mesh: sessions and heartbeats;
care: troubles; runner: effects that wait or failed."""


def _netstat(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    path, report = arguments.socket, arguments.report
    if report == "vipadcfg":
        profile = ask(path, {"command": "config"})["profile"]
        return profile, reports.vipadcfg(profile)
    if report == "vcrt":
        request = {"command": "crt", "limit": arguments.max}
        if arguments.dvipa is not None:
            request["dvipa"] = str(arguments.dvipa)
        answer = ask(path, request)
        return {"total": answer["total"], "rows": answer["rows"]}, reports.vcrt(answer)
    view = ask(path, {"command": "view"})["view"]
    key = "dvipas" if report == "vipadyn" else "targets"
    if arguments.dvipa is not None:
        view[key] = [row for row in view[key] if row["dvipa"] == str(arguments.dvipa)]
    if report == "vipadyn":
        _add_last_decisions(path, view[key])
    text = reports.vipadyn(view) if report == "vipadyn" else reports.vdpt(view)
    return view[key], text


def _add_last_decisions(path: Path, rows: list[dict[str, Any]]) -> None:
    """Why each DVIPA is what it is here, as far back as the daemon's events go."""
    events = ask(path, {"command": "events", "after": 0})["events"]
    last = {event["dvipa"]: event for event in events if event["kind"] == "decision"}
    for row in rows:
        event = last.get(row["dvipa"])
        kept = ("wall_ms", "trigger", "action")
        row["last_decision"] = event and {field: event[field] for field in kept}


def _sysplex(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    view = ask(arguments.socket, {"command": "view"})["view"]
    shown = {key: view[key] for key in ("name", "joined", "members", "refused")}
    return shown, reports.sysplex(view)


def _counters(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    answer = ask(arguments.socket, {"command": "counters"})
    answer.pop("ok")
    lines = [
        f"{group}.{name} {value}"
        for group, values in answer.items()
        for name, value in sorted(values.items())
    ]
    return answer, lines


def parser_of() -> vipa.Parser:
    """The command line: also the source of man page and completion."""
    parser = vipa.Parser(
        prog="dvipactl",
        description="Shows and steers the dvipad of this host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dvipactl {__version__}")
    parser.add_argument(
        "--socket",
        type=Path,
        default=Path(os.environ.get(SOCKET_VARIABLE, DEFAULT_SOCKET)),
        help=f"control socket (${SOCKET_VARIABLE}, else {DEFAULT_SOCKET})",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    netstat = commands.add_parser(
        "netstat", help="reports: configuration and tables", description=_NETSTAT
    )
    netstat.add_argument(
        "report",
        choices=("vipadcfg", "vipadyn", "vdpt", "vcrt"),
        help="vipadcfg: configuration; vipadyn: DVIPAs now; vdpt: destination port table; "
        "vcrt: connection routing table",
    )
    netstat.add_argument("--dvipa", type=ip_address, help="only this DVIPA")
    netstat.add_argument("--max", type=int, default=100, help="rows of vcrt (100)")
    netstat.set_defaults(run=_netstat)
    sysplex = commands.add_parser(
        "sysplex", help="nodes of the cluster, as this one sees them", description=_SYSPLEX
    )
    sysplex.set_defaults(run=_sysplex)
    counters = commands.add_parser(
        "counters", help="decisions and drops by reason", description=_COUNTERS
    )
    counters.set_defaults(run=_counters)
    _finish(netstat)
    _finish(sysplex)
    _finish(counters)
    vary.add_parser(commands, _finish)
    vipa.add_parser(commands, _finish)
    policy.add_parser(commands, _finish)
    status.add_parser(commands, _finish)
    events.add_parser(commands, _finish)
    top.add_parser(commands, _finish)
    bundle.add_parser(commands, _finish)
    return parser


def _finish(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="JSON, for scripts")
    command.epilog = command.epilog or _STATUS


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = parser_of()
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        parser.wrong = getattr(arguments, "wrong", parser.wrong)
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    value = None
    try:
        report = arguments.run(arguments)
        if report is not None:  # else it was printed as it came
            value, text = report
            lines = json.dumps(value, indent=2) if arguments.json else "\n".join(text)
            print(lines, end="\n" if lines else "")
        sys.stdout.flush()
    except Refused as error:
        print(f"dvipactl: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    status = getattr(arguments, "status", None)
    return 0 if status is None else int(status(value))


if __name__ == "__main__":
    sys.exit(main())
